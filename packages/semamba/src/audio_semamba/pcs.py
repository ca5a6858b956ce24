"""Perceptual contrast stretching (PCS400): speech with the spectral contrast of bands raised by their importance.

It raises PESQ, as a target of training or on the enhanced audio, and costs fidelity of the waveform and loudness
unless the level is kept.
"""

from __future__ import annotations

import numpy as np
from audio_core import audio
from audio_core.audio import Samples

RATE = 16000  # that the gains were made for
_SIZE, _HOP = 400, 100
_WINDOW = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(_SIZE) / (_SIZE - 1))  # symmetric Hamming
# How many bins, of 40 Hz each, have which gain.
_BANDS = (
    *((3, 1.0), (2, 1.070175439), (3, 1.182456140), (2, 1.287719298), (100, 1.4)),
    *((20, 1.322807018), (30, 1.238596491), (30, 1.161403509), (11, 1.077192982)),
)
GAINS = np.repeat([gain for _, gain in _BANDS], [bins for bins, _ in _BANDS])  # (201,)


def stretch(samples: Samples, rate: int, keep_level: bool = True) -> Samples:
    """(..., T) -> (..., T) at the same rate. Without `keep_level` the peak becomes 1, as in the original.

    The gains are those of speech at 16 kHz: other rates are resampled to it and back, and lose what is above 8 kHz.
    """
    x = audio.resample(samples, rate, RATE)
    stretched = audio.resample(_stretched(x), RATE, rate)[..., : samples.shape[-1]]
    if keep_level:
        before, after = (np.sqrt(np.square(y, dtype=np.float64).sum(-1, keepdims=True)) for y in (samples, stretched))
    else:
        before, after = 1.0, np.abs(stretched).max(-1, keepdims=True, initial=0)
    return (stretched * np.divide(before, after, out=np.ones_like(after), where=after > 0)).astype(np.float32)


def _stretched(x: Samples) -> np.ndarray:
    """The loudness of the result has no meaning yet."""
    length = x.shape[-1]
    edge = _SIZE // 2
    padded = np.pad(x.astype(np.float64), [(0, 0)] * (x.ndim - 1) + [(edge, 2 * edge)])
    frames = np.lib.stride_tricks.sliding_window_view(padded, _SIZE, -1)[..., ::_HOP, :]
    spectrum = np.fft.rfft(frames * _WINDOW)  # (..., frames, bins)
    magnitude = np.abs(spectrum)
    raised = np.expm1(np.log1p(magnitude) * GAINS)
    spectrum *= np.divide(raised, magnitude, out=np.ones_like(magnitude), where=magnitude > 0)
    pieces = np.fft.irfft(spectrum, _SIZE) * _WINDOW
    out, weight = np.zeros(padded.shape), np.zeros(padded.shape[-1])
    for at in range(frames.shape[-2]):
        place = slice(at * _HOP, at * _HOP + _SIZE)
        out[..., place] += pieces[..., at, :]
        weight[place] += _WINDOW**2
    return (out / np.maximum(weight, 1e-10))[..., edge : edge + length]
