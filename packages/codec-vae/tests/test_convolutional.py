"""Lyra, Oobleck and DAC compute what the originals computed, whole and in pieces, and know how far they see."""

import re

import pytest
import torch
from audio_codec_vae.config import (
    DACDecoderConfig,
    DACEncoderConfig,
    LyraDecoderConfig,
    LyraEncoderConfig,
    OobleckDecoderConfig,
    OobleckEncoderConfig,
)
from audio_codec_vae.models import blocks, lyra
from audio_codec_vae.models.dac import DACDecoder, DACEncoder
from audio_codec_vae.models.lyra import LyraDecoder, LyraEncoder
from audio_codec_vae.models.oobleck import OobleckDecoder, OobleckEncoder
from audio_codec_vae.models.weight_norm import fit_weight_norm
from audio_core.nn.snake import SnakeBeta
from audio_core.testing import Case, close
from audio_core.weights import no_values
from torch import nn

MODULES = {
    LyraEncoderConfig: LyraEncoder,
    LyraDecoderConfig: LyraDecoder,
    OobleckEncoderConfig: OobleckEncoder,
    OobleckDecoderConfig: OobleckDecoder,
    DACEncoderConfig: DACEncoder,
    DACDecoderConfig: DACDecoder,
}
TYPES = {"oobleck": (OobleckEncoderConfig, OobleckDecoderConfig), "dac": (DACEncoderConfig, DACDecoderConfig)}


SIDES = ((0, "encoder"), (1, "decoder"))


def built(config) -> nn.Module:
    return MODULES[type(config)](config)


def our_name(original: str) -> str:
    """`encoder.encoder.block.1.block.0.alpha` -> `encoder.layers.1.layers.0.alpha`, and Lyra's with one dot more."""
    name = re.sub(r"^(encoder|decoder)_", r"\1.", original).replace("distribution_conv", "encoder.distribution_conv")
    name = re.sub(r"^(encoder|decoder)\.(?:\1\.)?(?:block|model)\.", r"\1.layers.", name)
    return name.replace(".block.", ".layers.").replace(".log_", ".")


def filled(case: Case, prefix: str, module: nn.Module) -> nn.Module:
    """`module` with those weights of the case whose names begin with `prefix`, all of them."""
    state = {our_name(name): value for name, value in case.state().items()}
    own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    module.load_state_dict(fit_weight_norm(own, module))
    return module.eval()


def pair(case: Case, fast: bool) -> tuple[nn.Module, nn.Module]:
    """Encoder and decoder of a case, with its weights; the form for inference in pieces that are short, if `fast`."""
    settings = case.config["model"]
    if "encoder" in settings:  # a model configuration of stable-audio-tools
        configs = [TYPES[settings[side]["type"]][at](**plain(settings[side]["config"])) for at, side in SIDES]
    else:
        shape = plain(settings) | {"group_norm": case.config["revision"].startswith("later")}
        channels = shape.pop("in_channels")
        configs = [LyraEncoderConfig(in_channels=channels, **shape), LyraDecoderConfig(out_channels=channels, **shape)]
    encoder, decoder = (filled(case, f"{side}.", built(configs[at])) for at, side in SIDES)
    if fast:
        hasten(encoder, decoder)
    return encoder, decoder


def plain(settings: dict) -> dict:
    """The settings with tuples for lists."""
    return {name: tupled(value) for name, value in settings.items()}


def tupled(value):
    return tuple(map(tupled, value)) if isinstance(value, list) else value


def hasten(encoder: nn.Module, decoder: nn.Module) -> None:
    for side in (encoder, decoder):
        blocks.for_inference(side)
        assert not any("parametrizations" in name for name in side.state_dict())
        side.piece = 256


# --- the originals' numbers --------------------------------------------------------------------------------


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("name", ["lyra_vae", "lyra_vae_odd_strides", "lyra_vae_2026"])
@torch.no_grad()
def test_lyra_equals_the_original(stored_case, name, fast):
    case = stored_case(name)
    encoder, decoder = pair(case, fast)
    for stem in sorted({key.partition(".")[0] for key in case.outputs}):
        x, z = case.inputs[stem], case.inputs[f"z{stem[1:]}"]
        mean, log_variance = encoder(x).chunk(2, 1)
        close(mean, case.outputs[f"{stem}.mu"], case.tolerance(f"{stem}.mu"))
        close(log_variance.clamp(-10, 10), case.outputs[f"{stem}.logvar"], case.tolerance(f"{stem}.logvar"))
        *lengths, frames = blocks.stage_lengths(x.shape[-1], encoder.strides)
        assert lengths == case.outputs[f"{stem}.stage_lengths"].tolist()
        assert frames == mean.shape[-1] == encoder.frames(x.shape[-1])
        close(decoder(z, x.shape[-1]), case.outputs[f"{stem}.recon"], case.tolerance(f"{stem}.recon"))
    first = encoder.init(case.inputs["x0"])
    close(first[:, 0], case.outputs["x0.after_init_ch0"], case.tolerance("x0.after_init_ch0"))
    for block in encoder.blocks:
        first = block(first)
    close(first, case.outputs["x0.after_encoder_blocks"], case.tolerance("x0.after_encoder_blocks"))


