"""Configurations of stable-audio-tools -> ours. They are of use without a checkpoint, too: to train by."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from audio_core import config
from audio_core.files import InputError, read_json

from ..recipe import Recipe
from .files import understood
from .stated import ModelConfig

__all__ = ["ModelConfig", "migrated", "read", "understood"]


def read(path: str | Path) -> ModelConfig:
    """What a model_config.json says."""
    data = read_json(path)
    try:
        return understood(data)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def migrated(path: str | Path, settings: Sequence[str] = ()) -> tuple[Recipe, str]:
    """The recipe to train as a model_config.json says, with further `settings`; and it as YAML with remarks."""
    stated = read(path)
    try:
        recipe = config.build(Recipe, {**stated.training, "model": stated.model}, settings)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    head = [f"From {Path(path).name}, a configuration of stable-audio-tools", *stated.remarks]
    if stated.has_codec and recipe.model.codec is None:
        head.append("its latents become audio by a codec, which model.codec.name and model.codec.path name")
    return recipe, "".join(f"# {line}\n" for line in head) + config.dump(recipe)
