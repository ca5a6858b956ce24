"""The U-Net of audio-diffusion-pytorch computes what the original computes; its conditions, lengths and settings."""

from dataclasses import replace

import pytest
import torch
from audio_core.testing import check_bundle, check_gradients, check_repeats, close, refused
from audio_core.weights import no_values
from audio_gen.config.unets import ADPConfig
from audio_gen.models.adp import ADPUNet, Spectra
from audio_gen.models.adp_blocks import Downsampler
from torch import nn

SMALL = {
    "in_channels": 2,
    "channels": 32,
    "multipliers": (1, 1, 2),
    "factors": (2, 2),
    "num_blocks": (1, 2),
    "attentions": (0, 1, 2),
    "attention_heads": 2,
}
TOKENS = {"context_embedding_features": 6, "context_embedding_max_length": 5}
STABLE_AUDIO_1 = {
    "in_channels": 64,
    "channels": 256,
    "multipliers": (4, 4, 4, 5, 5),
    "factors": (1, 2, 2, 4),
    "num_blocks": (2, 2, 2, 2),
    "attentions": (1, 3, 3, 3, 3),
    "attention_heads": 16,
    "attention_multiplier": 4,
    "resnet_groups": 16,
    "context_embedding_features": 768,
    "context_embedding_max_length": 79,
}


def built(**settings):
    return ADPUNet(ADPConfig(**SMALL | settings)).eval()


@pytest.fixture
def original(stored_case):
    """A case and its model."""
    case = stored_case("adp_unet_cfg")
    settings = case.config["kwargs"].items()
    model = ADPUNet(ADPConfig(**{key: tuple(value) if isinstance(value, list) else value for key, value in settings}))
    model.load_state_dict(case.state())
    return case, model.eval()


def inputs(case):
    names = {"x": "x", "t": "t", "embedding": "cross_attn_cond", "features": "global_cond"}
    return {ours: case.inputs[theirs] for theirs, ours in names.items()}


# --- the original's numbers ------------------------------------------------------------------------------------


@torch.no_grad()
def test_the_network_equals_the_original(original):
    """A group norm of another epsilon would be off by 4.6e-6."""
    case, model = original
    close(model(**inputs(case)), case.outputs["out"], 3e-6)


@torch.no_grad()
def test_a_mask_multiplies_keys_and_values(original):
    case, model = original
    close(model(**inputs(case), cross_attn_mask=case.inputs["embedding_mask"]), case.outputs["out_masked"])


@pytest.mark.parametrize(("phi", "name"), [(0.0, "out_cfg5"), (0.4, "out_cfg5_rescaled")])
@torch.no_grad()
def test_guidance_leads_away_from_the_learned_null_tokens(original, phi, name):
    """Where its result is rescaled, it gets the deviation of the conditioned output over channels."""
    case, model = original
    conditioned = model(**inputs(case))
    null = model(**inputs(case), null_items=torch.ones(2))
    result = null + 5 * (conditioned - null)
    ratio = conditioned.std(1, keepdim=True) / result.std(1, keepdim=True)
    close((1 - phi) * result + phi * ratio * result, case.outputs[name])


# --- published settings ----------------------------------------------------------------------------------------


def test_the_network_of_stable_audio_1_is_built():
    """Its paper tells 907 million parameters."""
    with no_values():
        model = ADPUNet(ADPConfig(**STABLE_AUDIO_1))
    assert model.fixed_embedding.embedding.weight.shape == (79, 768)
    assert [len(level.blocks) for level in model.upsamples] == [3, 3, 3, 3]
    assert [len(level.transformer.blocks) for level in model.downsamples] == [1, 3, 3, 3]
    assert model.downsamples[3].downsample.weight.shape == (1280, 1280, 9)
    assert model.bottleneck.transformer.blocks[0].cross_attention.to_kv.weight.shape == (2560, 768)
    assert model.config.ratio == 16
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6) == 907


