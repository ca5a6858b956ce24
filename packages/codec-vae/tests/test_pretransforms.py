"""Pretransforms: the originals' numbers, round trips, lengths, and how far a result depends on its input."""

import numpy as np
import pytest
import torch
from audio_codec_vae.config import FilterBankConfig, PatchedConfig, WaveletConfig
from audio_codec_vae.models import filters
from audio_codec_vae.models.pretransform import Pretransform, build
from audio_core.files import InputError
from audio_core.testing import close, tone
from scipy import optimize, signal

WAVELETS = ("bior2.2", "bior2.4", "bior2.6", "bior2.8", "bior4.4", "bior6.8")
ALL = {
    "none": None,
    "patched": PatchedConfig(2, 4),
    "oversampled": PatchedConfig(2, 16, 2),
    **{name: WaveletConfig(2, 3, name) for name in WAVELETS},
    "filter_bank": FilterBankConfig(2, 8),
}


# --- the originals' numbers ------------------------------------------------------------------------------------


def test_patches_equal_the_original(stored_case):
    case = stored_case("pretransforms")
    model = build(PatchedConfig(2, 4), 2)
    close(model.encode(case.inputs["x"][..., :1022]), case.outputs["patched"])
    close(model.decode(case.outputs["patched"]), case.outputs["patched_back"])


def test_wavelets_equal_the_original(stored_case):
    case = stored_case("pretransforms")
    model = build(WaveletConfig(2, 2, "bior4.4"), 2)
    close(model.analysis, case.outputs["wavelet_kernel"])
    close(model.encode(case.inputs["x"]), case.outputs["wavelet"])
    close(model.decode(case.outputs["wavelet"]), case.outputs["wavelet_back"])


