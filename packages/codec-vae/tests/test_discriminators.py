"""The discriminators that a recipe can name, against the stored outputs of their originals, and their properties."""

from pathlib import Path

import pytest
import torch
from audio_codec_vae import discriminators, loss
from audio_codec_vae.models.weight_norm import fit_weight_norm
from audio_codec_vae.recipe import DACDiscriminator, EncodecDiscriminator, LyraDiscriminator, OobleckDiscriminator
from audio_core.nn.discriminate import DiscriminatorOutput
from audio_core.testing import Case, check_gradients, close, noise
from torch import Tensor, nn

FIXTURES = Path(__file__).parent / "fixtures"
RATE = 44100
LAYERS = {"convs.": "layers.", "conv_post": "last", ".conv.": "."}
SMALL = {
    "encodec": EncodecDiscriminator(width=4, windows=(256, 64)),
    "dac": DACDiscriminator(width=4, periods=(2, 3), windows=(256,), rates=(22050,)),
    "oobleck": OobleckDiscriminator(width=4, scales=2, periods=(2, 3)),
    "lyra": LyraDiscriminator(width=4, periods=(2, 3), scales=(1, 2), window=256, hop=64),
}


def filled(case: Case, settings, channels: int, names: dict[str, str]) -> nn.Module:
    """The discriminator with the weights of a case, whose names change as `names` says."""
    state = case.state()
    for original, ours in names.items():
        state = {name.replace(original, ours): value for name, value in state.items()}
    discriminator = discriminators.build(settings, channels, RATE)
    discriminator.load_state_dict(fit_weight_norm(state, discriminator))
    return discriminator


def means(features: list[Tensor]) -> Tensor:
    return torch.stack([feature.abs().mean() for feature in features])


def both(case: Case, discriminator: nn.Module) -> tuple[DiscriminatorOutput, DiscriminatorOutput]:
    return discriminator(case.inputs["reals"]), discriminator(case.inputs["decoded"])


@torch.no_grad()
def test_the_discriminator_over_stfts_is_stable_audio_tools_s_with_its_losses():
    case = Case.load(FIXTURES / "msstft_discriminator")
    settings = EncodecDiscriminator(width=case.config["filters"], windows=tuple(case.config["n_ffts"]))
    names = {"discriminators.discriminators.": "resolutions."} | LAYERS
    real, fake = both(case, filled(case, settings, 2, names))
    values = {f"logits{at}": logits for at, logits in enumerate(real.logits)}
    for at, features in enumerate(real.features):
        values[f"feature_abs_means{at}"] = means(features)
        values[f"feature_means{at}"] = torch.stack([feature.mean() for feature in features])
    values |= {"feature0_0": real.features[0][0][:, :2], "feature2_4": real.features[2][4]}
    values |= {
        "dis": loss.DISCRIMINATOR["hinge"](real.logits, fake.logits),
        "adv": loss.GENERATOR["hinge"](fake.logits),
    }
    values["fm"] = loss.matched(settings, real, fake)
    values["fm_normalized"] = loss.matched(EncodecDiscriminator(relative_features=True), real, fake)
    lifted = EncodecDiscriminator(width=settings.width, windows=settings.windows, power=-0.5)
    values["logits0_spec_scale_pow_-0.5"] = filled(case, lifted, 2, names)(case.inputs["reals"]).logits[0]
    assert set(values) == set(case.outputs)
    for name, value in values.items():
        close(value, case.outputs[name], case.tolerance(name))


@torch.no_grad()
def test_the_discriminator_over_stfts_is_encodec_s_too():
    case = Case.load(FIXTURES / "msstft_discriminator_encodec")
    windows = tuple(case.config["n_ffts"])
    settings = EncodecDiscriminator(width=case.config["filters"], windows=windows, stride=2, norm_first=False)
    output = filled(case, settings, 1, {"discriminators.": "resolutions."} | LAYERS)(case.inputs["x"])
    for at, (logits, features) in enumerate(zip(*output, strict=True)):
        close(logits, case.outputs[f"logits{at}"], case.tolerance(f"logits{at}"))
        name = f"feature_abs_means{at}"
        close(means(features), case.outputs[name], case.tolerance(name))


