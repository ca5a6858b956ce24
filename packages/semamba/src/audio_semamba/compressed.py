"""The transform of SEMamba: a compressed magnitude, and the phase as an angle."""

from __future__ import annotations

from typing import NamedTuple

import torch
from audio_core.dsp.precision import full_precision
from audio_core.dsp.stft import STFT
from torch import Tensor, nn


class Compressed(NamedTuple):
    """A spectrogram with |X|^power as magnitude."""

    magnitude: Tensor  # (..., F, frames)
    phase: Tensor  # (..., F, frames), radians
    parts: Tensor  # (..., F, frames, 2): real and imaginary part of the compressed spectrum


class CompressedSTFT(nn.Module):
    """The STFT with magnitudes raised to `power`, and phases as angles. (..., T) -> `Compressed`."""

    def __init__(self, n_fft: int, hop: int, window: int | None = None, power: float = 0.3):
        super().__init__()
        self.stft = STFT(n_fft, hop, window)
        self.power = power

    @full_precision
    def forward(self, x: Tensor, eps: float = 0.0) -> Compressed:
        """With `eps` (the original's consistency loss: 1e-10) gradients are finite where the spectrum is 0."""
        spectrum = self.stft(x)
        if eps:
            real, imaginary = spectrum.real, spectrum.imag
            magnitude = (real.square() + imaginary.square() + eps) ** (self.power / 2)
            phase = torch.atan2(imaginary + eps, real + eps)
        else:
            magnitude, phase = spectrum.abs() ** self.power, spectrum.angle()
        return Compressed(magnitude, phase, torch.view_as_real(torch.polar(magnitude, phase)))

    @full_precision
    def inverse(self, magnitude: Tensor, phase: Tensor, length: int | None) -> Tensor:
        """Back to (..., length). With None up to hop - 1 samples of the end are lost, as in the original."""
        return self.stft.inverse(torch.polar(magnitude ** (1 / self.power), phase), length)
