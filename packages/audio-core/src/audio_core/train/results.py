"""Reading a run's folder: its recipe, its log and evaluations, its weights. Imports no accelerate."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from .. import config
from ..files import InputError, read_json, reason

if TYPE_CHECKING:
    from torch import nn

T = TypeVar("T")
BEST = "best.safetensors"


def recipe_of(folder: str | Path, cls: type[T]) -> T:
    """The recipe of the run in `folder`, an instance of `cls`."""
    folder = Path(folder)
    if not (folder / "recipe.yaml").exists():
        inside = sorted(folder.glob("*/recipe.yaml"))
        hint = f"; {inside[0].parent} does" if inside else ""
        raise InputError(f"{folder}: holds no training run (no recipe.yaml){hint}")
    return config.load(cls, folder / "recipe.yaml")


class Outcome(NamedTuple):
    """A training that came to its end, as the verb `train` shows it."""

    folder: Path
    steps: int

    @property
    def bundles(self) -> list[Path]:
        return [self.folder / "bundle"]

    def plain(self) -> dict[str, Any]:
        """The last evaluation, for JSON."""
        return results(self.folder)

    def table(self) -> str:
        """The last evaluation, for people."""
        values = {name: value for name, value in self.plain().items() if isinstance(value, float) and name != "time"}
        lines = [f"{name} {value:.4g}" for name, value in values.items()]
        return "\n".join(lines) or f"{self.steps} steps done; nothing was held out to evaluate on"


# --- the log -----------------------------------------------------------------------------------------------


def journal(folder: str | Path) -> list[dict[str, Any]]:
    """The entries of a run's log.jsonl in order; lines that are damaged or cut are left out."""
    path = Path(folder) / "log.jsonl"
    try:
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    except OSError as error:
        raise InputError(f"{path}: {reason(error)}") from error
    return [entry for line in text.split("\n") if (entry := _entry(line))]


def _entry(line: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    whole = isinstance(entry, dict) and isinstance(entry.get("kind"), str) and type(entry.get("step")) is int
    return entry if whole else None


def results(folder: str | Path, best: bool = False) -> dict[str, Any]:
    """The metrics and the step of a run's last evaluation, or of its best; empty where nothing was evaluated."""
    if best:
        return best_results(folder) or {}
    evaluations = [entry for entry in journal(folder) if entry["kind"] == "evaluate"]
    return evaluations[-1] if evaluations else {}


def best_results(folder: str | Path) -> dict[str, Any] | None:
    """The step and the metrics of the best evaluation: they are stored with its weights."""
    from ..weights import metadata

    path = Path(folder) / BEST
    if not path.exists():
        return None
    if text := metadata(path).get("evaluation"):
        try:
            return dict(json.loads(text))
        except (ValueError, TypeError, RecursionError) as error:
            raise InputError(f"{path}: the numbers in its header are damaged: {reason(error)}; delete it") from None
    old = path.with_suffix(".json")  # runs of version 0.1.0 kept them in a file of their own
    return dict(read_json(old)) if old.exists() else None


# --- weights -----------------------------------------------------------------------------------------------


def states(folder: str | Path) -> dict[int, Path]:
    """The saved states of a run by step, oldest first."""
    paths = (Path(folder) / "state").glob("step-*")
    steps = ((re.fullmatch(r"step-(\d+)", path.name), path) for path in paths if (path / "run.json").exists())
    return dict(sorted((int(match[1]), path) for match, path in steps if match))


def stale(steps: Iterable[int], keep: int) -> list[int]:
    """The steps older than the newest `keep`, compared as numbers: step 100,000 is newer than step 99,999."""
    return sorted(steps)[:-keep]


def load_trained(
    net: nn.Module, folder: str | Path, name: str, best: bool = False, released: nn.Module | None = None
) -> None:
    """Load the newest weights of player `name` of a run into `net`: the averaged ones, where they exist.

    With `best` the weights of its best evaluation are loaded, into the part of `net` that the task releases, by default
    all of it.
    """
    from ..weights import load_weights

    if best:
        path = Path(folder) / BEST
        if not path.exists():
            raise InputError(f"{folder}: was never evaluated, so there is no best; export the last weights")
        load_weights(net if released is None else released, path)
        return
    saved = states(folder)
    if not saved:
        raise InputError(f"{folder}: holds no saved state of a run")
    path = saved[max(saved)] / f"{name}.safetensors"
    average = path.with_name(f"{name}.average.safetensors")
    load_weights(net, average if average.exists() else path)