@torch.no_grad()
def test_the_discriminators_over_periods_and_bands_are_dac_s_with_their_losses():
    case = Case.load(FIXTURES / "dac_discriminator")
    settings = DACDiscriminator(periods=tuple(case.config["periods"]), windows=tuple(case.config["fft_sizes"]))
    inner = "discriminators.discriminators."
    names = {f"discriminator.discriminators.{at}.": f"{inner}periods.stacks.{at}." for at in (0, 1)}
    names |= {"discriminator.discriminators.2.": f"{inner}bands.stacks.0.", "conv_post": "last"}
    for band in range(5):
        names |= {f"band_convs.{band}.{layer}.0.": f"bands.{band}.layers.{layer}." for layer in range(5)}
    names |= {f"convs.{layer}.0.": f"layers.{layer}." for layer in range(5)}
    discriminator = filled(case, settings, case.config["channels"], names)
    real, fake = both(case, discriminator)
    for at, (logits, features) in enumerate(zip(*real, strict=True)):
        close(logits, case.outputs[f"logits{at}"])
        close(means([*features, logits]), case.outputs[f"feature_abs_means{at}"])
    close(loss.matched(settings, real, fake), case.outputs["fm"])
    for kind, ending in (("least_squares", ""), ("shifted_hinge", "_hinge")):
        close(loss.DISCRIMINATOR[kind](real.logits, fake.logits), case.outputs[f"dis{ending}"])
        close(loss.GENERATOR[kind](fake.logits), case.outputs[f"adv{ending}"])


@torch.no_grad()
def test_the_discriminators_over_scales_and_periods_are_oobleck_s_with_their_losses():
    case = Case.load(FIXTURES / "oobleck_discriminator")
    names = {
        f"multi_discriminator.discriminators.{at}.layers.": f"{ours}." for at, ours in enumerate(("scales", "folds"))
    }
    names |= {"net.8.": "last."} | {f"net.{2 * at}.": f"layers.{at}." for at in range(4)}
    settings = OobleckDiscriminator()
    real, fake = both(case, filled(case, settings, 1, names))
    values = {"score_reals": real.logits[0], "score_fakes": fake.logits[0], "fm": loss.matched(settings, real, fake)}
    values |= {
        "dis": loss.DISCRIMINATOR["hinge"](real.logits, fake.logits),
        "adv": loss.GENERATOR["hinge"](fake.logits),
    }
    for name, value in values.items():
        close(value, case.outputs[name], case.tolerance(name))


@torch.no_grad()
def test_the_discriminators_of_lyra_s_later_revision_are_its_own():
    case = Case.load(FIXTURES / "lyra_discriminators_2026")
    periods, scales = case.config["mpd"]["periods"], case.config["msd"]["n_scales"]
    window, hop = case.config["stft"].values()
    settings = LyraDiscriminator(periods=tuple(periods), scales=tuple(scales), window=window, hop=hop)
    inner = "discriminators."
    names = {"mpd.discriminators.": f"{inner}periods.stacks.", "msd.discriminators.": f"{inner}scales.stacks."}
    names |= {"stft.": f"{inner}magnitudes.stack."} | LAYERS
    output = filled(case, settings, 1, names)(case.inputs["x"])
    stems = ["mpd0", "mpd1", "msd0", "msd1", "stft"]
    for stem, logits, features in zip(stems, *output, strict=True):
        values = {"feature_abs_means": means([*features, logits])}
        if stem == "stft":
            values |= {"logits": logits, "first": features[0][:, :2]}
        else:
            values |= {"last": logits, "score": logits.flatten(1).mean(1)}
        for name, value in values.items():
            close(value, case.outputs[f"{stem}.{name}"], case.tolerance(f"{stem}.{name}"))


# --- properties --------------------------------------------------------------------------------------------


class Score(nn.Module):
    """Logits and features as one tensor (B, N)."""

    def __init__(self, discriminator: nn.Module, channels: int):
        super().__init__()
        self.discriminator, self.channels = discriminator, channels

    def forward(self, audio: Tensor) -> Tensor:
        logits, features = self.discriminator(audio)
        every = [*logits, *(x for each in features for x in each)]
        return torch.cat([x.reshape(len(audio), -1) for x in every], 1)  # DAC's channels are items


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("channels", [1, 2])
def test_each_item_is_seen_alone_and_every_weight_learns(kind, channels):
    torch.manual_seed(0)
    discriminator = Score(discriminators.build(SMALL[kind], channels, RATE), channels)
    audio = torch.stack([noise(seed, 0.1, channels=channels) for seed in (1, 2)])
    with torch.no_grad():
        together = discriminator(audio)
        for item, alone in enumerate(audio.split(1)):
            close(discriminator(alone)[0], together[item], 1e-4)
    check_gradients(discriminator, audio)


