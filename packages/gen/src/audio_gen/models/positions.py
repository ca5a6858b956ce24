"""How a transformer knows positions: rotations of queries and keys, or vectors that are added to the input."""

from __future__ import annotations

from typing import NamedTuple

import torch
from audio_core.dsp.precision import at_least_float32
from torch import Tensor, nn

_BASE = 10000.0


class Rotation(NamedTuple):
    """Of each position and each pair of features, (T, rotated features / 2). Always float32."""

    cos: Tensor
    sin: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Heads (B, H, T, D) with their first features rotated; a pair is a feature and the one half the table on."""
        pairs = self.cos.shape[-1]
        a, b, rest = x.split([pairs, pairs, x.shape[-1] - 2 * pairs], -1)
        a, b = at_least_float32(a), at_least_float32(b)
        turned = torch.cat([a * self.cos - b * self.sin, b * self.cos + a * self.sin], -1)
        return torch.cat([turned.to(x.dtype), rest], -1)


def rotation(positions: Tensor, features: int, interpolation: float = 1.0, rescale: float = 1.0) -> Rotation:
    """For positions (T,) and so many rotated features."""
    angles = rotary_angles(positions, features, interpolation, rescale)
    return Rotation(angles.cos(), angles.sin())


def rotary_angles(positions: Tensor, features: int, interpolation: float = 1.0, rescale: float = 1.0) -> Tensor:
    """(T,) -> (T, features / 2), in float32 at every step: published weights learnt with its rounding.

    A base larger by rescale^(d / (d - 2)) slows the slowest pair by `rescale` and leaves the fastest as it is.
    """
    base = _BASE * rescale ** (features / (features - 2)) if rescale != 1 else _BASE
    exponents = torch.arange(0, features, 2, dtype=torch.float32, device=positions.device) / features
    return (positions.float() / interpolation)[:, None] * (1.0 / base**exponents)


class Sinusoidal(nn.Module):
    """Sines and cosines of the positions from `start` to before `stop`, (T, width), with one learned scale."""

    def __init__(self, width: int):
        super().__init__()
        if width % 2:
            raise ValueError(f"sines and cosines fill an even width, got {width}")
        self.pairs = width // 2
        self.scale = nn.Parameter(torch.full((1,), width**-0.5))

    def forward(self, start: int, stop: int) -> Tensor:
        settings = {"dtype": torch.float32, "device": self.scale.device}
        speeds = _BASE ** -(torch.arange(self.pairs, **settings) / self.pairs)
        angles = torch.arange(start, stop, **settings)[:, None] * speeds
        return torch.cat([angles.sin(), angles.cos()], -1) * self.scale


class PositionTable(nn.Module):
    """A learned vector for each of the positions from `start` to before `stop`, (T, width)."""

    def __init__(self, width: int, length: int):
        super().__init__()
        self.emb = nn.Embedding(length, width)

    def forward(self, start: int, stop: int) -> Tensor:
        length, width = self.emb.weight.shape
        if stop > length:
            raise ValueError(f"abs_pos_emb_max_length is {length}, and the sequence has {stop} positions")
        return self.emb.weight[start:stop] * width**-0.5
