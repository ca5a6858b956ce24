"""Distances between spectrograms: modules `loss(estimate, target) -> scalar` on audio (B, C, T)."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from ..dsp.mel import MelSpectrogram
from ..dsp.precision import full_precision


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
