"""Distances between spectrograms at several resolutions, as in auraloss and stable-audio-tools. Audio is (B, C, T)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from audio_core.dsp.mel import mel_filters
from audio_core.dsp.precision import full_precision
from audio_core.dsp.stft import STFT
from audio_core.loss.spectral import same_shape
from torch import Tensor, nn

from .recipe import Spectral
from .weighting import a_weighting_taps, k_weighted

EPS = 1e-8  # the least power of a bin


class SpectralLoss(nn.Module):
    """The mean over the windows of a recipe, of signals that are both weighted before.

    sum_and_difference  stereo: compare left + right and left - right (unscaled) in place of left and right
    """

    def __init__(self, settings: Spectral, rate: int, sum_and_difference: bool = False):
        super().__init__()
        self.losses = nn.ModuleList(
            [
                MelSTFTLoss(settings, window, rate) if settings.mel_bands else STFTLoss(settings, window)
                for window in settings.windows
            ]
        )
        self.sum_and_difference = sum_and_difference
        self.k_weighting = rate if settings.weighting == "K" else None
        taps = a_weighting_taps(rate) if settings.weighting == "A" else None
        self.register_buffer("taps", taps, persistent=False)

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        same_shape(estimate, target)
        estimate, target = self.prepared(estimate), self.prepared(target)
        return torch.stack([loss(estimate, target) for loss in self.losses]).mean()

    @full_precision
    def prepared(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, T), with sums and differences, then weighted."""
        if self.sum_and_difference:
            if x.shape[1] != 2:
                raise ValueError(f"sum and difference need 2 channels, got {x.shape[1]}")
            left, right = x.unbind(1)
            x = torch.stack([left + right, left - right], 1)
        if self.k_weighting is not None:
            return k_weighted(x, self.k_weighting)
        if self.taps is None:
            return x
        flat = x.reshape(-1, 1, x.shape[-1])  # with silence before and after
        return F.conv1d(flat, self.taps.to(x)[None, None], padding=self.taps.shape[0] // 2).reshape(x.shape)


class STFTLoss(nn.Module):
    """The loss at one resolution, with a quarter of the window as hop: magnitudes are sqrt(max(re² + im², eps)).

    convergence    |Y - X| / |Y| (Frobenius) for each item and channel, then the mean
    log_magnitude  mean |ln X - ln Y|
    magnitude      mean |X - Y|
    phase          mean |Zx - Zy| / ((|Zx| + |Zy|) / 2 + 1e-7), Z the complex spectra

    The settings hold the weights of these terms. Y, whose norm divides the first, is their `divide_by`.
    """

    def __init__(self, settings: Spectral, window: int):
        super().__init__()
        self.stft, self.settings = STFT(window, window // 4), settings

    @full_precision
    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        settings = self.settings
        if settings.divide_by == "estimate":  # the other terms are symmetric
            estimate, target = target, estimate
        spectra = self.stft(estimate), self.stft(target)
        x, y = (self.magnitudes(z) for z in spectra)  # (B, C, F, frames)
        loss = x.new_zeros(())
        if settings.convergence:
            loss = loss + settings.convergence * ((y - x).norm(dim=(-2, -1)) / y.norm(dim=(-2, -1))).mean()
        if settings.log_magnitude:
            loss = loss + settings.log_magnitude * F.l1_loss(x.log(), y.log())
        if settings.magnitude:
            loss = loss + settings.magnitude * F.l1_loss(x, y)
        if settings.phase:
            distance = (spectra[0] - spectra[1]).abs() / ((x + y) / 2 + 1e-7)
            loss = loss + settings.phase * distance.mean()
        return loss

    def magnitudes(self, spectrum: Tensor) -> Tensor:
        return (spectrum.real.square() + spectrum.imag.square()).clamp(min=EPS).sqrt()


class MelSTFTLoss(STFTLoss):
    """auraloss' `scale="mel"`: the same terms on Slaney mel bands of the magnitudes."""

    def __init__(self, settings: Spectral, window: int, rate: int):
        if settings.phase:
            raise ValueError("phase: mel bands have none; leave it at 0, or mel_bands")
        super().__init__(settings, window)
        self.register_buffer("filters", mel_filters(rate, window, settings.mel_bands), persistent=False)

    def magnitudes(self, spectrum: Tensor) -> Tensor:
        return (self.filters @ super().magnitudes(spectrum)).clamp(min=EPS)