SAT = ["oobleck_vae", "oobleck_elu_tanh", "oobleck_nearest_antialias", "oobleck_odd_stride", "dac_vae"]


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("name", SAT)
@torch.no_grad()
def test_oobleck_and_dac_equal_the_originals(stored_case, name, fast):
    case = stored_case(name)
    encoder, decoder = pair(case, fast)
    for key, expected in case.outputs.items():
        stem, _, what = key.partition(".")
        given = case.inputs[stem]
        if what == "pre_bottleneck":
            close(encoder(given), expected, case.tolerance(key))
        elif what == "decoded":
            close(decoder(given), expected, case.tolerance(key))
        elif what.startswith("enc_layer"):
            within = nn.Sequential(*encoder.layers[: int(what[9]) + 1])(given)[:, : 1 if what[9] == "0" else 2]
            close(within.reshape(expected.shape), expected, case.tolerance(key))
        elif what.startswith("dec_layer"):
            close(decoder.layers[: int(what[9]) + 1](given), expected, case.tolerance(key))


@pytest.mark.parametrize("fast", [False, True])
@torch.no_grad()
def test_the_descript_codec_s_own_layout(stored_case, fast):
    case = stored_case("dac_codec")
    settings = case.config
    encoder = DACEncoder(DACEncoderConfig(d_model=settings["encoder_dim"], strides=tuple(settings["encoder_rates"])))
    width = settings["encoder_dim"] * 2 ** len(settings["encoder_rates"])
    rates = tuple(settings["decoder_rates"])
    decoder = DACDecoder(DACDecoderConfig(latent_dim=width, channels=settings["decoder_dim"], rates=rates))
    encoder, decoder = filled(case, "encoder.", encoder), filled(case, "decoder.", decoder)
    if fast:
        hasten(encoder, decoder)
    padded = nn.functional.pad(case.inputs["x"], (0, -case.inputs["x"].shape[-1] % encoder.ratio))
    close(encoder(padded), case.outputs["encoder"], case.tolerance("encoder"))
    close(decoder(case.outputs["z.quantized"]), case.outputs["z.decoded"], case.tolerance("z.decoded"))


@torch.no_grad()
def test_each_of_lyra_s_blocks_equals_the_original(stored_case):
    case = stored_case("lyra_blocks")
    x6, x10 = case.inputs["x6"], case.inputs["x10"]
    units = dict(zip((1, 3, 9), blocks.units(6, SnakeBeta, False), strict=True))
    modules = {"snake": (SnakeBeta(6), x6), "res": (units[9], x6)}
    for stride, outputs in ((4, 10), (5, 10), (1, 6)):
        modules[f"enc{stride}"] = lyra.encoder_block(6, outputs, stride), x6
    for stride in (4, 5):
        modules[f"dec{stride}"] = lyra.decoder_block(10, 6, stride), x10
    for name, (module, x) in modules.items():
        close(filled(case, f"{name}.", module)(x), case.outputs[name], case.tolerance(name))


# --- lengths -----------------------------------------------------------------------------------------------


@torch.no_grad()
def test_lyra_keeps_the_length_that_its_seed_states():
    narrow = {"base_channels": 1, "latent_dim": 64}
    encoder, decoder = LyraEncoder(LyraEncoderConfig(**narrow)), LyraDecoder(LyraDecoderConfig(**narrow))
    latents = encoder(torch.randn(1, 2, 88200))
    assert latents.shape == (1, 128, 43) and encoder.frames(88200) == 43
    assert decoder(latents[:, :64], 88200).shape == (1, 2, 88200)
    assert decoder(latents[:, :64]).shape == (1, 2, 43 * 2048)


