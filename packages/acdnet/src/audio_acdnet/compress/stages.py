"""The settings of a compression: how small, and how each of its four stages trains. Reading it needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from audio_core.train.optimize import SGD

from ..recipe import Cosine, Lesson, Steps


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One training; all other settings are those of the run that is compressed."""

    epochs: int
    optimizer: SGD
    schedule: Steps | Cosine

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {self.epochs}")


@dataclass(frozen=True, kw_only=True)
class Sparsify(Stage):
    sparsity: float = 0.95
    """Share of the weights that are zero after each update: the smallest of all layers together."""
    epochs: int = 500
    optimizer: SGD = field(default_factory=lambda: SGD(0.01, 0.9, 5e-4, True))
    schedule: Steps | Cosine = field(default_factory=lambda: Steps(warmup_epochs=0, at=(0.15, 0.3, 0.45, 0.6, 0.75)))

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.sparsity < 1:
            raise ValueError(f"sparsity must be from 0 to below 1, got {self.sparsity}")


@dataclass(frozen=True, kw_only=True)
class Prune(Stage):
    rounds: int = 40
    """The parameters fall by the same factor in each. Those of the authors take one channel and train at 0.001."""
    epochs: int = 2
    """Of fine-tuning in each round."""
    optimizer: SGD = field(default_factory=lambda: SGD(0.01, 0.9))
    schedule: Steps = field(default_factory=lambda: Steps(warmup_epochs=0, at=(0.5, 0.8)))
    """Over the rounds, as if each were an epoch."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rounds < 1:
            raise ValueError(f"rounds must be at least 1, got {self.rounds}")


@dataclass(frozen=True, kw_only=True)
class Tune(Stage):
    weights: Literal["kept", "fresh"] = "kept"
    """What it begins with: what pruning left, or new weights, as for the published Micro-ACDNet."""
    epochs: int = 500
    optimizer: SGD = field(default_factory=lambda: SGD(0.1, 0.9, 5e-4, True))
    schedule: Steps | Cosine = field(default_factory=lambda: Cosine(warmup_epochs=5.0))


@dataclass(frozen=True, kw_only=True)
class Teach(Lesson, Stage):
    epochs: int = 200
    optimizer: SGD = field(default_factory=lambda: SGD(0.01, 0.9, 5e-4, True))
    schedule: Steps | Cosine = field(default_factory=lambda: Cosine(warmup_epochs=1.0))

    def __post_init__(self) -> None:
        Lesson.__post_init__(self)
        Stage.__post_init__(self)


@dataclass(frozen=True, kw_only=True)
class Compression:
    """The authors' way from ACDNet to Micro-ACDNet, with fewer epochs."""

    target: Literal["micro"] | int
    """Parameters of the result at most: a number, or as many as Micro-ACDNet has with the labels of the run."""
    sparsify: Sparsify = field(default_factory=Sparsify)
    """Training goes on with few weights, which shows the channels that matter."""
    prune: Prune = field(default_factory=Prune)
    """The channels that change the loss least go, and those that are left learn on, round after round."""
    tune: Tune = field(default_factory=Tune)
    """The smaller network is trained."""
    distil: Teach = field(default_factory=Teach)
    """The network of the run teaches the smaller one."""

    def __post_init__(self) -> None:
        if self.target != "micro" and self.target < 1:
            raise ValueError(f"target must be micro or at least 1, got {self.target}")
