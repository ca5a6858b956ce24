"""The discriminator of adversarial post-training."""

import pytest
import torch
from audio_core.testing import check_gradients, close
from audio_gen.config.backbones import DiTConfig
from audio_gen.config.discriminators import ArcDiscriminatorConfig, ConvHeadConfig, ConvNeXtHeadConfig
from audio_gen.config.transformer import TransformerConfig
from audio_gen.models.arc import ArcDiscriminator, ConvHead, relativistic_discriminator, relativistic_generator
from audio_gen.models.dit import DiT
from torch import nn

from .originals import loaded

PLAIN = 5e-6
HEADS = {
    "conv": ConvHeadConfig(),
    "convnext": ConvNeXtHeadConfig(channels=8, c_mults=(1, 2), strides=(2, 4), num_blocks=(1, 2)),
    "gated": ConvNeXtHeadConfig(channels=8, c_mults=(2, 1), strides=(4, 2), num_blocks=(2, 0), glu=True, mult=2),
}


@torch.no_grad()
def test_the_convolutional_head_equals_the_original(stored_case):
    case = stored_case("arc_discriminator")
    head = loaded(ConvHead(case.config["channels"]), case)
    real, fake = head(case.inputs["real"]), head(case.inputs["fake"])
    close(real, case.outputs["real_scores"], PLAIN)
    close(fake, case.outputs["fake_scores"], PLAIN)
    close(relativistic_discriminator(real, fake), case.outputs["disc_loss"], PLAIN)
    close(relativistic_generator(real, fake), case.outputs["gen_loss"], PLAIN)


def backbone(**settings):
    options = TransformerConfig(zero_init_branch_outputs=False)
    sizes = {"io_channels": 4, "embed_dim": 64, "depth": 3, "num_heads": 2, "cond_token_dim": 12}
    return DiT(DiTConfig(**sizes | settings, transformer=options)).eval()


@pytest.mark.parametrize("name", HEADS)
def test_scores_depend_on_latents_and_conditions_and_learn(name):
    model = ArcDiscriminator(ArcDiscriminatorConfig(dit_hidden_layer=1, head=HEADS[name]), backbone())
    x, t, text = torch.randn(3, 4, 79), torch.rand(3), torch.randn(3, 5, 12)
    scores = model(x, t, cross_attn_cond=text)
    assert scores.shape == (3, 1, 2 if name == "conv" else 10)  # with the token of the time, 80 positions
    for changed in (model(x.flip(0), t, cross_attn_cond=text), model(x, t, cross_attn_cond=text.flip(0))):
        assert (changed - scores).abs().max() > 1e-6
    whole = nn.Module()
    whole.model, whole.forward = model, lambda x: model(x, t, cross_attn_cond=text)
    check_gradients(whole, x)


@torch.no_grad()
def test_only_the_blocks_that_are_read_are_kept():
    """Of a copy: the model that gives the weights is still whole."""
    base, x, t = backbone(), torch.randn(2, 4, 80), torch.rand(2)
    before = base(x, t)
    model = ArcDiscriminator(ArcDiscriminatorConfig(dit_hidden_layer=1, head=ConvHeadConfig()), base)
    assert len(model.backbone.transformer.layers) == 2
    close(model(x, t), model.head(base.hidden(x, t, 1).mT))
    for parameter in model.parameters():
        parameter.zero_()
    assert torch.equal(base(x, t), before)


def test_losses_pull_the_scores_apart():
    high, low = torch.full((2, 1, 3), 4.0), torch.full((2, 1, 3), -4.0)
    assert relativistic_discriminator(high, low) < 1e-3 < relativistic_discriminator(low, high)
    assert relativistic_generator(low, high) < 1e-3 < relativistic_generator(high, low)
    close(relativistic_generator(high, high), torch.tensor(2.0).log())


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="dit_hidden_layer is 3, and there are 3 blocks"):
        ArcDiscriminator(ArcDiscriminatorConfig(dit_hidden_layer=3), backbone())
    with pytest.raises(ValueError, match="a multiple of 32, got 48"):
        ConvHead(48)
    for name, least in (("conv", 64), ("convnext", 8)):
        model = ArcDiscriminator(ArcDiscriminatorConfig(dit_hidden_layer=0, head=HEADS[name]), backbone())
        with pytest.raises(ValueError, match=f"needs {least} positions, got {least - 1}"):
            model(torch.randn(1, 4, least - 2), torch.rand(1))  # the time is one more
        assert model(torch.randn(1, 4, least - 1), torch.rand(1)).shape == (1, 1, 1)


@pytest.mark.parametrize(
    ("cls", "settings", "message"),
    [
        (ArcDiscriminatorConfig, {"dit_hidden_layer": -1}, "dit_hidden_layer must be at least 0"),
        (ConvNeXtHeadConfig, {"channels": 0}, "channels must be at least 1"),
        (ConvNeXtHeadConfig, {"kernel_size": 4}, "kernel_size must be odd"),
        (ConvNeXtHeadConfig, {"strides": (2, 2)}, "as many numbers each"),
        (ConvNeXtHeadConfig, {"strides": (2, 4, 8, 0)}, "strides must be at least 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(cls, settings, message):
    with pytest.raises(ValueError, match=message):
        cls(**settings)