def test_weight_norm_of_the_first_layer_changes_no_verdict():
    plain, normed = (
        discriminators.build(EncodecDiscriminator(width=4, windows=(256, 64), norm_first=first), 1, RATE)
        for first in (False, True)
    )
    normed.load_state_dict(fit_weight_norm(plain.state_dict(), normed))
    assert len(normed.state_dict()) > len(plain.state_dict())
    audio = noise(5, 0.1)[None]
    with torch.no_grad():
        close(Score(normed, 1)(audio), Score(plain, 1)(audio))


def test_the_discriminator_over_stfts_has_the_shapes_of_both_its_originals():
    audio = noise(6, 3000 / 16000)[None]
    for stride, bins in ((2, 33), (1, 257)):
        settings = EncodecDiscriminator(width=4, windows=(512,), stride=stride)
        assert discriminators.build(settings, 1, RATE)(audio).logits[0].shape == (1, 1, 20, bins)


def test_spectra_with_a_power_of_minus_one_forget_the_volume():
    audio = noise(7, 0.2)[None]
    first = nn.Parameter(torch.ones(4, 2, 3, 9))

    def peak(x, power):
        settings = EncodecDiscriminator(width=4, windows=(512,), norm_first=False, power=power)
        discriminator = discriminators.build(settings, 1, RATE)
        discriminator.resolutions[0].layers[0].weight, discriminator.resolutions[0].layers[0].bias = first, None
        return discriminator(x).features[0][0].max()

    close(peak(audio, 0.0), peak(10 * audio, 0.0) / 10, 1e-4)
    close(peak(audio, -1.0), peak(10 * audio, -1.0), 1e-3)


@pytest.mark.parametrize("power", [0.0, -0.5])
def test_silence_has_a_verdict_of_its_spectrum_and_a_finite_gradient(power):
    settings, audio = EncodecDiscriminator(width=4, windows=(512,), power=power), torch.zeros(1, 1, 4800)
    Score(discriminators.build(settings, 1, RATE), 1)(audio.requires_grad_()).square().mean().backward()
    assert audio.grad.isfinite().all()


@pytest.mark.parametrize("kind", SMALL)
def test_under_autocast_a_verdict_is_right_to_the_precision_of_bfloat16(kind):
    torch.manual_seed(0)
    discriminator, audio = Score(discriminators.build(SMALL[kind], 1, RATE), 1), noise(8, 0.1)[None]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = discriminator(audio)
    with torch.no_grad():
        close(half.float(), discriminator(audio), 0.03)


def test_samples_that_fit_a_period_are_extended_in_dac_only():
    audio = noise(1, 0.1)[None, :, :1200]
    whole, plain = (discriminators.Periods(1, 4, (2, 3), 0.1, whole) for whole in (True, False))
    plain.load_state_dict(whole.state_dict())
    assert whole(audio).features[0][0].shape[-2] == 201  # a third of 601 pairs
    assert plain(audio).features[0][0].shape[-2] == 200
    for one, other in zip(whole(audio[..., :1199]).logits, plain(audio[..., :1199]).logits, strict=True):
        assert torch.equal(one, other)


def test_dac_s_discriminators_do_not_see_volume_or_offset():
    discriminator, audio = discriminators.build(SMALL["dac"], 1, RATE), noise(1, 0.1)[None]
    with torch.no_grad():
        for one, other in zip(discriminator(audio).logits, discriminator(0.2 * audio + 0.1).logits, strict=True):
            close(one, other, 1e-3)
        assert all(logits.isfinite().all() for logits in discriminator(torch.zeros(1, 1, 1600)).logits)


def test_audio_that_is_too_short_for_a_window_is_refused():
    with pytest.raises(ValueError, match="256 points needs more than 128 samples, got 128"):
        discriminators.build(SMALL["dac"], 1, RATE)(noise(1, 0.008)[None])
