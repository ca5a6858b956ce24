"""What the configuration of an original comes to."""

from __future__ import annotations

from dataclasses import dataclass
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
    training: Any = None
    """How the model was trained, in the original's words."""
    remarks: tuple[str, ...] = ()
    """What to know, a line each."""


def build(cls: Any, data: Any, where: str = "") -> Any:
    """As the core's, for what stands at `where` in a file."""
    try:
        return config.build(cls, data)
    except InputError as error:
        raise InputError(f"{where}: {error}" if where else str(error)) from None
