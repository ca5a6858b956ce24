"""Resampling inside a graph: a windowed sinc as one strided convolution, differentiable and on any device."""

import functools
from math import ceil, gcd
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .precision import full_precision

Quality = Literal["best", "torchaudio"]


class Sinc(NamedTuple):
    """A windowed sinc: zero crossings a side, cutoff (1: the lower Nyquist), Kaiser beta or None for Hann."""

    crossings: int
    rolloff: float
    beta: float | None


# "best" keeps 0.9 of the band to 80 dB and everything that would alias below -150 dB.
# "torchaudio" is that library's default, which much training code used unknowingly: aliases at -31 dB.
QUALITIES: dict[str, Sinc] = {
    "best": Sinc(64, 0.9475937167399596, 14.769656459379492),
    "torchaudio": Sinc(6, 0.99, None),
}
LARGEST = 1 << 24  # weights; 44100 -> 44101 would need 2e9


@functools.lru_cache(maxsize=16)
def kernel(source: int, target: int, quality: Quality) -> Tensor:
    """One filter per output phase, (target, 1, source + 2 * reach), for rates without common factor."""
    crossings, rolloff, beta = QUALITIES[quality]
    cutoff = min(source, target) * rolloff
    reach = ceil(crossings * source / cutoff)
    if target * (source + 2 * reach) > LARGEST:
        raise ValueError(f"resampling {source}:{target} needs too large a filter; choose rates with a common factor")
    # The time of every tap from every output sample, in zero crossings of the sinc.
    taps = np.arange(-reach, reach + source) / source
    time = (taps[None] - np.arange(target)[:, None] / target) * cutoff
    inside = np.clip(time, -crossings, crossings)
    if beta is None:
        window = np.cos(np.pi * inside / crossings / 2) ** 2
    else:
        window = np.i0(beta * np.sqrt(1 - (inside / crossings) ** 2)) / np.i0(beta)
    # Clipped taps sit on a zero of the sinc, so that nothing is left of them.
    weights = np.sinc(inside) * window * cutoff / source
    return torch.from_numpy(weights)[:, None]


def reduced(source: int, target: int, quality: str) -> tuple[int, int]:
    """The two rates without their common factor."""
    if min(source, target) <= 0:
        raise ValueError(f"rates are positive, got {source} and {target}")
    if quality not in QUALITIES:
        raise ValueError(f"quality is one of {', '.join(QUALITIES)}, got {quality!r}")
    common = gcd(source, target)
    return source // common, target // common


@full_precision
def convolved(x: Tensor, weights: Tensor, source: int, target: int) -> Tensor:
    """(..., T) -> (..., ceil(T * target / source)): each step of `source` samples yields one a phase."""
    reach = (weights.shape[-1] - source) // 2
    flat = F.pad(x.reshape(-1, 1, x.shape[-1]), (reach, reach + source))
    phases = F.conv1d(flat, weights.to(x), stride=source)  # (N, target, T / source)
    length = -(-x.shape[-1] * target // source)
    return phases.transpose(1, 2).reshape(*x.shape[:-1], -1)[..., :length]


def resample(x: Tensor, source: int, target: int, quality: Quality = "best") -> Tensor:
    """(..., T) at the rate `source` -> (..., ceil(T * target / source)) at the rate `target`."""
    source, target = reduced(source, target, quality)
    return x if source == target else convolved(x, kernel(source, target, quality), source, target)


class Resample(nn.Module):
    """`resample` with its filter kept on the device of the module."""

    def __init__(self, source: int, target: int, quality: Quality = "best"):
        super().__init__()
        self.source, self.target = reduced(source, target, quality)
        weights = kernel(self.source, self.target, quality).float()
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return x if self.source == self.target else convolved(x, self.weights, self.source, self.target)
