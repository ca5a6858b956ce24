"""Sines and cosines of numbers (times, levels, durations), with frequencies that learn.

They are computed in float32 in a model of half precision too.
"""

from __future__ import annotations

import math

import torch
from audio_core.dsp.precision import at_least_float32
from torch import Tensor, nn


class FourierFeatures(nn.Module):
    """Numbers (B,) -> (B, 2 * frequencies): the cosines, then the sines."""

    def __init__(self, frequencies: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(frequencies, 1))

    def forward(self, numbers: Tensor) -> Tensor:
        angles = 2 * math.pi * at_least_float32(numbers)[:, None] * at_least_float32(self.weight)[:, 0]
        return torch.cat([angles.cos(), angles.sin()], -1)


class NumberFeatures(nn.Module):
    """Numbers (B,) -> (B, 1 + 2 * frequencies): the numbers, the sines, then the cosines."""

    def __init__(self, frequencies: int):
        super().__init__()
        self.weights = nn.Parameter(torch.randn(frequencies))

    def forward(self, numbers: Tensor) -> Tensor:
        numbers = at_least_float32(numbers)[:, None]
        angles = 2 * math.pi * numbers * at_least_float32(self.weights)
        return torch.cat([numbers, angles.sin(), angles.cos()], -1).to(self.weights.dtype)


def number_embedding(frequencies: int, outputs: int) -> nn.Sequential:
    """Numbers (B,) -> (B, outputs)."""
    return nn.Sequential(NumberFeatures(frequencies), nn.Linear(1 + 2 * frequencies, outputs))