@pytest.mark.parametrize("strides", [(2, 4, 4, 8, 8), (2, 3, 5, 3), (3, 3)])
@torch.no_grad()
def test_lyra_keeps_every_length(strides):
    shape = {"base_channels": 1, "latent_dim": 2, "c_mults": ((1, 1),) * len(strides), "strides": strides}
    encoder, decoder = LyraEncoder(LyraEncoderConfig(**shape)), LyraDecoder(LyraDecoderConfig(**shape))
    least = blocks.shortest(strides)
    for samples in {least, least + 1, *range(least, 3 * least, max(1, least // 7))}:
        latents = encoder(torch.randn(1, 2, samples))
        assert latents.shape[-1] == encoder.frames(samples) >= 1
        assert decoder(latents[:, :2], samples).shape == (1, 2, samples)
    with pytest.raises(ValueError, match=f"audio of {least - 1} samples is too short; {least} make one latent"):
        encoder(torch.randn(1, 2, least - 1))
    with pytest.raises(ValueError, match=f"{least} samples make 1 latents, got 3"):
        decoder(torch.randn(1, 2, 3), least)


@pytest.mark.parametrize("strides", [(2, 4, 4, 8, 8), (2, 3, 5), (3, 2, 5)])
@torch.no_grad()
def test_audio_too_short_for_a_latent_is_refused(strides):
    shape = {"c_mults": (1,) * len(strides), "strides": strides}
    for encoder in (
        OobleckEncoder(OobleckEncoderConfig(channels=2, **shape)),
        DACEncoder(DACEncoderConfig(in_channels=2, d_model=1, strides=strides)),
    ):
        least = blocks.shortest(strides)
        assert encoder(torch.randn(1, 2, least)).shape[-1] == encoder.frames(least) == 1
        with pytest.raises(ValueError, match=f"of {least - 1} samples is too short; {least} make one latent"):
            encoder(torch.randn(1, 2, least - 1))


# --- sizes and settings ---------------------------------------------------------------------------------------

STABLE = {"c_mults": (1, 2, 4, 8, 16), "strides": (2, 4, 4, 8, 8), "use_snake": True}
SIZES = {  # parameters of encoder and decoder
    "lyra": (LyraEncoderConfig(), 77_973_376, LyraDecoderConfig(), 177_884_674),
    "stable_audio_2_0": (
        OobleckEncoderConfig(latent_dim=128, **STABLE),
        77_989_888,
        OobleckDecoderConfig(latent_dim=64, final_tanh=False, **STABLE),
        78_122_626,
    ),
    "stable_audio_1_0": (
        DACEncoderConfig(in_channels=2, strides=(4, 4, 8, 8), latent_dim=128),
        89_574_656,
        DACDecoderConfig(out_channels=2, latent_dim=64, rates=(8, 8, 4, 4)),
        43_856_644,
    ),
    "dac_2048_32": (
        DACEncoderConfig(strides=(4, 8, 8, 8), latent_dim=64),
        90_491_200,
        DACDecoderConfig(latent_dim=32, rates=(8, 8, 8, 4)),
        44_101_730,
    ),
    "dac_44k": (DACEncoderConfig(d_model=64), 22_307_968, DACDecoderConfig(latent_dim=1024), 54_104_162),
}
TOTALS = {  # as published, in millions where no more is known
    "lyra": 255_858_050,
    "stable_audio_2_0": 156_112_514,
    "stable_audio_1_0": 133.4,
    "dac_2048_32": 134.6,
    "dac_44k": 76_651_890 - 239_760,  # without its quantizer
}


@pytest.mark.parametrize("name", SIZES)
def test_the_published_sizes(name):
    encoder, first, decoder, second = SIZES[name]
    with no_values():
        sides = built(encoder), built(decoder)
    counts = [sum(weight.numel() for weight in side.parameters()) for side in sides]
    assert counts == [first, second]
    assert TOTALS[name] in (first + second, round((first + second) / 1e6, 1))


@torch.no_grad()
def test_lyra_s_later_revision_begins_with_weights_of_unit_gain():
    encoder = LyraEncoder(LyraEncoderConfig(group_norm=True, base_channels=32, c_mults=((1, 1),), strides=(4,)))
    wide = encoder.blocks[0].layers[0].layers[1]
    assert wide.weight.std() == pytest.approx((2 / (7 * 32)) ** 0.5, rel=0.05) and not wide.bias.any()


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        (LyraEncoderConfig, {"in_channels": 0}, "in_channels must be at least 1, got 0"),
        (LyraDecoderConfig, {"latent_dim": -1}, "latent_dim must be at least 1, got -1"),
        (LyraDecoderConfig, {"strides": (2, 4, 4, 8, 1)}, "strides must be at least 2"),
        (LyraEncoderConfig, {"strides": (2, 4)}, "c_mults: 5 are given, and 2 strides"),
        (LyraEncoderConfig, {"c_mults": ((1, 0),) * 5}, "c_mults must be at least 1"),
        (LyraEncoderConfig, {"c_mults": ((1, 2),) * 5}, "a block gives 2 times base_channels, and the next takes 1"),
        (LyraDecoderConfig, {"group_norm": True, "base_channels": 33}, "multiples of 32 for group_norm, got 33"),
        (OobleckEncoderConfig, {"c_mults": (1, 2)}, "c_mults: 2 are given, and 4 strides"),
        (OobleckEncoderConfig, {"strides": ()}, "strides must be at least 2, got []"),
        (OobleckDecoderConfig, {"out_channels": 0}, "out_channels must be at least 1"),
        (OobleckDecoderConfig, {"c_mults": (1, 2, 4, 0)}, "c_mults must be at least 1"),
        (DACEncoderConfig, {"latent_dim": 0}, "latent_dim must be at least 1"),
        (DACEncoderConfig, {"strides": (1,)}, "strides must be at least 2"),
        (DACDecoderConfig, {"latent_dim": 4, "channels": 100}, "channels are halved 4 times, got 100"),
        (DACDecoderConfig, {"latent_dim": 4, "rates": (8, 0)}, "rates must be at least 2"),
    ],
)
def test_settings_that_no_network_can_have_are_refused(config, settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        config(**settings)
