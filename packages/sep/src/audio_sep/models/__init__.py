"""The separation models by name, and loading of bundles."""

from __future__ import annotations

from pathlib import Path

from audio_core.files import InputError

from .. import PACKAGE
from ..config import SeparatorConfig
from ..registry import PUBLISHED
from .networks import (
    ConditionalUNet,
    MobileNetSubbandTime,
    ResUNet143,
    ResUNet143DecouplePlus,
    ResUNet143SubbandTime,
    UNet,
    UNetSubbandTime,
)
from .separator import SpectrogramSeparator

MODELS: dict[str, type[SpectrogramSeparator]] = {
    model.__name__: model
    for model in (
        UNet,
        UNetSubbandTime,
        ResUNet143,
        ResUNet143DecouplePlus,
        ResUNet143SubbandTime,
        MobileNetSubbandTime,
        ConditionalUNet,
    )
}


def load(path: str | Path = "default", device: str = "cpu") -> SpectrogramSeparator:
    """The model of a bundle or run, by its folder or Hub id; or of the wheel: `default`, which finds a voice."""
    _refuse_published(path)
    return PACKAGE.load(path, [*MODELS.values()], device)


def load_config(path: str | Path) -> SeparatorConfig:
    """The config of the model that `load` would build."""
    _refuse_published(path)
    return PACKAGE.load_config(path, [*MODELS.values()])


def _refuse_published(path: str | Path) -> None:
    """The name of a published checkpoint, where a bundle is wanted."""
    if path in PUBLISHED and not Path(path).exists():
        steps = f"`audio-sep download {path}` fetches it, and `audio-sep convert` makes a bundle of it"
        raise InputError(f"{path}: is a published checkpoint, not a bundle; {steps}")
