"""Resampling of tensors with torchaudio's default filter, for originals whose numbers depend on it.

One strided convolution with a windowed sinc, differentiable and on any device. Aliases are only 31 dB down, so
`audio.resample` is better for everything else.
"""

import functools
from math import ceil, gcd

import numpy as np
import torch
import torch.nn.functional as F
from audio_core.dsp.precision import full_precision
from torch import Tensor

_CROSSINGS = 6  # zero crossings of the sinc on either side, under a Hann window
_ROLLOFF = 0.99  # the cutoff, as a part of the lower Nyquist frequency
_LARGEST = 1 << 24  # weights; 44100 -> 44101 would need 2e9


@full_precision
def resample(x: Tensor, source: int, target: int) -> Tensor:
    """(..., T) at the rate `source` -> (..., ceil(T * target / source)) at the rate `target`."""
    if min(source, target) <= 0:
        raise ValueError(f"rates are positive, got {source} and {target}")
    common = gcd(source, target)
    source, target = source // common, target // common
    if source == target:
        return x
    weights = kernel(source, target).to(x)
    reach = (weights.shape[-1] - source) // 2
    flat = F.pad(x.reshape(-1, 1, x.shape[-1]), (reach, reach + source))
    phases = F.conv1d(flat, weights, stride=source)  # (N, target, T / source)
    length = -(-x.shape[-1] * target // source)
    return phases.transpose(1, 2).reshape(*x.shape[:-1], -1)[..., :length]


@functools.lru_cache(maxsize=16)
def kernel(source: int, target: int) -> Tensor:
    """One filter per output phase, (target, 1, source + 2 * reach), for rates without common factor."""
    cutoff = min(source, target) * _ROLLOFF
    reach = ceil(_CROSSINGS * source / cutoff)
    if target * (source + 2 * reach) > _LARGEST:
        raise ValueError(f"resampling {source}:{target} needs too large a filter; choose rates with a common factor")
    # The time of every tap from every output sample, in zero crossings of the sinc.
    taps = np.arange(-reach, reach + source) / source
    time = (taps[None] - np.arange(target)[:, None] / target) * cutoff
    inside = np.clip(time, -_CROSSINGS, _CROSSINGS)
    window = np.cos(np.pi * inside / _CROSSINGS / 2) ** 2
    # Clipped taps fall on a zero of the sinc, so their weight is 0.
    weights = np.sinc(inside) * window * cutoff / source
    return torch.from_numpy(weights)[:, None]
