"""What the configuration of an original comes to."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from audio_core import config
from audio_core.files import InputError

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


def build(cls: Any, data: Any, where: str = "") -> Any:
    """As the core's, for what stands at `where` in a file."""
    try:
        return config.build(cls, data)
    except InputError as error:
        raise InputError(f"{where}: {error}" if where else str(error)) from None


def unknown(name: str, known: Iterable[str], why: str = "") -> str:
    """What to say of a name that is not among those known, and why it is not."""
    known = [*known]
    near = difflib.get_close_matches(name, known, 1, 0.5)
    hint = f"; did you mean {near[0]}?" if near and not why else ""
    return f"{name!r:.60}{f', {why},' if why else ''} is not one of {', '.join(known)}{hint}"


def quarters(stated: Any, sizes: str, hops: str, windows: str) -> None:
    """Windows are as long as their transforms, and hops a quarter of them: no others are published."""
    expected = [(size // 4, size) for size in getattr(stated, sizes)]
    lists = getattr(stated, hops), getattr(stated, windows)
    if not expected or [*map(tuple, zip(*lists, strict=False))] != expected or len(lists[0]) != len(expected):
        raise ValueError(f"{hops}: windows here are as long as {sizes}, and hops a quarter of them")
