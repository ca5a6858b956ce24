from pathlib import Path

import librosa
import pytest
import torch
from audio_core.dsp.mel import MelSpectrogram, mel_filters
from audio_core.dsp.pqmf import PQMF
from audio_core.dsp.precision import computed_in
from audio_core.dsp.resample import resample
from audio_core.dsp.stft import STFT, istft, magnitude_phase, stft
from audio_core.files import InputError
from audio_core.testing import Case, close, noise, tone

FIXTURES = Path(__file__).parent / "fixtures"


def snr_db(actual, expected):
    return float(10 * torch.log10(expected.square().sum() / (actual - expected).square().sum()))


# Short-time Fourier transforms


@pytest.mark.parametrize("name", ["stft_2048_441", "stft_512_110"])
def test_the_transform_is_bytesep_s(name):
    case = Case.load(FIXTURES / name)
    transform = STFT(case.config["n_fft"], case.config["hop_length"])
    spectrum = transform(case.inputs["x"][0])  # (C, F, frames)
    close(spectrum.real.mT[:, None], case.outputs["real"])
    close(spectrum.imag.mT[:, None], case.outputs["imag"])
    close(transform.inverse(spectrum, case.config["length"]), case.outputs["istft_of_stft"])
    magnitude, cos, sin = (part.mT[None, ..., ::4] for part in magnitude_phase(spectrum.real, spectrum.imag))
    expected = {part: case.outputs[f"{part}_every4bins"] for part in ("mag", "cos", "sin")}
    close(magnitude, expected["mag"])
    # The phase of a bin without energy is rounding noise: it counts by its magnitude.
    close(magnitude * cos, expected["mag"] * expected["cos"])
    close(magnitude * sin, expected["mag"] * expected["sin"])


def test_the_inverse_of_a_spectrum_that_no_signal_has_is_bytesep_s():
    case = Case.load(FIXTURES / "stft_512_110")
    spectrum = torch.complex(case.inputs["istft_real"], case.inputs["istft_imag"])[:, 0].mT
    close(STFT(512, 110).inverse(spectrum, case.config["length"]), case.outputs["istft_of_random"])


def test_silence_has_the_magnitude_of_the_clamp_and_no_phase():
    magnitude, cos, sin = magnitude_phase(torch.zeros(3), torch.zeros(3), 1e-10)
    close(magnitude, torch.full((3,), 1e-5))
    assert not cos.any() and not sin.any()


def test_a_shorter_window_is_centred_in_the_frame_as_in_torch():
    wave = noise(seed=2, seconds=0.1, channels=2)
    expected = torch.stft(wave, 512, 128, 400, torch.hann_window(400), return_complex=True)
    close(STFT(512, 128, window=400)(wave), expected)


