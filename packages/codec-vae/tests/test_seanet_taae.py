"""SEANet and TAAE compute what the originals computed; their receptive fields, lengths and settings."""

from dataclasses import replace

import pytest
import torch
from audio_codec_vae.config import SEANetDecoderConfig, SEANetEncoderConfig, TAAEDecoderConfig, TAAEEncoderConfig
from audio_codec_vae.models.seanet import ReflectConv1d, SEANetDecoder, SEANetEncoder
from audio_codec_vae.models.taae import TAAEDecoder, TAAEEncoder
from audio_codec_vae.models.transformer import near_attention, rotate
from audio_codec_vae.models.weight_norm import fit_weight_norm
from audio_core.testing import check_gradients, check_repeats, close

# Where the originals nest a module once more.
NAMES = {".conv.conv.": ".", ".convtr.convtr.": ".", ".ff.ff.0.": ".ff.0.", ".ff.ff.2.": ".ff.1."}
SEANET = {"dimension": 12, "n_filters": 4}
TAAE = {
    "channels": 16,
    "latent_dim": 8,
    "c_mults": (1, 2),
    "strides": (4, 5),
    "transformer_depths": (1, 2),
    "use_dilated_conv": True,
}


def loaded(model, case, prefix):
    """The model with those weights of a case whose names begin with `prefix`."""
    state = {}
    for name, value in case.state().items():
        if name.startswith(prefix):
            name = name.removeprefix(prefix)
            for old, new in NAMES.items():
                name = name.replace(old, new)
            state[name] = value
    model.load_state_dict(fit_weight_norm(state, model))
    return model.eval()


# --- the originals' numbers ------------------------------------------------------------------------------------


@torch.no_grad()
def test_seanet_equals_the_original(stored_case):
    """The encoder downsamples in the listed order, which the original's configuration reversed twice."""
    case = stored_case("seanet_rvq")
    ratios = {side: tuple(case.outputs[f"{side}_ratios"].tolist()) for side in ("enc", "dec")}
    encoder = loaded(SEANetEncoder(SEANetEncoderConfig(**SEANET, ratios=ratios["enc"])), case, "encoder.")
    decoder = loaded(SEANetDecoder(SEANetDecoderConfig(**SEANET, ratios=ratios["dec"])), case, "decoder.")
    for x in ("x0", "x1"):
        close(encoder(case.inputs[x]), case.outputs[f"{x}.pre_bottleneck"], case.tolerance(f"{x}.pre_bottleneck"))
    close(decoder(case.inputs["z0"]), case.outputs["z0.decoded"], case.tolerance("z0.decoded"))


@pytest.mark.parametrize(("window", "suffix"), [(None, ""), ((7, 8), "_windowed")])
@torch.no_grad()
def test_taae_equals_the_original(stored_case, window, suffix):
    """The window counts everywhere; the original ignored it where a library for GPUs was missing."""
    case = stored_case("taae")
    encoder = TAAEEncoder(TAAEEncoderConfig(**TAAE, in_channels=1, use_snake=True, sliding_window=window))
    decoder = TAAEDecoder(TAAEDecoderConfig(**TAAE, out_channels=1, sliding_window=window))
    for model, prefix, x, name in (
        (encoder, "encoder.", "x0", "x0.pre_bottleneck"),
        (decoder, "decoder.", "z0", "z0.decoded"),
    ):
        output = loaded(model, case, prefix)(case.inputs[x])
        close(output, case.outputs[name + suffix], case.tolerance(name + suffix))


# --- lengths and receptive fields ----------------------------------------------------------------------------------

# Settings of both sides, whose strides are those of the encoder.
MODELS = {
    "seanet": {**SEANET, "ratios": (2, 5), "lstm": 0, "n_residual_layers": 2},
    "seanet_lstm": {**SEANET, "ratios": (2, 5)},
    "taae": TAAE | {"use_snake": True},
    "taae_window": TAAE | {"sliding_window": (2, 3)},
    "taae_conformer": TAAE | {"sliding_window": (3, 2), "conformer": True, "use_snake": True},
    "taae_stride_1": TAAE
    | {"c_mults": (1, 1, 2), "strides": (1, 2, 2), "transformer_depths": (1, 0, 1), "sliding_window": (2, 2)},
}
WHOLE = ("seanet_lstm", "taae")  # depend on all of their input