@pytest.mark.parametrize(("factor", "margins"), [(1, (1, 1)), (2, (2, 1)), (3, (2, 2)), (4, (3, 2))])
def test_margins_of_downsampling(factor, margins):
    """stable-audio-tools pads so much that the frames fit, and audio-diffusion-pytorch by the factor on both sides."""
    layer = Downsampler(1, 1, factor, 2)
    assert layer.margins == margins
    assert layer(torch.zeros(1, 1, 12 * factor)).shape[-1] == 12


# --- conditions ------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_the_time_can_be_a_token():
    """It follows the tokens, a mask leaves it, and the null tokens are one more."""
    model = built(**TOKENS, use_xattn_time=True)
    assert model.fixed_embedding.embedding.weight.shape == (6, 6)
    x, t, tokens = torch.randn(1, 2, 8), torch.tensor([0.3]), torch.randn(1, 5, 6)
    time = model.to_time_embedding(t)[:, None]
    plain = built(**TOKENS | {"context_embedding_max_length": 6})
    plain.load_state_dict({key: value for key, value in model.state_dict().items() if "to_time_embedding" not in key})
    mask = torch.tensor([[1, 1, 0, 1, 0]]).bool()
    mask_and_time = torch.cat([mask, torch.tensor([[True]])], 1)
    together = torch.cat([tokens, time], 1)
    close(model(x, t, tokens, mask), plain(x, t, together, mask_and_time))
    close(model(x, t, tokens, null_items=torch.ones(1)), plain(x, t, together, null_items=torch.ones(1)))


@torch.no_grad()
def test_marked_items_see_null_tokens():
    model = built(**TOKENS)
    x, t, tokens = torch.randn(3, 2, 8), torch.rand(3), torch.randn(3, 4, 6)
    marked = torch.tensor([False, True, False])
    seen = torch.where(marked[:, None, None], model.null_tokens(tokens), tokens)
    close(model(x, t, tokens, null_items=marked), model(x, t, seen))
    assert not torch.equal(model(x, t, tokens)[1], model(x, t, seen)[1])


