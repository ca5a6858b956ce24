"""Adapters of whole models: which part they are for, and files of them with strengths."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from audio_core.files import InputError
from torch import nn

from ..models.lm import LM
from .files import load_adapter


def network(model: nn.Module) -> nn.Module:
    """The part of a model that adapters are for."""
    return model.lm if isinstance(model, LM) else model.get_submodule("backbone")


def adapt(model: nn.Module, adapters: Sequence[str | Path]) -> None:
    """Load files of adapters into a model, each with its strength behind a colon or with 1."""
    for number, text in enumerate(map(str, adapters)):
        path, strength = divided(text)
        load_adapter(path, network(model), strength, f"{number}-{Path(path).stem}")


def divided(text: str) -> tuple[str, float]:
    """A file and its strength, from FILE or FILE:STRENGTH."""
    path, colon, strength = text.rpartition(":")
    if not colon or Path(text).exists():
        return text, 1.0
    try:
        return path, float(strength)
    except ValueError:
        if not Path(path).is_file():
            return text, 1.0
        raise InputError(f"{path}: the strength behind the colon must be a number, got {strength[:20]!r}") from None