def built(name):
    """Encoder and decoder of one channel."""
    settings = MODELS[name]
    if name.startswith("seanet"):
        mirrored = settings | {"ratios": settings["ratios"][::-1]}
        pair = SEANetEncoder(SEANetEncoderConfig(**settings)), SEANetDecoder(SEANetDecoderConfig(**mirrored))
    else:
        sides = TAAEEncoderConfig(**settings, in_channels=1), TAAEDecoderConfig(**settings, out_channels=1)
        pair = TAAEEncoder(sides[0]), TAAEDecoder(sides[1])
    with torch.no_grad():
        for model in pair:
            for weight, parameter in model.named_parameters():
                if weight.endswith("_scale.scale"):
                    parameter.fill_(0.5)  # TAAE's first factors hide what a transformer depends on
    return tuple(model.eval() for model in pair)


@pytest.mark.parametrize("name", MODELS)
def test_a_latent_depends_on_its_receptive_field(name):
    encoder, _ = built(name)
    field, ratio = encoder.receptive_field, encoder.ratio
    assert (field is None) is (name in WHOLE)
    frames = 2 * (field or 200) // ratio + 40
    x = torch.randn(1, 1, frames * ratio, requires_grad=True)
    at = frames // 2
    encoder(x)[..., at].square().sum().backward()
    touched = x.grad[0, 0].nonzero()[:, 0]
    beyond = max(at * ratio - int(touched.min()), int(touched.max()) - at * ratio - ratio + 1)
    if field is None:
        assert touched.min() == 0
    else:
        assert beyond <= field <= 1.2 * beyond + ratio


@pytest.mark.parametrize("name", MODELS)
def test_audio_depends_on_the_latents_of_its_receptive_field(name):
    _, decoder = built(name)
    field, ratio = decoder.receptive_field, decoder.ratio
    assert (field is None) is (name in WHOLE)
    frames = 2 * (field or 20) + 9
    z = torch.randn(1, 12 if "seanet" in name else 8, frames, requires_grad=True)
    at = frames // 2
    decoder(z)[..., at * ratio : (at + 1) * ratio].square().sum().backward()
    touched = z.grad[0, 0].nonzero()[:, 0]
    beyond = max(at - int(touched.min()), int(touched.max()) - at)
    if field is None:
        assert touched.min() == 0
    else:
        assert beyond <= field <= beyond + 2


