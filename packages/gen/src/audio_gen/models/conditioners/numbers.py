"""Conditioners of numbers and choices; each makes one token (B, 1, D)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from audio_core.files import InputError
from torch import Tensor, nn

from ...config.conditioners import IntConfig, ListConfig, NumberConfig
from ..fourier import number_embedding
from .base import Condition, Conditioner

_FREQUENCIES = 128


class IntConditioner(Conditioner):
    def __init__(self, config: IntConfig, output_dim: int):
        super().__init__()
        self.config = config
        self.int_embedder = nn.Embedding(config.max_val - config.min_val + 1, output_dim)

    def read(self, value: Any) -> int:
        number = _number(value)
        if number != int(number):
            raise InputError(f"expected a whole number, got {number}")
        return int(number)

    def embed(self, items: Sequence[int], device: torch.device) -> Condition:
        least, most = self.config.min_val, self.config.max_val
        rows = [min(max(number, least), most) - least for number in items]
        return _one_token(self.int_embedder(torch.tensor(rows, device=device)))


class NumberConditioner(Conditioner):
    def __init__(self, config: NumberConfig, output_dim: int):
        super().__init__()
        self.config = config
        self.embedder = nn.ModuleDict({"embedding": number_embedding(_FREQUENCIES, output_dim)})

    def read(self, value: Any) -> float:
        return _number(value)

    def embed(self, items: Sequence[float], device: torch.device) -> Condition:
        least, most = self.config.min_val, self.config.max_val
        numbers = torch.tensor(items, dtype=torch.float32, device=device).clamp(least, most)
        return _one_token(self.embedder["embedding"]((numbers - least) / (most - least)))


class ListConditioner(Conditioner):
    def __init__(self, config: ListConfig, output_dim: int):
        super().__init__()
        self.rows = {option: row for row, option in enumerate(config.options, 1)}  # 0 is for all others
        self.embedder = nn.Embedding(len(config.options) + 1, output_dim)

    def read(self, value: Any) -> str:
        if not isinstance(value, str):
            raise InputError(f"expected the text of an option, got {value!r:.60}")
        return value

    def embed(self, items: Sequence[str], device: torch.device) -> Condition:
        return _one_token(self.embedder(torch.tensor([self.rows.get(item, 0) for item in items], device=device)))


def _number(value: Any) -> float:
    """A finite number from one of Python, numpy or torch."""
    if isinstance(value, str):  # of a table
        try:
            value = float(value)
        except ValueError:
            raise InputError(f"expected a number, got {value!r:.60}") from None
    if isinstance(value, Tensor | np.ndarray | np.generic) and math.prod(value.shape) == 1:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"expected a number, got {value!r:.60}")
    if not math.isfinite(value):
        raise InputError(f"expected a finite number, got {value}")
    return value


def _one_token(vectors: Tensor) -> Condition:
    """(B, D)"""
    return Condition(vectors[:, None], torch.ones(len(vectors), 1, dtype=torch.bool, device=vectors.device))
