"""Recipes of the original program (YAML), of both of its schemas -> ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from audio_core import config
from audio_core.files import InputError, read_text

from .config import ConditionalUNetConfig, original_type
from .recipe import Loss, Recipe

_OPTIMIZERS = Literal["Adam", "AdamW"]
_PREPROCESSORS = Literal["MixtureTarget", "MixtureTargetConditional", "BasicBatchDataPreprocessor"]
_PRECISIONS = {32: "no", 16: "fp16"}


@dataclass(frozen=True)
class _Range:
    lower_db: float = 0.0
    higher_db: float = 0.0


@dataclass(frozen=True)
class _Augmentations:
    remixing_sources: bool = True
    mixaudio: dict[str, int] = field(default_factory=dict)
    pitch_shift: dict[str, float] = field(default_factory=dict)
    magnitude_scale: dict[str, _Range] = field(default_factory=dict)
    swap_channel: dict[str, bool] | None = None
    flip_axis: dict[str, bool] | None = None


@dataclass(frozen=True)
class _Train:
    """Keys of the later schema; below them the earlier names, of which a file has either."""

    input_source_types: tuple[str, ...]
    target_source_types: tuple[str, ...]
    model_type: str
    sample_rate: int = 44100
    input_channels: int | None = None
    output_channels: int | None = None
    segment_seconds: float = 3.0
    augmentations: _Augmentations | None = None
    paired_input_target_data: bool = False
    indexes_dict_path: str | None = None
    batch_data_preprocessor: _PREPROCESSORS = "MixtureTarget"
    loss_type: Loss = "l1_wav"
    optimizer_type: _OPTIMIZERS = "Adam"
    learning_rate: float = 1e-3
    batch_size: int = 16
    precision: Literal[32, 16] = 32
    steps_per_epoch: int = 10_000
    evaluation_callback: str | None = None
    evaluate_step_frequency: int = 10_000
    save_step_frequency: int = 50_000
    early_stop_steps: int = 500_001
    warm_up_steps: int = 1000
    reduce_lr_steps: int = 15_000
    random_seed: int = 1234
    resume_checkpoint_path: str | None = None
    mini_data: bool = False

    channels: int | None = None
    augmentation: _Augmentations | None = None
    mixaudio: dict[str, int] | None = None
    indexes_dict: str | None = None
    resume_checkpoint: str | None = None


@dataclass(frozen=True)
class _Evaluate:
    segment_seconds: float = 30.0
    batch_size: int = 1


@dataclass(frozen=True)
class OriginalRecipe:
    train: _Train
    task_name: str = ""
    evaluate: _Evaluate = _Evaluate()

    @property
    def training(self) -> dict[str, Any]:
        """What our Recipe holds, as plain data, but for where the recordings are."""
        train = self.train
        return {
            "data": {
                "inputs": [*train.input_source_types],
                "augment": {source: self._steps(source) for source in train.input_source_types},
                "remix": self._augmentations.remixing_sources,
                "seconds": train.segment_seconds,
            },
            "model": {
                "kind": config.kind(original_type(train.model_type)),
                "rate": train.sample_rate,
                "channels": self._channels,
                "sources": [*train.target_source_types],
            },
            "loss": train.loss_type,
            "optimizer": {
                "kind": train.optimizer_type,
                "lr": train.learning_rate,
                "weight_decay": 0.0,
                "amsgrad": True,
            },
            "schedule": {"kind": "WarmStaircase", "warmup": train.warm_up_steps, "every": train.reduce_lr_steps},
            "precision": _PRECISIONS[train.precision],
            "batch": train.batch_size,
            "steps": train.early_stop_steps - 1,  # the last step that it saves
            "evaluate_every": train.evaluate_step_frequency,
            "save_every": train.save_step_frequency,
            "seed": train.random_seed,
        }

    @property
    def remarks(self) -> list[str]:
        """What to know about the settings, a line each."""
        augmentations, lines = self._augmentations, []
        for key, setting, values in (
            ("swap_channel", "swap", augmentations.swap_channel),
            ("flip_axis", "polarity", augmentations.flip_axis),
        ):
            if values is not None and not all(values.get(source) for source in self.train.input_source_types):
                lines.append(
                    f"{setting} is on for every source: the original saw only whether {key} was there, not its values"
                )
        if index := self.train.indexes_dict_path or self.train.indexes_dict:
            lines.append(f"in place of the index {Path(index).name} give data.packs, the folder of the packs")
        if checkpoint := self.train.resume_checkpoint_path or self.train.resume_checkpoint:
            lines.append(f"it began with {checkpoint}: convert that, and give pretrained=BUNDLE")
        return lines

    @property
    def _channels(self) -> int:
        train = self.train
        counts = {train.input_channels or train.channels or 2, train.output_channels or train.channels or 2}
        if len(counts) > 1:
            raise InputError("train.output_channels: must be as many as input_channels; no published model has others")
        return counts.pop()

    @property
    def _augmentations(self) -> _Augmentations:
        return self.train.augmentations or self.train.augmentation or _Augmentations()

    def _steps(self, source: str) -> dict[str, Any]:
        augmentations = self._augmentations
        scale = augmentations.magnitude_scale.get(source, _Range())
        steps = {
            "mix": (augmentations.mixaudio or self.train.mixaudio or {}).get(source, 1),
            "pitch": augmentations.pitch_shift.get(source, 0.0),
            "gain_db": [scale.lower_db, scale.higher_db],
            "swap": augmentations.swap_channel is not None,
            "polarity": augmentations.flip_axis is not None,
        }
        return steps


def migrated(path: str | Path, settings: Sequence[str] = ()) -> str:
    """Our recipe for an original's, with further `settings`, as YAML that says what is special."""
    original = read_recipe(path)
    try:
        recipe = config.build(Recipe, original.training, settings)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    head = [f"From {Path(path).name}, a recipe of Bytesep", *original.remarks]
    return "".join(f"# {line}\n" for line in head) + config.dump(recipe)


def read_recipe(path: str | Path) -> OriginalRecipe:
    """The recipe of an original in a YAML file of either schema."""
    try:
        recipe = config.build(OriginalRecipe, config.parse(read_text(path), str(path)))
        _check(recipe)
    except InputError as error:
        text = str(error)
        raise InputError(text if text.startswith(f"{path}: ") else f"{path}: is no recipe of Bytesep: {text}") from None
    return recipe


def _check(recipe: OriginalRecipe) -> None:
    train, augmentations = recipe.train, recipe._augmentations
    conditional = original_type(train.model_type) is ConditionalUNetConfig
    if conditional != (train.batch_data_preprocessor == "MixtureTargetConditional"):
        raise InputError(
            f"train.batch_data_preprocessor: {train.batch_data_preprocessor} does not fit {train.model_type}"
        )
    if train.paired_input_target_data:
        raise InputError("train.paired_input_target_data: no published model learns from paired data")
    for name in ("mixaudio", "pitch_shift", "magnitude_scale", "swap_channel", "flip_axis"):
        for source in getattr(augmentations, name) or ():
            if source not in train.input_source_types:
                raise InputError(
                    f"train.augmentations.{name}: {source} is none of {', '.join(train.input_source_types)}"
                )
