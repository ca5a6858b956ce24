"""The settings of a training, with the authors' values as defaults. Reading it needs no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

from audio_core.train.optimize import SGD, AdamW
from audio_core.train.plan import Plan

from .config import ACDNetConfig


@dataclass(frozen=True)
class Data:
    root: Path = Path("data")
    """Folder of the data set in one of the known layouts, or a .csv file with the columns filename, label and fold."""
    labels: tuple[str, ...] = ()
    """The classes to learn, in the order of the outputs; empty: all that the data set has."""
    divide: int = 0
    """Make so many folds by file name where the data set has none; clips of one recording may part then."""

    def __post_init__(self) -> None:
        if self.divide == 1 or self.divide < 0:
            raise ValueError(f"divide: expected 2 folds or more, or 0, got {self.divide}")


@dataclass(frozen=True)
class Mix:
    """How two clips become one training item."""

    speed: float = 1.25
    """Clips become up to so many times longer or shorter, and lower or higher; 1 leaves them."""
    gain_db: tuple[float, float] = (-6.0, 6.0)
    """Range of the gain on each mix; reach lower, as with [-36, 6], for a model of soft sounds as well."""

    def __post_init__(self) -> None:
        if self.speed < 1:
            raise ValueError(f"speed: expected 1 or more, got {self.speed}")
        if self.gain_db[0] > self.gain_db[1]:
            raise ValueError(f"gain_db: expected the lower end first, got {list(self.gain_db)}")


@dataclass(frozen=True, kw_only=True)
class Steps:
    """The learning rate times `factor` after each of `at`, and during the warm-up."""

    warmup_epochs: int = 10
    """Epochs at `factor` in the beginning. Warm-up without `epochs` in its name counts updates, as in the core."""
    at: tuple[float, ...] = (0.3, 0.6, 0.9)
    """Parts of all epochs."""
    factor: float = 0.1

    def __call__(self, done: float, epochs: int) -> float:
        """The factor on the learning rate when `done` of `epochs` are over."""
        epoch = math.floor(done) + 1
        if epoch <= self.warmup_epochs:
            return self.factor
        return self.factor ** sum(epoch > part * epochs for part in self.at)


@dataclass(frozen=True, kw_only=True)
class Cosine:
    """Up to the learning rate on a straight line, then down to nothing on half a cosine."""

    warmup_epochs: float = 1.0
    """Epochs until the full rate."""

    def __call__(self, done: float, epochs: int) -> float:
        """The factor on the learning rate when `done` of `epochs` are over."""
        rest = max(0.0, done - self.warmup_epochs) / max(epochs - self.warmup_epochs, 1e-9)
        fall = 0.5 * (1 + math.cos(math.pi * min(1.0, rest)))
        return fall * min(1.0, done / self.warmup_epochs if self.warmup_epochs else 1.0)


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """How to learn from a larger model besides the labels."""

    type: Literal[1, 2, 3] = 2
    """1: the teacher's class and the label's class. 2: both whole distributions. 3: the teacher's distribution, the
    label's class."""
    temperature: float = 2.0
    """Both distributions are softened by it."""
    alpha: float = 0.1
    """Share of the label; the rest is the teacher's."""

    def __post_init__(self) -> None:
        if self.temperature <= 0 or not 0 <= self.alpha <= 1:
            raise ValueError(
                f"temperature must be above 0 and alpha from 0 to 1, got {self.temperature} and {self.alpha}"
            )


@dataclass(frozen=True, kw_only=True)
class Distil(Lesson):
    teacher: str
    """Bundle of a model with the same labels, not trained on the fold held out; {fold} stands for its number."""


@dataclass(frozen=True, kw_only=True)
class Recipe(Plan):
    """The authors' training: 2000 epochs of mixes of two classes, one run for each fold that is held out."""

    data: Data = field(default_factory=Data)
    model: ACDNetConfig = field(default_factory=ACDNetConfig)
    """Its labels, folds, divide and trained_on are filled in from the data."""
    mix: Mix = field(default_factory=Mix)
    folds: Literal["all", "none"] | tuple[int, ...] | int = (1,)
    """Folds to hold out for testing, each in a run of its own; all of them; or none, to train on everything."""
    epochs: int = 2000
    """An epoch is as many items as there are training clips, drawn with replacement."""
    optimizer: SGD | AdamW = field(default_factory=lambda: SGD(0.1, 0.9, 5e-4, True))
    schedule: Steps | Cosine = field(default_factory=Steps)
    clip: float = 0.0
    """Largest norm of the gradient; 0: no limit."""
    average: float = 0.0
    """Decay of averaged weights, which are then what is tested and released; 0: the last weights are."""
    distil: Distil | None = None
    crops: int = 10
    """Crops of each clip in the evaluations."""

    batch: int = 64
    seed: int = 42
    steps: int = 1_000_000_000
    """Stop after so many steps, even if the epochs are not over."""
    evaluate_every: int = 250
    save_every: int = 250

    FIRST: ClassVar[tuple[str, ...]] = (
        *("data.root", "data.labels", "data.divide", "folds", "epochs", "batch", "mix.gain_db"),
        *("model.rate", "model.samples", "model.channels", "optimizer", "schedule", "evaluate_every"),
    )
    FREE: ClassVar[frozenset[str]] = (Plan.FREE - {"epochs"}) | {
        "data.root",
        "crops",
        "model.divide",
        "model.trained_on",
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.crops < 1:
            raise ValueError(f"crops must be at least 1, got {self.crops}")
        if not 0 <= self.average < 1:
            raise ValueError(f"average must be from 0 to below 1, got {self.average}")

    def for_data(self, clips: int, labels: tuple[str, ...], trained: tuple[int, ...]) -> Recipe:
        """The recipe of a run on so many training clips: here epochs become steps."""
        return replace(self, steps=self.total_steps(clips), model=replace(self.model, labels=labels, folds=trained))

    def total_steps(self, items: int | None) -> int:
        """Steps of learning in all: those of the epochs, but no more than `steps`."""
        return min(self.steps, super().total_steps(items))

    def factor(self, update: int, clips: int) -> float:
        """The factor on the learning rate after `update` updates."""
        return self.schedule(update / self.epoch_steps(clips), self.epochs)
