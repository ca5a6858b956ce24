"""Optimizers and learning rate schedules, as dataclasses for recipes.

A schedule is a function of the number of updates, so it has no state to save.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ..checks import within

if TYPE_CHECKING:  # recipes are read before torch is needed
    from torch import Tensor
    from torch.optim import Optimizer


class _Rates:
    def __post_init__(self) -> None:
        within(self, 0, "lr", "weight_decay")


@dataclass(frozen=True)
class Adam(_Rates):
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    """Added to the gradient; AdamW shrinks the weights instead."""
    amsgrad: bool = False

    def build(self, parameters: Iterable[Tensor]) -> Optimizer:
        import torch

        cls = torch.optim.AdamW if isinstance(self, AdamW) else torch.optim.Adam
        return cls(list(parameters), **asdict(self))


@dataclass(frozen=True)
class AdamW(Adam):
    weight_decay: float = 0.01
    """Shrinks the weights in every step, by this times the rate; Adam adds it to the gradient instead."""


@dataclass(frozen=True)
class SGD(_Rates):
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0
    nesterov: bool = False

    def build(self, parameters: Iterable[Tensor]) -> Optimizer:
        import torch

        return torch.optim.SGD(list(parameters), **asdict(self))


@dataclass(frozen=True, kw_only=True)
class Constant:
    """A constant learning rate, after a linear warm-up from 1/warmup of it."""

    warmup: int = 0

    def __call__(self, update: int) -> float:
        """The factor on the learning rate for update number `update`, from 0 on."""
        return self.after(update) * min(1.0, (update + 1) / self.warmup if self.warmup else 1.0)

    def after(self, update: int) -> float:
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Staircase(Constant):
    """The learning rate is multiplied by `factor` every `every` updates."""

    every: int
    factor: float = 0.5

    def after(self, update: int) -> float:
        return self.factor ** (update // self.every)


@dataclass(frozen=True, kw_only=True)
class Milestones(Constant):
    """The learning rate is multiplied by `factor` at each of the update counts `at`."""

    at: tuple[int, ...]
    factor: float = 0.1

    def after(self, update: int) -> float:
        return self.factor ** sum(update >= milestone for milestone in self.at)


@dataclass(frozen=True, kw_only=True)
class Cosine(Constant):
    """The factor falls as half a cosine from 1 to `final`, over `total` updates."""

    total: int
    final: float = 0.0

    def after(self, update: int) -> float:
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * min(1.0, update / self.total)))


@dataclass(frozen=True, kw_only=True)
class InverseLR:
    """stable-audio-tools': (1 + n / inv_gamma)^-power, times 1 - warmup^(n + 1), for update n from 0 on."""

    inv_gamma: float = 1.0
    power: float = 1.0
    warmup: float = 0.0
    """From 0 to below 1; 0: none."""
    final: float = 0.0
    """The least factor. stable-audio-tools' `final_lr` is a learning rate: divide it by that of the optimizer."""

    def __post_init__(self) -> None:
        if self.inv_gamma <= 0 or not 0 <= self.warmup < 1:
            raise ValueError(f"expected inv_gamma above 0 and warmup from 0 to below 1, got {self}")

    def __call__(self, update: int) -> float:
        return (1 - self.warmup ** (update + 1)) * max(self.final, (1 + update / self.inv_gamma) ** -self.power)
