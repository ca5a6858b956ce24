"""What the configuration of an original comes to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..config import AutoencoderConfig


@dataclass(frozen=True)
class ModelConfig:
    """What the configuration of an original says."""

    model: AutoencoderConfig
    origin: str
    """The program that it belongs to."""
    training: dict[str, Any] = field(default_factory=dict)
    """How the model was trained, as settings of our recipes that are no model."""
    remarks: tuple[str, ...] = ()
    """What to know, a line each."""


def quarters(stated: Any, sizes: str, hops: str, windows: str) -> None:
    """Windows are as long as their transforms, and hops a quarter of them: no others are published."""
    expected = [(size // 4, size) for size in getattr(stated, sizes)]
    lists = getattr(stated, hops), getattr(stated, windows)
    if not expected or [*map(tuple, zip(*lists, strict=False))] != expected or len(lists[0]) != len(expected):
        raise ValueError(f"{hops}: windows here are as long as {sizes}, and hops a quarter of them")
