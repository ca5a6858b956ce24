"""Mel filter banks and spectrograms, equal to those of librosa and torchaudio under their settings."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from .precision import full_precision
from .stft import STFT

Scale = Literal["slaney", "htk"]
Norm = Literal["slaney"] | None


def hz_to_mel(frequency: np.ndarray, scale: Scale) -> np.ndarray:
    if scale == "htk":
        return 2595 * np.log10(1 + frequency / 700)
    linear = frequency * 3 / 200  # Slaney: straight below 1 kHz (15 mel), then 27 mel for each factor of 6.4
    return np.where(frequency < 1000, linear, 15 + 27 * np.log(np.maximum(frequency, 1000) / 1000) / np.log(6.4))


def mel_to_hz(mel: np.ndarray, scale: Scale) -> np.ndarray:
    if scale == "htk":
        return 700 * (10 ** (mel / 2595) - 1)
    return np.where(mel < 15, mel * 200 / 3, 1000 * 6.4 ** ((np.maximum(mel, 15) - 15) / 27))


def mel_filters(
    rate: int,
    n_fft: int,
    bands: int,
    low: float = 0.0,
    high: float | None = None,
    scale: Scale = "slaney",
    norm: Norm = "slaney",
) -> Tensor:
    """Triangles over the bins of an STFT, evenly spaced on the mel scale: (bands, n_fft // 2 + 1).

    `norm="slaney"` gives every triangle the same area, None the same height 1.
    librosa's default is slaney with slaney, torchaudio's is htk with None.
    A band too narrow to hold a bin stays zero.
    """
    high = rate / 2 if high is None else high
    if not 0 <= low < high <= rate / 2:
        raise ValueError(f"mel bands need 0 <= low < high <= {rate / 2:g} Hz, got {low:g} and {high:g}")
    ends = hz_to_mel(np.array([low, high], dtype=np.float64), scale)
    corners = mel_to_hz(np.linspace(ends[0], ends[1], bands + 2), scale)
    left, peak, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    bins = np.linspace(0, rate / 2, n_fft // 2 + 1)
    filters = np.maximum(0, np.minimum((bins - left) / (peak - left), (right - bins) / (right - peak)))
    if norm == "slaney":
        filters = filters * 2 / (right - left)
    return torch.from_numpy(filters).float()


class MelSpectrogram(nn.Module):
    """(..., T) -> (..., bands, frames): mel bands of |STFT|^power, power 2 or 1."""

    def __init__(
        self,
        rate: int,
        n_fft: int,
        hop: int,
        bands: int,
        low: float = 0.0,
        high: float | None = None,
        scale: Scale = "slaney",
        norm: Norm = "slaney",
        power: int = 2,
    ):
        super().__init__()
        if power not in (1, 2):
            raise ValueError(f"power is 1 (magnitude) or 2 (power), got {power}")
        self.stft, self.power = STFT(n_fft, hop), power
        self.register_buffer("filters", mel_filters(rate, n_fft, bands, low, high, scale, norm), persistent=False)

    @full_precision
    def forward(self, x: Tensor) -> Tensor:
        spectrum = self.stft(x)
        # Each form has a zero gradient, not an infinite one, where the spectrum is zero.
        level = spectrum.abs() if self.power == 1 else spectrum.real.square() + spectrum.imag.square()
        return self.filters.to(level) @ level
