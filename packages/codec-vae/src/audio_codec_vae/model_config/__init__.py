"""Configurations of the original programs -> ours: of stable-audio-tools, LyraCodec, diffusers and DAC.

It stands beside `original`, since a configuration without a checkpoint is of use, too: to train by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audio_core import config
from audio_core.files import InputError, read_json, read_text

from ..recipe import Recipe
from . import diffusers, lyra, stable_audio
from .stated import ModelConfig

__all__ = ["ModelConfig", "migrated", "read", "understood"]


def read(path: str | Path) -> ModelConfig:
    """The configuration in a model_config.json, a config.json of diffusers, or a config.yaml of LyraCodec."""
    if Path(path).suffix.lower() == ".json":
        data = read_json(path)
    else:
        data = config.parse(read_text(path, 1 << 20), str(path))
    try:
        return understood(data)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def migrated(path: str | Path, settings: Sequence[str] = ()) -> str:
    """The recipe to train as the configuration in a file says, with further `settings`: YAML with remarks."""
    stated = read(path)
    try:
        recipe = config.build(Recipe, {**stated.training, "model": config.plain(stated.model)}, settings)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    head = [f"From {Path(path).name}, a configuration of {stated.origin}", *stated.remarks]
    return "".join(f"# {line}\n" for line in head) + config.dump(recipe)


def understood(data: Any) -> ModelConfig:
    """The configuration that the content of such a file describes. The content stays as it is."""
    if lyra.recognized(data):
        return lyra.understood(data)
    if isinstance(data, Mapping) and "_class_name" in data:
        return diffusers.understood(data)
    if isinstance(data, Mapping) and "model_type" in data:
        return stable_audio.understood(data)
    what = "is no configuration of stable-audio-tools, diffusers or LyraCodec"
    raise InputError(f"{what}: it has no model_type, _class_name or model.base_channels")
