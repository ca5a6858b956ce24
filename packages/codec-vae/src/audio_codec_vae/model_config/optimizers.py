"""Optimizers and learning rates in a model_config.json -> those of our recipes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from audio_core import config
from audio_core.files import InputError
from audio_core.train.optimize import SGD, Adam, AdamW

from .stated import build, unknown


@dataclass(frozen=True)
class Choice:
    type: str
    config: dict[str, Any] | None = None


@dataclass(frozen=True)
class Learning:
    """Of one network."""

    optimizer: Choice
    scheduler: Choice | None = None


_OPTIMIZERS = {"AdamW": AdamW, "Adam": Adam, "SGD": SGD, "FusedAdam": AdamW}


@dataclass(frozen=True)
class InverseLR:
    inv_gamma: float = 1.0
    power: float = 1.0
    warmup: float = 0.0
    final_lr: float = 0.0

    def plain(self, lr: float) -> dict[str, Any]:
        return {
            "kind": "InverseLR",
            "inv_gamma": self.inv_gamma,
            "power": self.power,
            "warmup": self.warmup,
            "final": self.final_lr / lr if lr else 0.0,
        }


@dataclass(frozen=True)
class ExponentialLR:
    gamma: float

    def plain(self, lr: float) -> dict[str, Any]:
        return {"kind": "Staircase", "every": 1, "factor": self.gamma}


@dataclass(frozen=True)
class StepLR:
    step_size: int
    gamma: float = 0.1

    def plain(self, lr: float) -> dict[str, Any]:
        return {"kind": "Staircase", "every": self.step_size, "factor": self.gamma}


@dataclass(frozen=True)
class CosineAnnealingLR:
    T_max: int
    eta_min: float = 0.0

    def plain(self, lr: float) -> dict[str, Any]:
        return {"kind": "Cosine", "total": self.T_max, "final": self.eta_min / lr if lr else 0.0}


_SCHEDULES = {cls.__name__: cls for cls in (InverseLR, ExponentialLR, StepLR, CosineAnnealingLR)}


def settings(stated: Learning, where: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The optimizer and the schedule of a recipe, as plain data."""
    name = stated.optimizer.type
    if name not in _OPTIMIZERS:
        raise InputError(f"{where}.optimizer.type: {unknown(name, _OPTIMIZERS)}")
    usual = {"lr": 1e-3} | ({"momentum": 0.0} if name == "SGD" else {})  # PyTorch's, where ours differ
    optimizer: Any = build(_OPTIMIZERS[name], {**usual, **(stated.optimizer.config or {})}, f"{where}.optimizer.config")
    schedule: dict[str, Any] = {"kind": "Constant"}
    if stated.scheduler:
        if stated.scheduler.type not in _SCHEDULES:
            raise InputError(f"{where}.scheduler.type: {unknown(stated.scheduler.type, _SCHEDULES)}")
        cls: Any = _SCHEDULES[stated.scheduler.type]
        schedule = build(cls, stated.scheduler.config or {}, f"{where}.scheduler.config").plain(optimizer.lr)
    return {"kind": config.kind(type(optimizer)), **config.plain(optimizer)}, schedule
