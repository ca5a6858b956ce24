"""The original's three losses."""

from __future__ import annotations

import torch.nn.functional as F
from audio_core.dsp.precision import full_precision
from audio_core.dsp.stft import magnitude_phase, stft
from torch import Tensor

from .recipe import N_FFT, Loss

HOP, EPS, POWER = 441, 1e-8, 0.3


@full_precision
def loss(kind: Loss, estimate: Tensor, target: Tensor) -> Tensor:
    """The loss of this kind between audio (..., T), a scalar.

    l1_wav                    mean |x - y| of samples
    l1_wav_l1_sp              that, and of magnitudes, which weigh more, since the STFT is not normalised
    l1_wav_l1_compressed_sp   that of samples, and of magnitudes^0.3, alone and times cosine and sine of the phase
    """
    total = F.l1_loss(estimate, target)
    if kind == "l1_wav":
        return total
    (x, x_cos, x_sin), (y, y_cos, y_sin) = _spectra(estimate), _spectra(target)
    if kind == "l1_wav_l1_sp":
        return total + F.l1_loss(x, y)
    x, y = x**POWER, y**POWER
    return total + F.l1_loss(x, y) + F.l1_loss(x * x_cos, y * y_cos) + F.l1_loss(x * x_sin, y * y_sin)


def _spectra(audio: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Magnitude, cosine and sine of the phase, (..., F, frames)."""
    spectrum = stft(audio, N_FFT, HOP)
    return magnitude_phase(spectrum.real, spectrum.imag, EPS)
