"""Autoencoders with a diffusion model as decoder: what the network sees of a code, and the way back to audio."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from audio_core import codec as codecs
from audio_core.testing import check_bundle, close, refused
from audio_gen.config.backbones import DiTConfig
from audio_gen.config.conditioners import CodecSource
from audio_gen.config.diffusion_autoencoder import CodeDecoderConfig, DiffusionAutoencoderConfig
from audio_gen.config.sampling import VSampling
from audio_gen.config.unets import ADPConfig, DanceDiffusionUNetConfig
from audio_gen.models.diffusion_autoencoder import CodeDecoder, DiffusionAutoencoder
from torch import nn

DAU = DanceDiffusionUNetConfig(depth=3, n_attn_layers=0, channels=(4, 4, 8), strides=(2, 2), cond_dim=3)
ADP = ADPConfig(
    in_channels=2,
    channels=8,
    multipliers=(1, 1),
    factors=(2,),
    num_blocks=(1,),
    attentions=(0,),
    context_channels=(3,),
)
DIT = DiTConfig(io_channels=2, embed_dim=32, depth=1, num_heads=1, input_concat_dim=3, patch_size=4)
BASE = {"rate": 8000, "samples": 32, "hop": 8, "code_channels": 3, "sampling": VSampling(sampler="v-ddim", steps=4)}


def built(backbone=DAU, **settings):
    torch.manual_seed(1)
    return DiffusionAutoencoder(DiffusionAutoencoderConfig(**{**BASE, "backbone": backbone, **settings})).eval()


@pytest.mark.parametrize("backbone", [DAU, ADP, DIT])
@torch.no_grad()
def test_every_network_can_be_the_decoder(backbone):
    model = built(backbone)
    code = torch.randn(2, 3, 4)
    audio = model.decode(code)
    assert audio.shape == (2, 2, 32) and audio.isfinite().all()
    assert model.decode(code, 29).shape == (2, 2, 29)
    assert model.decode(code[..., :1], 5).shape == (2, 2, 5)  # shorter than the network can be


@torch.no_grad()
def test_a_code_is_stretched_by_repetition_as_the_original_does():
    model, code = built(), torch.randn(2, 3, 4)
    assert torch.equal(model.condition(code, 32), F.interpolate(code, 32, mode="nearest"))
    assert torch.equal(model.condition(code, 17), F.interpolate(code, 32, mode="nearest")[..., :17])
    behind = model.condition(code, 44)[..., 32:]  # longer than the code
    assert torch.equal(behind, code[..., -1:].expand(-1, -1, 12))


class Knowing(nn.Module):
    """The v of audio that is the first channels of the condition."""

    def forward(self, x, t, input_concat_cond):
        angle = (t * torch.pi / 2)[:, None, None]
        audio = input_concat_cond[:, :2]
        noise = (x - angle.cos() * audio) / angle.sin()
        return angle.cos() * noise - angle.sin() * audio


@torch.no_grad()
def test_decoding_ends_in_what_the_code_says():
    model, code = built(), torch.randn(2, 3, 4)
    model.backbone = Knowing()
    close(model.decode(code), F.interpolate(code[:, :2], 32, mode="nearest"), 1e-5)


@torch.no_grad()
def test_a_code_passes_the_decoder_once():
    """With a decoder the original's `decode` called itself without end."""
    model = built(replace(DAU, cond_dim=5), decoder=CodeDecoderConfig(channels=5))
    code, passed = torch.randn(1, 3, 4), []
    model.decoder.register_forward_hook(lambda _, inputs, output: passed.append((inputs[0], output)))
    assert model.decode(code).shape == (1, 2, 32)
    assert len(passed) == model.config.sampling.steps  # once for each step of the sampling
    assert all(torch.equal(inputs, code) and output.shape == (1, 5, 4) for inputs, output in passed)


@torch.no_grad()
def test_the_decoder_is_linear_with_one_layer_alone():
    x, y = torch.randn(2, 1, 3, 6)
    for depth, linear in ((1, True), (2, False)):
        decoder = CodeDecoder(3, CodeDecoderConfig(channels=5, depth=depth))
        sums = decoder(x + y) + decoder(torch.zeros_like(x)), decoder(x) + decoder(y)
        assert torch.allclose(*sums, atol=1e-5) is linear


@torch.no_grad()
def test_an_item_is_the_same_alone_and_in_a_batch():
    model, code = built(), torch.randn(3, 3, 4)
    together = model.decode(code, seeds=[5, 6, 7])
    close(model.decode(code[1:2], seeds=[6]), together[1:2], 1e-5)
    assert not torch.equal(model.decode(code[1:2], seeds=[8]), together[1:2])


def test_bundles(tmp_path):
    check_bundle(built(replace(DAU, cond_dim=5), decoder=CodeDecoderConfig(channels=5)), tmp_path / "bundle")


# --- codecs ------------------------------------------------------------------------------------------------------


class Frames:
    """Means of frames of both channels, and of their sum."""

    sample_rate, channels, hop, width = 8000, 2, 8, 3

    def encode(self, audio):
        means = audio.unflatten(2, (-1, 8)).mean(3)
        return torch.cat([means, means.sum(1, keepdim=True)], 1)


@torch.no_grad()
def test_the_codec_makes_the_code(monkeypatch):
    monkeypatch.setattr(codecs, "find", lambda name: lambda path: Frames())
    model = built(codec=CodecSource(name="frames"), scale=2.0)
    audio = torch.randn(2, 2, 32)
    close(model.encode(audio), Frames().encode(audio) / 2)
    assert "codec" not in "".join(model.state_dict())
    other = built(codec=CodecSource(name="frames"), hop=16)
    assert refused(other.encode, audio) == "codec frames default: has a hop of 8, and the model needs 16"
    assert "give codes that were computed before" in refused(built().encode, audio)


# --- settings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"channels": 1}, "backbone has 2 channels, and the audio 1"),
        ({"code_channels": 4}, "backbone takes 3 channels beside its input, and the code has 4"),
        ({"decoder": CodeDecoderConfig()}, "backbone takes 3 channels beside its input, and the code has 128"),
        ({"backbone": replace(ADP, context_features=4)}, "backbone has further conditions"),
        ({"backbone": replace(DIT, cond_token_dim=4)}, "backbone has further conditions"),
        ({"scale": 0}, "scale must be above 0, got 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, text):
    with pytest.raises(ValueError, match=text):
        DiffusionAutoencoderConfig(**{**BASE, "backbone": DAU, **settings})
    with pytest.raises(ValueError, match="kernel_size must be odd"):
        CodeDecoderConfig(kernel_size=4)


def test_lengths_are_those_of_the_network():
    config = DiffusionAutoencoderConfig(**BASE, backbone=DAU)
    assert [config.frames_for(samples) for samples in (1, 12, 13, 32)] == [12, 12, 16, 32]
    assert [replace(config, backbone=DIT).frames_for(samples) for samples in (1, 4, 5)] == [4, 4, 8]
