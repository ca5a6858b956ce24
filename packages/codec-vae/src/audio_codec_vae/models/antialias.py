"""An activation computed at twice the rate, where the harmonics that it adds do not fold back."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_TAPS = 12
_HALF_WIDTH = 0.3  # of the transition band


class AntiAliased(nn.Module):
    """(B, C, T) -> (B, C, T): twice the rate, `act`, half the rate. The ends are continued by their last values."""

    history = delay = 5  # taps reach 5.5 inputs to either side, on the ways up and down together

    def __init__(self, act: nn.Module):
        super().__init__()
        self.act = act
        self.register_buffer("taps", _low_pass(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        taps = self.taps.expand(channels, 1, -1)
        wide = F.pad(x, (5, 5), mode="replicate")
        x = self.act(F.conv_transpose1d(wide, 2 * taps, stride=2, padding=15, groups=channels))
        return F.conv1d(F.pad(x, (5, 6), mode="replicate"), taps, stride=2, groups=channels)


def _low_pass() -> Tensor:
    """A sinc of half the bandwidth in a Kaiser window, of sum 1."""
    attenuation = 2.285 * (_TAPS / 2 - 1) * math.pi * 4 * _HALF_WIDTH + 7.95
    beta = 0.1102 * (attenuation - 8.7)
    window = torch.kaiser_window(_TAPS, periodic=False, beta=beta, dtype=torch.float64, device="cpu")
    time = torch.arange(_TAPS, dtype=torch.float64, device="cpu") - (_TAPS - 1) / 2
    taps = window * torch.sinc(time / 2)
    return (taps / taps.sum()).float()