@pytest.mark.parametrize("ratios", [(2,), (3, 5), (1, 4)])
@torch.no_grad()
def test_seanet_gives_a_latent_for_each_frame_that_begins(ratios):
    """Inputs shorter than the padding too; the decoder gives whole frames, also of odd ratios."""
    encoder = SEANetEncoder(SEANetEncoderConfig(**SEANET, ratios=ratios)).eval()
    decoder = SEANetDecoder(SEANetDecoderConfig(**SEANET, ratios=ratios)).eval()
    for samples in (1, 2, 7, encoder.ratio, encoder.ratio + 1, 5 * encoder.ratio - 1):
        latents = encoder(torch.randn(2, 1, samples))
        assert latents.shape == (2, 12, -(-samples // encoder.ratio))
        assert decoder(latents).shape == (2, 1, latents.shape[-1] * encoder.ratio)


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(7, 1, 1), (3, 1, 4), (8, 4, 1), (10, 5, 1), (3, 4, 1)])
@torch.no_grad()
def test_convolutions_reflect_both_ends(kernel, stride, dilation):
    conv = ReflectConv1d(1, 1, kernel, stride, dilation)
    for samples in (40, 41, 43):
        x = torch.randn(1, 1, samples)
        whole = torch.cat([x.flip(2)[..., :-1], x, x.flip(2)[..., 1:]], 2)  # mirrored far beyond both ends
        begin = samples - 1 - conv.left
        wanted = torch.nn.functional.conv1d(whole[..., begin:], conv.weight, conv.bias, stride, 0, dilation)
        close(conv(x), wanted[..., : -(-samples // stride)])


def test_building_does_not_change_the_configuration():
    """The original reversed the ratios in its configuration, so every second model had another order."""
    config = SEANetEncoderConfig(**SEANET, ratios=(2, 5))
    strides = [[layer.stride for layer in SEANetEncoder(config).model if hasattr(layer, "stride")] for _ in range(2)]
    assert strides[0] == strides[1] == [(1,), (2,), (5,), (1,)]
    assert config.ratios == (2, 5)


@torch.no_grad()
def test_a_taae_decoder_with_snake_may_change_its_width():
    """The original's failed: its activation had the channels of the level's output."""
    decoder = TAAEDecoder(TAAEDecoderConfig(**TAAE, out_channels=2, use_snake=True))
    assert decoder(torch.randn(1, 8, 10)).shape == (1, 2, 10 * 20 - 4)


# --- attention -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [(7, 8), (0, 0), (0, 3), (40, 2), (2, 90)])
@pytest.mark.parametrize("time", [1, 16, 50, 97])
@torch.no_grad()
def test_attention_in_blocks_equals_a_mask(window, time):
    q, k, v = torch.randn(3, 2, 3, time, 16)
    ahead = torch.arange(time) - torch.arange(time)[:, None]
    mask = (ahead >= -window[0]) & (ahead <= window[1])
    wanted = torch.nn.functional.scaled_dot_product_attention(rotate(q), rotate(k), v, mask)
    close(near_attention(q, k, v, *window), wanted)


@torch.no_grad()
def test_attention_is_as_exact_far_from_the_beginning():
    """So that pieces give the same as the whole, however long it is."""
    q, k, v = 3 * torch.randn(3, 1, 1, 40000, 16)
    whole = near_attention(q, k, v, 7, 8)
    piece = near_attention(q[:, :, -101:], k[:, :, -101:], v[:, :, -101:], 7, 8)
    close(piece[:, :, 7:], whole[:, :, -94:], 2e-6)


def test_attention_within_a_window_has_gradients_at_the_ends():
    """Where the last block is not full, some of its queries have no keys."""
    x = torch.randn(3, 1, 2, 21, 16, requires_grad=True)
    near_attention(*x, 3, 4).square().sum().backward()
    assert x.grad.isfinite().all() and (x.grad.abs().amax(-1) > 0).all()


# --- attention and reflections ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["seanet_lstm", "taae", "taae_conformer"])
def test_models_repeat_and_learn(name):
    encoder, decoder = built(name)
    for model, x in ((encoder, torch.randn(3, 1, 400)), (decoder, torch.randn(3, 12 if "seanet" in name else 8, 20))):
        check_repeats(model, x)
        check_gradients(model, x)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ratios": ()}, "ratios must be at least 1"),
        ({"ratios": (2, 0)}, "ratios must be at least 1"),
        ({"lstm": -1}, "lstm must be at least 0"),
        ({"compress": 8}, "compress leaves no channel"),
    ],
)
def test_seanet_refuses_settings_that_cannot_be(change, message):
    for cls in (SEANetEncoderConfig, SEANetDecoderConfig):
        with pytest.raises(ValueError, match=message):
            replace(cls(**SEANET), **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strides": (4,)}, "as many numbers each, got 2, 1 and 2"),
        ({"channels": 0}, "channels must be at least 1"),
        ({"channels": 130}, "multiples of 128"),
        ({"channels": 6}, "or of 4 below it"),
        ({"sliding_window": (-1, 3)}, "sliding_window must be at least 0"),
        ({"strides": (4, 1)}, "a stride of 1 keeps the width"),
    ],
)
def test_taae_refuses_settings_that_cannot_be(change, message):
    for cls in (TAAEEncoderConfig, TAAEDecoderConfig):
        with pytest.raises(ValueError, match=message):
            cls(**TAAE | change)
