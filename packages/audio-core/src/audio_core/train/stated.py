"""What configurations of stable-audio-tools state, read as strictly as recipes: optimizers, learning rates, names."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .. import config
from ..files import InputError
from .optimize import SGD, Adam, AdamW


def build(cls: Any, data: Any, where: str = "") -> Any:
    """As `config.build`, for what stands at `where` in a file."""
    try:
        return config.build(cls, data)
    except InputError as error:
        raise InputError(f"{where}: {error}" if where else str(error)) from None


def unknown(name: str, known: Iterable[str], why: str = "") -> str:
    """What to say of a name that is not among those known, and why it is not."""
    known = [*known]
    near = difflib.get_close_matches(name, known, 1, 0.5)
    hint = f"; did you mean {near[0]}?" if near and not why else ""
    return f"{name!r:.60}{f', {why},' if why else ''} is not one of {', '.join(known)}{hint}"


# --- optimizers and learning rates -------------------------------------------------------------------------


@dataclass(frozen=True)
class Choice:
    type: str
    config: dict[str, Any] | None = None


@dataclass(frozen=True)
class Learning:
    """Of one network."""

    optimizer: Choice
    scheduler: Choice | None = None


@dataclass(frozen=True)
class InverseLR:
    inv_gamma: float = 1.0
    power: float = 1.0
    warmup: float = 0.0
    final_lr: float = 0.0

    def plain(self, lr: float) -> dict[str, Any]:
        names = ("inv_gamma", "power", "warmup")
        return {**{name: getattr(self, name) for name in names}, "final": self.final_lr / lr if lr else 0.0}


@dataclass(frozen=True)
class ExponentialLR:
    gamma: float

    def plain(self, lr: float) -> dict[str, Any]:
        return {"every": 1, "factor": self.gamma}


@dataclass(frozen=True)
class StepLR:
    step_size: int
    gamma: float = 0.1

    def plain(self, lr: float) -> dict[str, Any]:
        return {"every": self.step_size, "factor": self.gamma}


@dataclass(frozen=True)
class CosineAnnealingLR:
    T_max: int
    eta_min: float = 0.0

    def plain(self, lr: float) -> dict[str, Any]:
        return {"total": self.T_max, "final": self.eta_min / lr if lr else 0.0}


_OPTIMIZERS = {"AdamW": AdamW, "Adam": Adam, "SGD": SGD, "FusedAdam": AdamW}
# A scheduler, and the kind of schedule that it is here.
_SCHEDULES: dict[Any, str] = {
    InverseLR: "InverseLR",
    ExponentialLR: "Staircase",
    StepLR: "Staircase",
    CosineAnnealingLR: "Cosine",
}


def learning(stated: Learning, where: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The optimizer and the schedule of a recipe, as plain data."""
    name = stated.optimizer.type
    if name not in _OPTIMIZERS:
        raise InputError(f"{where}.optimizer.type: {unknown(name, _OPTIMIZERS)}")
    usual = {"lr": 1e-3} | ({"momentum": 0.0} if name == "SGD" else {})  # PyTorch's, where ours differ
    optimizer: Any = build(_OPTIMIZERS[name], {**usual, **(stated.optimizer.config or {})}, f"{where}.optimizer.config")
    schedule: dict[str, Any] = {"kind": "Constant"}
    if stated.scheduler:
        known = {cls.__name__: cls for cls in _SCHEDULES}
        if stated.scheduler.type not in known:
            raise InputError(f"{where}.scheduler.type: {unknown(stated.scheduler.type, known)}")
        cls = known[stated.scheduler.type]
        values = build(cls, stated.scheduler.config or {}, f"{where}.scheduler.config")
        schedule = {"kind": _SCHEDULES[cls], **values.plain(optimizer.lr)}
    return {"kind": config.kind(type(optimizer)), **config.plain(optimizer)}, schedule
