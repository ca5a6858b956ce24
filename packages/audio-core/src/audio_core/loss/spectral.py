"""Distances between spectrograms: modules `loss(estimate, target) -> scalar` on audio (B, C, T)."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..dsp.mel import MelSpectrogram
from ..dsp.precision import full_precision
from ..dsp.stft import STFT
from ..dsp.weighting import a_weighting_taps


class STFTLoss(nn.Module):
    """The loss at one resolution, as in auraloss and stable-audio-tools: magnitudes are sqrt(max(re² + im², eps)).

    convergence    |Y - X| / |Y| (Frobenius) for each item and channel, then the mean
    log_magnitude  mean |ln X - ln Y|
    magnitude      mean |X - Y|
    phase          mean |Zx - Zy| / ((|Zx| + |Zy|) / 2 + 1e-7), Z the complex spectra

    The arguments after the resolution are the weights of these terms. Y, whose norm divides the first, is
    the target; `divide_by="estimate"` is for stable-audio-tools' trainer, which swaps its arguments.
    """

    def __init__(
        self,
        n_fft: int,
        hop: int,
        window: int | None = None,
        convergence: float = 1.0,
        log_magnitude: float = 1.0,
        magnitude: float = 0.0,
        phase: float = 0.0,
        eps: float = 1e-8,
        divide_by: Literal["target", "estimate"] = "target",
    ):
        super().__init__()
        self.stft = STFT(n_fft, hop, window)
        self.convergence, self.log_magnitude, self.magnitude, self.phase = (
            convergence,
            log_magnitude,
            magnitude,
            phase,
        )
        self.eps, self.divide_by = eps, divide_by

    @full_precision
    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        same_shape(estimate, target)
        if self.divide_by == "estimate":  # the other terms are symmetric
            estimate, target = target, estimate
        spectra = self.stft(estimate), self.stft(target)
        x, y = (self.magnitudes(z) for z in spectra)  # (B, C, F, frames)
        loss = x.new_zeros(())
        if self.convergence:
            loss = loss + self.convergence * self.convergences(x, y).mean()
        if self.log_magnitude:
            loss = loss + self.log_magnitude * F.l1_loss(x.log(), y.log())
        if self.magnitude:
            loss = loss + self.magnitude * F.l1_loss(x, y)
        if self.phase:
            distance = (spectra[0] - spectra[1]).abs() / ((x + y) / 2 + 1e-7)
            loss = loss + self.phase * distance.mean()
        return loss

    def magnitudes(self, spectrum: Tensor) -> Tensor:
        return (spectrum.real.square() + spectrum.imag.square()).clamp(min=self.eps).sqrt()

    @staticmethod
    def convergences(x: Tensor, y: Tensor) -> Tensor:
        """(B, C) from magnitudes (B, C, F, frames)."""
        return (y - x).norm(dim=(-2, -1)) / y.norm(dim=(-2, -1))


class MultiResolutionSTFTLoss(nn.Module):
    """The mean of `STFTLoss` over windows of `windows` samples, each with a quarter of it as hop.

    a_weighting         a sampling rate: both signals first pass an A-weighting of 101 taps, zero-padded
    sum_and_difference  stereo: compare left + right and left - right (unscaled) in place of left and right

    Further arguments are those of `STFTLoss`.
    """

    def __init__(
        self,
        windows: Sequence[int] = (2048, 1024, 512, 256, 128, 64, 32),
        a_weighting: int | None = None,
        sum_and_difference: bool = False,
        **terms: Any,
    ):
        super().__init__()
        self.losses = nn.ModuleList([STFTLoss(window, window // 4, **terms) for window in windows])
        self.sum_and_difference = sum_and_difference
        taps = None if a_weighting is None else a_weighting_taps(a_weighting)
        self.register_buffer("taps", taps, persistent=False)

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        same_shape(estimate, target)
        estimate, target = self.prepared(estimate), self.prepared(target)
        return torch.stack([loss(estimate, target) for loss in self.losses]).mean()

    @full_precision
    def prepared(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, T), with sums and differences, then A-weighted."""
        if self.sum_and_difference:
            if x.shape[1] != 2:
                raise ValueError(f"sum and difference need 2 channels, got {x.shape[1]}")
            left, right = x.unbind(1)
            x = torch.stack([left + right, left - right], 1)
        if self.taps is None:
            return x
        flat = x.reshape(-1, 1, x.shape[-1])
        return F.conv1d(flat, self.taps.to(x)[None, None], padding=self.taps.shape[0] // 2).reshape(x.shape)


class MelLoss(nn.Module):
    """DAC's: magnitudes in Slaney mel bands as in librosa; hop a quarter of the window. Terms are summed over windows.

    `log` weighs mean |log10(max(X, 1e-5)^power) - log10(max(Y, 1e-5)^power)|, `magnitude` mean |X - Y|.
    stable-audio-tools: (5, 10 … 320) bands at (32, 64 … 2048), power 1, no magnitude.
    DAC itself: (150, 80) bands at (2048, 512), power 2, both weights 1.
    """

    def __init__(
        self,
        rate: int,
        windows: Sequence[int] = (32, 64, 128, 256, 512, 1024, 2048),
        bands: Sequence[int] = (5, 10, 20, 40, 80, 160, 320),
        power: float = 1.0,
        log: float = 1.0,
        magnitude: float = 0.0,
    ):
        super().__init__()
        pairs = zip(windows, bands, strict=True)
        self.mels = nn.ModuleList(
            [MelSpectrogram(rate, window, window // 4, count, power=1) for window, count in pairs]
        )
        self.power, self.log, self.magnitude = power, log, magnitude

    @full_precision
    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        same_shape(estimate, target)
        loss = estimate.new_zeros(())
        for mel in self.mels:
            x, y = mel(estimate), mel(target)
            logs = x.clamp(min=1e-5).log10() - y.clamp(min=1e-5).log10()
            loss = loss + self.log * self.power * logs.abs().mean()
            if self.magnitude:
                loss = loss + self.magnitude * F.l1_loss(x, y)
        return loss


def same_shape(estimate: Tensor, target: Tensor) -> None:
    if estimate.shape != target.shape:
        raise ValueError(f"estimate {tuple(estimate.shape)} and target {tuple(target.shape)} differ in shape")