@pytest.mark.parametrize("place", [0, 1])
@torch.no_grad()
def test_channels_are_concatenated_at_one_level(place):
    """They are repeated to the length of the level."""
    model = built(context_channels=(0,) * place + (8,))
    x, t, channels = torch.randn(1, 2, 16), torch.tensor([0.3]), torch.randn(1, 8, 4)
    length = 16 >> place
    close(
        model(x, t, None, None, None, channels),
        model(x, t, input_concat_cond=channels.repeat_interleave(length // 4, 2)),
    )
    assert not torch.equal(model(x, t, None, None, None, channels), model(x, t, None, None, None, -channels))


@torch.no_grad()
def test_conditions_that_do_not_fit_are_refused():
    x, t = torch.randn(1, 2, 8), torch.tensor([0.3])
    with_tokens = built(**TOKENS)
    assert "cross_attn_cond: none is given" in refused(with_tokens, x, t)
    assert "more tokens than the 5" in refused(with_tokens, x, t, torch.randn(1, 6, 6))
    assert "has 7 channels" in refused(with_tokens, x, t, torch.randn(1, 5, 7))
    assert "this model takes none" in refused(built(), x, t, torch.randn(1, 5, 6))
    assert "global_cond: none is given" in refused(built(context_features=3), x, t)


# --- spectra ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("use_complex", [False, True])
@torch.no_grad()
def test_spectra_are_torch_s_and_lead_back(use_complex):
    """The original guessed the length from that of the spectra, as the nearest power of two."""
    config = ADPConfig(**SMALL, use_stft=True, stft_num_fft=31, stft_hop_length=8, stft_use_complex=use_complex)
    spectra, audio = Spectra(config), torch.randn(2, 3, 200)
    rows = spectra.encode(audio)
    assert rows.shape == (2, 3 * 32, spectra.frames(200))
    window = torch.hann_window(31)
    expected = torch.stft(audio[1], 31, 8, window=window, normalized=True, return_complex=True)[2]
    close(rows[1, 32:48], expected.real if use_complex else expected.abs())
    close(rows[1, 80:96], expected.imag if use_complex else expected.angle())
    close(spectra.decode(rows, 200), audio)


def test_a_network_on_spectra_keeps_the_length():
    model = built(use_stft=True, stft_num_fft=15, stft_hop_length=8)
    assert model(torch.randn(1, 2, 64), torch.tensor([0.5])).shape == (1, 2, 64)
    assert "9 frames of spectra" in refused(model, torch.randn(1, 2, 65), torch.tensor([0.5]))


# --- the rest --------------------------------------------------------------------------------------------------

VARIANTS = {
    "plain": {},
    "without_time": {"use_context_time": False},
    "nearest": {"use_nearest_upsample": True, "factors": (3, 2), "use_skip_scale": False},
    "patches": {"patch_size": 2, "factors": (1, 3), "attention_heads": None, "attention_features": 8},
    "global": {"context_features": 3, "out_channels": 5},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_keep_the_length_repeat_and_learn(name):
    model = built(**VARIANTS[name])
    ratio = model.config.ratio
    features = torch.randn(1, 3)
    alone = nn.Module()
    alone.model = model
    extra = lambda x: {} if name != "global" else {"global_cond": features.expand(len(x), 3)}  # noqa: E731
    alone.forward = lambda x: model(x, torch.full((len(x),), 0.3), **extra(x))
    x = torch.randn(3, 2, 2 * ratio)
    assert alone.forward(x).shape == (3, model.config.out_channels or 2, 2 * ratio)
    assert f"a multiple of {ratio}" in refused(alone.forward, torch.randn(3, 2, 2 * ratio + 1))
    check_repeats(alone, x)
    check_gradients(alone, x)


@torch.no_grad()
def test_half_precision_keeps_the_time_apart():
    """Sines of the time are computed in float32."""
    model = built(**TOKENS, use_xattn_time=True)
    x, tokens, t = torch.randn(1, 2, 8), torch.randn(1, 5, 6), torch.tensor([0.3])
    whole, half = model(x, t, tokens), model.bfloat16()(x.bfloat16(), t, tokens.bfloat16())
    assert half.dtype == torch.bfloat16
    close(half.float(), whole, 0.1)


def test_weights_begin_halved():
    assert built().bottleneck.pre_block.block1.groupnorm.weight.tolist() == [0.5] * 64


def test_a_bundle_keeps_the_model(tmp_path):
    check_bundle(built(**TOKENS), tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"multipliers": (1, 2)}, "multipliers needs 3 numbers"),
        ({"num_blocks": (1,)}, "num_blocks needs 2 numbers"),
        ({"attentions": (1,)}, "attentions needs 2 or 3 numbers, got 1"),
        ({"attention_heads": None}, "attention_heads or attention_features"),
        ({"attention_heads": 65}, "too many for 32 channels|too many for 64 channels"),
        ({"channels": 24}, "multiples of 32"),
        ({"channels": 31, "resnet_groups": 1, "attentions": (0, 0)}, "channels must be even"),
        ({"resnet_groups": 7}, "resnet_groups must divide"),
        ({"context_channels": (0, 3)}, "resnet_groups must divide"),
        ({"context_channels": (1, 8)}, "one condition at one of 3 levels"),
        ({"kernel_multiplier_downsample": 3}, "must be even"),
        ({"context_embedding_features": 3}, "are given together"),
        ({"use_xattn_time": True}, "needs context_embedding_features"),
        ({"patch_size": 5}, "patch_size must divide 32"),
        ({"context_features": 0}, "context_features must be at least 1"),
        ({"multipliers": (1,), "factors": (), "num_blocks": (), "attentions": (0,)}, "factors must be at least 1"),
        ({"stft_window_length": 2000}, "at most 1023"),
    ],
)
def test_settings_that_cannot_be_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(ADPConfig(**SMALL), **change)
