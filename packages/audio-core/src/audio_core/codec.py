"""What a neural codec looks like from outside, and finding one by name: packages meet here and never import each other.

A package offers its codec in its pyproject.toml, as a function from a bundle's folder or Hub id to a Codec:
`[project.entry-points."audio_core.codecs"]` with a line such as `soundstream = "audio_soundstream:load"`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from .files import InputError, reason

if TYPE_CHECKING:
    from torch import Tensor

GROUP = "audio_core.codecs"


@runtime_checkable
class Codec(Protocol):
    """Audio (B, C, T) to F frames of latents (B, width, F), one for each `hop` samples, and back.

    A codec without codebooks has `codebooks == ()`, and its `codes` and `from_codes` raise a TypeError.
    """

    sample_rate: int
    channels: int
    hop: int
    width: int
    codebooks: tuple[int, ...]

    def encode(self, audio: Tensor) -> Tensor:
        """(B, C, T) -> latents (B, width, F)."""

    def decode(self, latents: Tensor) -> Tensor:
        """(B, width, F) -> audio (B, C, F * hop)."""

    def codes(self, audio: Tensor) -> Tensor:
        """(B, C, T) -> indices into the K codebooks (B, K, F)."""

    def from_codes(self, codes: Tensor) -> Tensor:
        """(B, K, F) -> latents (B, width, F)."""


def names() -> list[str]:
    """The codecs that installed packages offer."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def find(name: str) -> Callable[[str | Path], Codec]:
    """The loader of the codec `name`: it takes a bundle's folder or Hub id."""
    for entry in entry_points(group=GROUP, name=name):
        try:
            return entry.load()
        except (ImportError, AttributeError) as error:
            raise InputError(f"codec {name!r}: {entry.value} cannot be loaded: {reason(error)}") from error
    known = f"installed: {', '.join(names())}" if names() else "none is installed"
    raise InputError(f"codec {name!r} is not installed ({known}); try: pip install audio-{name}")
