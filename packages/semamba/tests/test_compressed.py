"""The compressed transform: equality with the original, its inverse, and its gradients."""

import torch
from audio_core.testing import close, noise
from audio_semamba.compressed import CompressedSTFT


def test_the_compressed_transform_is_the_original_s(stored_case):
    case = stored_case("stft_compress")
    wave, expected = case.inputs["wav"], case.outputs
    transform, linear = CompressedSTFT(400, 100, power=0.3), CompressedSTFT(400, 100, power=1.0)
    plain, safe, straight = transform(wave), transform(wave, eps=1e-10), linear(wave)
    close(straight.magnitude, expected["lin_mag"], 1e-6)
    close(torch.polar(*straight[:2]), torch.polar(expected["lin_mag"], expected["lin_pha"]), 1e-6)
    # |X|^0.3 magnifies the rounding of nearly empty bins, which differs between FFT libraries and processors.
    not_empty = expected["lin_mag"] > 1e-2
    for ours, prefix in ((plain, ""), (safe, "eps_")):
        magnitude, parts = expected[prefix + "mag"], expected[prefix + "com"]
        close(ours.magnitude, magnitude, 1e-3)
        close(ours.parts, parts, 1e-3)
        close(ours.magnitude[not_empty], magnitude[not_empty], 1e-5)
        close(ours.parts[not_empty], parts[not_empty], 2e-5)
    assert (safe.magnitude - plain.magnitude).max() > 5e-3  # the two forms can be told apart
    close(transform.inverse(expected["mag"], expected["pha"], None), expected["istft_wav"])


def test_the_compressed_transform_gives_the_whole_input_back():
    wave = noise(seed=1, seconds=4050 / 16000, channels=2)
    transform = CompressedSTFT(400, 100)
    magnitude, phase, _ = transform(wave)
    close(transform.inverse(magnitude, phase, 4050), wave, 1e-5)
    assert transform.inverse(magnitude, phase, None).shape == (2, 4000)


def test_a_compressed_transform_with_eps_has_finite_gradients_in_silence():
    wave = torch.zeros(1, 800, requires_grad=True)
    CompressedSTFT(400, 100)(wave, eps=1e-10).parts.sum().backward()
    assert wave.grad.isfinite().all()
