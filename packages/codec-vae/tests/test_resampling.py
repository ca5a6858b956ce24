"""Resampling in a graph is torchaudio's, differentiable, and the same under autocast."""

import pytest
import torch
from audio_codec_vae.resampling import resample
from audio_core.testing import close, noise


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


def test_autocast_changes_no_resampling():
    x = noise(seed=4, seconds=0.2, channels=2)[None]
    plain = resample(x, 16000, 24000)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(resample(x, 16000, 24000), plain)
