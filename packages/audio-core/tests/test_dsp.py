from pathlib import Path

import librosa
import pytest
import torch
from audio_core.dsp.mel import MelSpectrogram, mel_filters
from audio_core.dsp.precision import computed_in
from audio_core.dsp.stft import STFT, istft, magnitude_phase, stft
from audio_core.files import InputError
from audio_core.testing import Case, close, noise, tone

FIXTURES = Path(__file__).parent / "fixtures"


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
    mel = MelSpectrogram(16000, 512, 128, 40)
    plain = STFT(512, 128)(x), mel(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = STFT(512, 128)(x), mel(x)
        assert mel(x.bfloat16()).dtype == torch.float32
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