def test_frames_without_centring_return_to_their_samples():
    wave = noise(seed=3, seconds=0.1)
    frames = stft(wave, 256, 64, center=False)
    assert frames.shape == (1, 129, (1600 - 256) // 64 + 1)
    close(istft(frames, 256, 64, center=False, length=1600)[:, 64:1500], wave[:, 64:1500])


def test_an_inverse_longer_than_its_frames_ends_in_zeros():
    wave = noise(seed=3, seconds=0.1)
    longer = istft(stft(wave, 256, 64), 256, 64, length=3000)
    assert longer.shape == (1, 3000) and not longer[:, 1600 + 256 :].any()
    close(longer[:, :1600], wave)


def test_too_short_an_input_is_told_the_length_it_needs():
    assert STFT(2048, 441)(torch.zeros(1025)).shape == (1025, 3)
    with pytest.raises(ValueError, match="at least 1025 samples, got 1024"):
        STFT(2048, 441)(torch.zeros(1024))
    with pytest.raises(ValueError, match="at least 512 samples, got 300"):
        stft(torch.zeros(300), 512, 128, center=False)


def test_autocast_changes_no_transform():
    x = noise(seed=4, seconds=0.2, channels=2)[None]
    bank, mel = PQMF.bytesep(), MelSpectrogram(16000, 512, 128, 40)
    plain = STFT(512, 128)(x), mel(x), bank.analysis(x), resample(x, 16000, 24000)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = STFT(512, 128)(x), mel(x), bank.analysis(x), resample(x, 16000, 24000)
        assert bank.analysis(x.bfloat16()).dtype == torch.float32
    assert all(torch.equal(a, b) for a, b in zip(plain, mixed, strict=True))


def test_bf16_is_for_processors_that_have_instructions_for_it(monkeypatch):
    cpu = torch.device("cpu")
    for name, able in (("avx512_bf16", True), ("amx_bf16", True), ("bf16", True), ("avx2", False)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda name=name: {name: True})
        assert computed_in("float32", cpu) == torch.float32
        if able:
            assert computed_in("bf16", cpu) == torch.bfloat16
        else:
            with pytest.raises(InputError, match="cpu does not compute bf16 here; leave it at float32"):
                computed_in("bf16", cpu)
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    for device in (cpu, torch.device("mps")):
        with pytest.raises(InputError, match=f"{device.type} does not compute bf16"):
            computed_in("bf16", device)


# Mel bands


@pytest.mark.parametrize("norm", ["slaney", None])
@pytest.mark.parametrize("scale", ["slaney", "htk"])
def test_mel_filters_are_librosa_s_and_torchaudio_s(torchaudio, scale, norm):
    filters = mel_filters(44100, 2048, 80, 30.0, 16000.0, scale, norm)
    expected = librosa.filters.mel(
        sr=44100, n_fft=2048, n_mels=80, fmin=30.0, fmax=16000.0, htk=scale == "htk", norm=norm
    )
    close(filters, torch.from_numpy(expected), 1e-6)
    banks = torchaudio.functional.melscale_fbanks(1025, 30.0, 16000.0, 80, 44100, norm, scale)
    close(filters, banks.T, 1e-4)  # torchaudio computes its corners in float32


@pytest.mark.parametrize("power", [1, 2])
def test_a_mel_spectrogram_is_torchaudio_s(torchaudio, power):
    x = noise(seed=5, seconds=0.5, channels=2) + tone(1000, 0.5, channels=2)
    theirs = torchaudio.transforms.MelSpectrogram(16000, n_fft=512, hop_length=160, n_mels=64, power=power)
    close(MelSpectrogram(16000, 512, 160, 64, scale="htk", norm=None, power=power)(x), theirs(x), 1e-5)


def test_a_mel_spectrogram_has_finite_gradients_in_silence():
    for power in (1, 2):
        x = torch.zeros(1, 1000, requires_grad=True)
        MelSpectrogram(16000, 256, 64, 20, power=power)(x).sum().backward()
        assert not x.grad.any()


def test_mel_bands_outside_the_spectrum_are_refused():
    with pytest.raises(ValueError, match="8000 Hz, got 0 and 9000"):
        mel_filters(16000, 512, 40, high=9000)
    with pytest.raises(ValueError, match="got 3"):
        MelSpectrogram(16000, 512, 128, 40, power=3)


# Filter banks


def test_the_filter_bank_is_bytesep_s():
    case, bank = Case.load(FIXTURES / "pqmf_4x64"), PQMF.bytesep()
    close(bank.analysis_weight, case.outputs["analysis_weight"])
    close(bank.synthesis_weight, case.outputs["synthesis_weight"])
    for name, suffix in (("x", ""), ("x_len1003", "_len1003"), ("impulse_at_100", "_impulse")):
        x = case.inputs[name]
        close(bank.analysis(x), case.outputs[f"subbands{suffix}"])
        close(bank.synthesis(bank.analysis(x)), case.outputs[f"reconstruction{suffix}"])
        assert snr_db(bank.synthesis(bank.analysis(x), x.shape[-1]), x) >= 100  # every sample comes back
    random = bank.synthesis(case.inputs["random_subbands"])
    close(random, case.outputs["synthesis_of_random_subbands"])


@pytest.mark.parametrize(("bands", "length"), [(2, 999), (3, 1000), (4, 1003), (8, 5), (16, 4000)])
def test_a_designed_bank_gives_the_input_back_in_place(bands, length):
    bank, x = PQMF.design(bands), noise(seed=bands, seconds=length / 16000, channels=3)[None]
    frames = bank.analysis(x)
    assert frames.shape[:2] == (1, 3 * bands)
    assert 0 < frames.shape[-1] * bands - (length + bank.taps - bands) <= bands
    assert snr_db(bank.synthesis(frames, length), x) >= 75  # edges included, no delay


@pytest.mark.parametrize("bands", [3, 4, 16])
def test_a_designed_bank_stops_what_is_two_bands_away(bands):
    response = torch.fft.rfft(PQMF.design(bands).analysis_weight[:, 0].double(), 8192).abs()
    place = torch.linspace(0, bands, 4097)
    for band in range(bands):
        far = (place < band - 0.5) | (place > band + 1.5)
        assert 20 * torch.log10(response[band][far].max() / response[band].max()) <= -99
        assert response[band][(place > band + 0.4) & (place < band + 0.6)].sub(1).abs().max() < 0.03


def test_a_tone_lands_in_its_band():
    frames = PQMF.design(4).analysis(tone(5000, 0.5)[None])  # 4000 to 6000 Hz is band 2
    level = frames[0, :, 50:-50].square().mean(-1)
    assert level.argmax() == 2 and level[2] > 1e9 * level[0]


def test_without_tails_a_bank_is_critically_sampled_and_exact_inside():
    bank, x = PQMF.design(4, tails=False), noise(seed=9, seconds=4001 / 16000, channels=2)[None]
    frames = bank.analysis(x)
    assert frames.shape == (1, 8, 1001)
    back = bank.synthesis(frames, 4001)
    assert back.shape == x.shape
    assert snr_db(back[..., 64:-64], x[..., 64:-64]) >= 75


def test_taps_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match="63 taps do not divide into 4 bands"):
        PQMF.design(4, taps=63)


# Resampling


@pytest.mark.parametrize("rates", [(44100, 16000), (16000, 44100), (48000, 16000), (3, 2)])
def test_resampling_is_torchaudio_s(torchaudio, rates):
    x = noise(seed=6, seconds=0.05, rate=44100, channels=2)
    # torchaudio computes its filter in the precision of the signal: only in float64 is it exact to 1e-6.
    expected = torchaudio.functional.resample(x.double(), *rates)
    close(resample(x.double(), *rates), expected, 1e-9)
    close(resample(x, *rates), expected.float(), 1e-6)


@pytest.mark.parametrize("length", [1, 2, 99, 441, 1000])
def test_resampling_gives_the_length_rounded_up(length):
    x = torch.ones(2, 1, length)
    assert resample(x, 44100, 16000).shape == (2, 1, -(-length * 160 // 441))
    assert resample(x, 16000, 44100).shape == (2, 1, -(-length * 441 // 160))
    assert torch.equal(resample(x, 8000, 8000), x)


def test_resampling_is_differentiable():
    x = torch.randn(1, 30, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: resample(x, 3, 2), x)


def test_rates_that_cannot_be_resampled_are_refused():
    x = torch.zeros(1, 100)
    with pytest.raises(ValueError, match="44100:44101 needs too large a filter"):
        resample(x, 44100, 44101)
    with pytest.raises(ValueError, match="positive"):
        resample(x, 0, 16000)