def test_the_filter_bank_equals_the_original(stored_case):
    """Whose design no current scipy computes, and which stated neither its ratio nor its channels."""
    case = stored_case("pretransforms")
    model = build(FilterBankConfig(2, 16, 100), 2)
    close(model.encode(case.inputs["x"]), case.outputs["pqmf"])
    close(model.decode(case.outputs["pqmf"]), case.outputs["pqmf_back"])
    assert (model.ratio, model.width) == (16, 32)
    taps = filters.bank_filters(16, 100).shape[1]
    prototype = case.outputs["pqmf_prototype"].numpy()
    begin = (taps - len(prototype)) // 2
    phase = np.cos(np.pi / 32 * (np.arange(len(prototype)) - len(prototype) // 2) + np.pi / 4)
    taps = filters.bank_filters(16, 100)[0, begin : begin + len(prototype)]
    assert abs(taps - 2 * prototype * phase).max() < 1e-8


# --- filters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "lows"),
    [  # the first halves of both low filters, to the digits that the literature prints
        ("bior2.2", ([-0.1767767, 0.3535534, 1.0606602], [0.3535534, 0.7071068])),
        ("bior2.4", ([0.0331456, -0.0662913, -0.1767767, 0.4198447, 0.9943689], [0.3535534, 0.7071068])),
        ("bior4.4", ([0.0378285, -0.0238495, -0.1106244, 0.3774029, 0.8526987], [-0.0645389, -0.0406894, 0.4180923])),
        ("bior6.8", ([0.0019088, -0.0019143, -0.0169906, 0.0119346], [0.0144263, 0.0144675, -0.0787220, -0.0403680])),
    ],
)
def test_wavelets_are_the_published_ones(name, lows):
    analysis, _, synthesis, _ = filters.wavelet_filters(name)
    for taps, wanted in zip((analysis, synthesis[synthesis.nonzero()[0][0] :]), lows, strict=True):
        assert taps[: len(wanted)] == pytest.approx(wanted, abs=1e-7)


@pytest.mark.parametrize(("bands", "attenuation"), [(2, 100), (4, 40), (8, 60), (32, 100)])
def test_prototypes_equal_those_of_scipy(bands, attenuation):
    def prototype(cutoff):
        taps, beta = signal.kaiserord(attenuation, cutoff / np.pi)
        taps = 2 * (taps // 2) + 1
        return signal.firwin(taps, cutoff, window=("kaiser", beta), scale=False, fs=2 * np.pi)

    def leakage(cutoff):
        taps = prototype(float(cutoff[0]))
        return abs(np.convolve(taps, taps[::-1])[len(taps) - 1 :: 2 * bands][1:]).max()

    wanted = prototype(float(optimize.fmin(leakage, 1 / bands, disp=0)[0]))
    taps = filters.bank_filters(bands, attenuation)[0]
    begin = (len(taps) - len(wanted)) // 2
    phase = np.cos(np.pi / 2 / bands * (np.arange(len(wanted)) - len(wanted) // 2) + np.pi / 4)
    assert abs(taps[begin : begin + len(wanted)] - 2 * wanted * phase).max() < 1e-12


# --- round trips ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["none", "patched", *WAVELETS])
@pytest.mark.parametrize("samples", [200, 203])
def test_audio_comes_back(name, samples):
    model, x = build(ALL[name], 2), torch.randn(2, 2, samples)
    frames = model.encode(x)
    assert frames.shape == (2, model.width, -(-samples // model.ratio))
    back = model.decode(frames)
    assert back.shape == (2, 2, frames.shape[-1] * model.ratio)
    close(back[..., :samples], x, 2e-6)


def test_audio_of_the_filter_bank_comes_back_but_for_its_ends():
    model, x = build(FilterBankConfig(2, 8), 2), torch.randn(1, 2, 2000)
    error = (model.decode(model.encode(x)) - x).abs().amax((0, 1)) / x.abs().max()
    margin = model.receptive_field[0]
    assert error[margin:-margin].max() < 1e-3 < error[: model.ratio].max()


def test_oversampled_patches_hold_more_samples_for_the_same_time():
    model, x = build(PatchedConfig(2, 64, 2), 2), tone(200.0, 0.1, 16000, 2)[None]
    frames = model.encode(x)
    assert model.ratio == 32 and frames.shape == (1, 128, 50)
    close(model.decode(frames)[..., 40:-40], x[..., 40:-40], 0.01)


def test_filters_are_no_weights():
    assert not any(build(config, 2).state_dict() for config in ALL.values())


# --- dependence on the input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_frames_depend_on_the_receptive_field(name):
    model = build(ALL[name], 2)
    samples, frames = model.receptive_field
    count = 2 * (samples // model.ratio + frames) + 31
    at = count // 2
    x = torch.randn(1, 2, count * model.ratio, requires_grad=True)
    model.encode(x)[..., at].square().sum().backward()
    touched = x.grad.abs().amax((0, 1)).nonzero()[:, 0]
    beyond = max(at * model.ratio - int(touched.min()), int(touched.max()) + 1 - (at + 1) * model.ratio)
    assert beyond <= samples <= 2 * beyond

    y = torch.randn(1, model.width, count, requires_grad=True)
    model.decode(y)[..., at * model.ratio : (at + 1) * model.ratio].square().sum().backward()
    touched = y.grad.abs().amax((0, 1)).nonzero()[:, 0]
    beyond = max(at - int(touched.min()), int(touched.max()) - at)
    assert beyond <= frames <= 2 * beyond + 2


@pytest.mark.parametrize("name", ALL)
def test_audio_shifted_by_a_period_gives_shifted_frames(name):
    """That of the filter bank is two frames."""
    model = build(ALL[name], 2)
    margin = -(-model.receptive_field[0] // model.ratio)
    x = torch.randn(1, 2, (4 * margin + 40) * model.ratio)
    shift = model.period // model.ratio
    whole, later = model.encode(x), model.encode(x[..., model.period :])
    close(later[..., margin : -margin or None], whole[..., margin + shift : whole.shape[-1] - margin], 1e-5)


# --- what is refused -----------------------------------------------------------------------------------------------


def test_audio_that_is_too_short_to_reflect_is_refused():
    model = build(WaveletConfig(1, 3, "bior6.8"), 1)
    with pytest.raises(InputError, match="has 5 frames of 8 samples; the wavelet needs at least 6"):
        model.encode(torch.randn(1, 1, 40))
    with pytest.raises(InputError, match="at least 6"):
        model.decode(torch.randn(1, 8, 5))
    close(model.decode(model.encode(torch.ones(1, 1, 48))), torch.ones(1, 1, 48))


def test_channels_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="takes 2 channels, but the audio has 1"):
        build(PatchedConfig(2, 4), 1)
    with pytest.raises(InputError, match="has 1 channels; the pretransform takes 2"):
        Pretransform(2).encode(torch.zeros(1, 1, 10))


@pytest.mark.parametrize(
    ("cls", "settings", "message"),
    [
        (PatchedConfig, {"patch_size": 0}, "patch_size must be at least 1"),
        (PatchedConfig, {"patch_size": 9, "oversampling": 2}, "multiple of oversampling"),
        (WaveletConfig, {"levels": 0}, "levels must be from 1"),
        (FilterBankConfig, {"num_bands": 12}, "power of two"),
        (FilterBankConfig, {"attenuation": 10}, "attenuation must be from 22"),
    ],
)
def test_settings_that_cannot_be_are_refused(cls, settings, message):
    with pytest.raises(ValueError, match=message):
        cls(channels=2, **settings)
