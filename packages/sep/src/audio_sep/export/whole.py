"""A whole model without complex numbers or Fourier transforms, which other programs lack: audio in, audio out.

Spectrograms are convolutions with cosines and sines, as in the original program, and so are their inverses.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from audio_core.dsp.stft import hann
from torch import Tensor, nn

from ..models.head import Mixture, estimates
from ..models.inference import folded
from ..models.separator import SpectrogramSeparator

_EPS = 1e-10  # of magnitudes


class Whole(nn.Module):
    """(1, C, T) -> (1, S, C, T), as the model itself in evaluation."""

    def __init__(self, model: SpectrogramSeparator):
        super().__init__()
        self.model = folded(model)
        n_fft = model.config.n_fft
        time, bins = torch.arange(n_fft, dtype=torch.float64), torch.arange(n_fft // 2 + 1, dtype=torch.float64)
        angle = 2 * torch.pi / n_fft * ((time * bins[:, None]) % n_fft)  # (bins, n_fft)
        window = hann(n_fft).double()
        forward = torch.cat([angle.cos(), -angle.sin()]) * window
        # Of a real signal all bins but the first and the last stand for two.
        twice = torch.full_like(bins, 2.0)
        twice[0] = twice[-1] = 1.0
        inverse = torch.cat([angle.cos() * twice[:, None], -angle.sin() * twice[:, None]]) * window / n_fft
        self.register_buffer("analysis", forward[:, None].float())  # (2 bins, 1, n_fft)
        self.register_buffer("synthesis", inverse[:, None].float())
        self.register_buffer("squares", window.square()[None, None].float())

    def forward(self, audio: Tensor) -> Tensor:
        model, length = self.model, audio.shape[-1]
        signal = audio if model.bank is None else model.bank.analysis(audio)  # (1, C or C * bands, samples)
        mixture = self._spectrogram(signal)
        sources = len(model.config.sources)
        if model.estimated is None:
            stems = self._stems(model.features(mixture.magnitude), mixture, [*range(sources)], length)
        else:
            conditions = torch.eye(sources, device=audio.device)[:, None]  # a pass for each source
            features_of_sources = [model.features(mixture.magnitude, condition) for condition in conditions]
            stems = torch.cat([self._stems(features, mixture, [0], length) for features in features_of_sources], 1)
        return stems

    def _spectrogram(self, signal: Tensor) -> Mixture:
        """(1, C, samples) -> (1, C, frames, bins) each."""
        half, hop = self.model.config.n_fft // 2, self.model.config.hop
        padded = F.pad(signal, (half, half), mode="reflect").transpose(0, 1)  # (C, 1, samples)
        real, imaginary = F.conv1d(padded, self.analysis, stride=hop).chunk(2, 1)  # (C, bins, frames)
        magnitude = (real.square() + imaginary.square()).clamp(min=_EPS).sqrt()
        parts = (part.mT[None] for part in (magnitude, real / magnitude, imaginary / magnitude))
        return Mixture(*parts, signal.shape[-1])

    def _stems(self, features: Tensor, mixture: Mixture, sources: list[int], length: int) -> Tensor:
        model = self.model
        planes = model.planes(features, sources)[..., : mixture.magnitude.shape[2], :]
        spectra = torch.view_as_real(estimates(planes, mixture, model.bounded))  # (1, S, C, frames, bins - 1, 2)
        real, imaginary = (F.pad(part, (0, 1)).flatten(0, 2).mT for part in spectra.unbind(-1))
        signal = self._inverse(torch.cat([real, imaginary], 1), mixture.samples)  # (S * C, samples)
        if model.bank is not None:
            signal = model.bank.synthesis(signal[None], length)
        return signal.reshape(1, len(sources), model.config.channels, length)

    def _inverse(self, spectra: Tensor, samples: int) -> Tensor:
        """(N, 2 bins, frames) -> (N, samples)"""
        half, hop = self.model.config.n_fft // 2, self.model.config.hop
        added = F.conv_transpose1d(spectra, self.synthesis, stride=hop)[:, 0]
        weight = F.conv_transpose1d(torch.ones_like(spectra[:1, :1]), self.squares, stride=hop)[:, 0]
        signal = (added / weight.clamp(min=1e-11))[:, half : half + samples]
        return F.pad(signal, (0, samples - signal.shape[-1]))
