"""Sines and cosines of numbers, with frequencies that learn: how networks are told times, levels and durations."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class FourierFeatures(nn.Module):
    """Numbers (B,) -> (B, features): the cosines, then the sines, of 2 pi times number times frequency."""

    def __init__(self, features: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(features // 2, 1))

    def forward(self, numbers: Tensor) -> Tensor:
        turns = 2 * math.pi * numbers[:, None] @ self.weight.T
        return torch.cat([turns.cos(), turns.sin()], -1)


class NumberFeatures(nn.Module):
    """Numbers (B,) -> (B, features + 1): the number itself, the sines, then the cosines."""

    def __init__(self, features: int):
        super().__init__()
        self.weights = nn.Parameter(torch.randn(features // 2))

    def forward(self, numbers: Tensor) -> Tensor:
        turns = 2 * math.pi * numbers[:, None] * self.weights
        return torch.cat([numbers[:, None], turns.sin(), turns.cos()], -1)


def number_embedding(features: int, outputs: int) -> nn.Sequential:
    """Numbers (B,) -> (B, outputs)."""
    return nn.Sequential(NumberFeatures(features), nn.Linear(features + 1, outputs))
