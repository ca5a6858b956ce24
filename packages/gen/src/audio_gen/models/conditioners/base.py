"""What all conditioners have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


class Condition(NamedTuple):
    """Tokens (B, N, D) of which those count where the mask (B, N) is true; or channels over time (B, D, T)."""

    value: Tensor
    mask: Tensor | None


class Conditioner(nn.Module, ABC):
    """`read` checks and converts what one item holds, and `embed` makes the condition of a batch."""

    @abstractmethod
    def read(self, value: Any) -> Any:
        """What `embed` takes of one item. An InputError says what is wrong, without naming key or item."""

    @abstractmethod
    def embed(self, items: Sequence[Any], device: torch.device) -> Condition: ...

    def limit(self, value: Any) -> str:
        """What alone counts of a text that is too long, such as "the first 63 bytes"."""
        return ""

    def forward(self, values: Sequence[Any]) -> Condition:
        return self.embed([self.read(value) for value in values], device_of(self))


def device_of(module: nn.Module) -> torch.device:
    parameter = next(module.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def projection(width: int, outputs: int, always: bool) -> nn.Module:
    """From the width of features to that of the condition, where they differ or it is wanted."""
    return nn.Linear(width, outputs) if always or width != outputs else nn.Identity()


def projected(layer: nn.Module, x: Tensor) -> Tensor:
    """In the precision of the layer's weights."""
    return layer(x.to(layer.weight.dtype) if isinstance(layer, nn.Linear) else x)


def held_outside(owner: nn.Module, name: str, value: Any) -> None:
    """Set an attribute, which may be a module and yet is no part of its owner: it neither learns nor is stored."""
    owner.__dict__[name] = value
