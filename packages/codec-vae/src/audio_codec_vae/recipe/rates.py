"""Learning rates over time, as the originals have them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from audio_core.train.optimize import SGD, Adam, AdamW, Constant, Cosine, InverseLR, Staircase


@dataclass(frozen=True, kw_only=True)
class LyraInverse:
    """Of LyraCodec's later revision: linear from 0, then (1 + n / inv_gamma)^-power, so that it jumps down between."""

    warmup: int = 10_000
    """Updates."""
    inv_gamma: float = 100_000
    power: float = 0.6

    def __call__(self, update: int) -> float:
        return update / self.warmup if update < self.warmup else (1 + update / self.inv_gamma) ** -self.power


@dataclass(frozen=True, kw_only=True)
class LyraCosine:
    """Of a revision between: rises by epochs, then falls as half a cosine to 0; the same within an epoch."""

    warmup: int = 5
    """Epochs."""
    total: int = 500
    """Epochs in all."""
    epoch: int = 0
    """Updates in an epoch; 0: as many as the training data have."""

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < self.total:
            raise ValueError(f"total: expected more epochs than the {self.warmup} of the warmup, got {self.total}")

    def __call__(self, update: int) -> float:
        epoch = update // max(1, self.epoch)
        if epoch < self.warmup:
            return (epoch + 1) / self.warmup
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (epoch - self.warmup) / (self.total - self.warmup))))


Optimizer = AdamW | Adam | SGD
Schedule = InverseLR | Staircase | Cosine | LyraInverse | LyraCosine | Constant


def by_epochs(schedule: Any, epoch_steps: int) -> Any:
    """The schedule, with the updates of an epoch where it counts epochs and does not know them."""
    unknown = isinstance(schedule, LyraCosine) and not schedule.epoch
    return replace(schedule, epoch=epoch_steps) if unknown else schedule
