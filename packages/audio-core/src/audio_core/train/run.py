"""A training run's folder: what it was asked (recipe.yaml), where it stands (state/), what it said (log.jsonl).

A state is written beside its final name and renamed, so a killed process or a full disk leaves the previous one whole.
Weights are safetensors, counts are JSON, optimizer states load with `weights_only=True`.
"""

from __future__ import annotations

import ctypes
import io
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, GradientAccumulationPlugin
from torch import nn

from .. import command, config
from ..bundle import load_weights, save_weights
from ..files import InputError, read_json, reason, replacing, write_text
from .plan import Plan
from .player import Player


class Run:
    """Where a training stands: `step`s taken, `samples` seen, the accelerator, and the folder that remembers."""

    def __init__(self, folder: str | Path, plan: Plan, device: str = "auto"):
        """Opens `folder` for `plan`, usually a whole recipe that inherits Plan: new, or to go on where it stands."""
        self.folder, self.plan = Path(folder), plan
        self.accelerator = _accelerator(plan, device)
        if self.accelerator.device.type == "cpu":
            _keep_memory()
        self.step, self.samples = max(self.states(), default=0), 0  # `restore` tells how many samples
        self.leaving = False  # true after the last step of this process: the watchers' last chance
        self.stopped: str | None = None  # the signal that ended it early
        self.check_losses: Callable[[], None] = lambda: None  # set by fit: raises if a loss was not finite
        self._claim()
        torch.manual_seed(plan.seed)  # nets built from here on begin alike in every process

    @property
    def main(self) -> bool:
        """Whether this process writes files and talks."""
        return bool(self.accelerator.is_main_process)

    def _claim(self) -> None:
        """The folder is this recipe's, or the differences are named."""
        path = self.folder / "recipe.yaml"
        if path.exists():
            known = config.load(type(self.plan), path)
            changed = [name for name in config.differences(known, self.plan) if name not in self.plan.FREE]
            if changed:
                raise InputError(
                    f"{self.folder}: holds a run with another recipe (different: {', '.join(changed)}); "
                    "choose another folder or the recipe it began with"
                )
        self.accelerator.wait_for_everyone()  # nobody writes before all have compared
        if self.main:
            write_text(path, config.dump(self.plan))
            for leftover in (self.folder / "state").glob(".*"):  # of a process killed while saving
                shutil.rmtree(leftover, ignore_errors=True)
        self.accelerator.wait_for_everyone()

    # --- state ------------------------------------------------------------------------------------

    def states(self) -> dict[int, Path]:
        """The saved states by step, oldest first."""
        return states(self.folder)

    def save(self, players: Mapping[str, Player]) -> None:
        """The state after `step` steps; keeps the newest `plan.keep`."""
        if self.main:
            self._save(players)
        self.accelerator.wait_for_everyone()

    def _save(self, players: Mapping[str, Player]) -> None:
        saved = self.states()
        whole = f"the state of step {max(saved)} is whole" if saved else "no earlier state exists"
        for name, player in players.items():
            if not all(x.isfinite().all() for x in player.raw.state_dict().values() if x.is_floating_point()):
                raise InputError(f"{self.folder}: weights of {name} are not finite after step {self.step}; {whole}")
        scaler = self.accelerator.scaler
        counts = {
            "scaler": scaler.state_dict() if scaler else None,
            "step": self.step,
            "samples": self.samples,
            "updates": {n: p.updates for n, p in players.items()},
        }
        try:
            with replacing(self.folder / "state" / f"step-{self.step:08d}") as temporary:
                temporary.mkdir()
                for name, player in players.items():
                    save_weights(player.raw, temporary / f"{name}.safetensors")
                    if player.average:
                        save_weights(player.average.net, temporary / f"{name}.average.safetensors")
                    state = io.BytesIO()  # Python writes it: torch's own writer hides why a write failed
                    torch.save(player.bare_optimizer.state_dict(), state)
                    (temporary / f"{name}.optimizer.pt").write_bytes(state.getbuffer())
                (temporary / "run.json").write_text(json.dumps(counts))
        except InputError as error:
            raise InputError(f"{error}; {whole}") from error
        for step in stale(self.states(), self.plan.keep):
            shutil.rmtree(self.folder / "state" / f"step-{step:08d}", ignore_errors=True)

    def restore(self, players: Mapping[str, Player]) -> None:
        """The newest state into the players and the counts; or a fresh start when there is none."""
        saved = self.states()
        if not saved:
            return
        path = saved[max(saved)]
        try:
            counts = read_json(path / "run.json")
            for name, player in players.items():
                load_weights(player.raw, path / f"{name}.safetensors")
                if player.average:
                    load_weights(player.average.net, path / f"{name}.average.safetensors")
                optimizer = torch.load(path / f"{name}.optimizer.pt", map_location="cpu", weights_only=True)
                player.bare_optimizer.load_state_dict(optimizer)
                player.updates = int(counts["updates"][name])
            self.step, self.samples = int(counts["step"]), int(counts["samples"])
            if self.accelerator.scaler and counts.get("scaler"):
                self.accelerator.scaler.load_state_dict(counts["scaler"])
        except Exception as error:  # whatever a damaged file makes its reader say
            hint = "delete this folder to go on from the state before"
            raise InputError(f"{path}: cannot be read: {reason(error)}; {hint}") from error

    def close(self) -> None:
        """Ends the process group; the last thing a training command does."""
        self.accelerator.wait_for_everyone()  # a process must not find the others gone
        self.accelerator.end_training()


def states(folder: str | Path) -> dict[int, Path]:
    """The saved states of a run by step, oldest first."""
    found = {}
    for path in (Path(folder) / "state").glob("step-*"):
        if (match := re.fullmatch(r"step-(\d+)", path.name)) and (path / "run.json").exists():
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def stale(steps: Iterable[int], keep: int) -> list[int]:
    """The steps beyond the newest `keep`, compared as numbers: step 100,000 is newer than step 99,999."""
    return sorted(steps)[:-keep]


def _accelerator(plan: Plan, device: str) -> Accelerator:
    # Accelerate joins the processes of a CPU run only when told that it is one.
    cpu = command.device(device) == "cpu"
    if not torch.distributed.is_initialized():  # a second run in one process may have another precision
        AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(
        cpu=cpu,
        mixed_precision=plan.precision,
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=plan.accumulate, sync_with_dataloader=False),
        step_scheduler_with_optimizer=False,
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    if plan.precision == "fp16" and accelerator.device.type == "cpu":
        raise InputError("precision=fp16 needs a GPU; use bf16 or no on a CPU")
    return accelerator


def _keep_memory() -> None:
    """What is freed stays with the process: glibc would fetch large tensors from the kernel in every step anew, which
    takes up to a quarter of a training on a CPU."""
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):  # musl has none
        most_maps, trim_threshold = -4, -1
        mallopt(most_maps, 0)
        mallopt(trim_threshold, 2**31 - 1)


def load_state(net: nn.Module, folder: str | Path, name: str) -> None:
    """The newest weights of player `name` of a run, averaged where there are such: for `export` and `evaluate`."""
    saved = states(folder)
    if not saved:
        raise InputError(f"{folder}: holds no saved state of a run")
    path = saved[max(saved)] / f"{name}.safetensors"
    average = path.with_name(f"{name}.average.safetensors")
    load_weights(net, average if average.exists() else path)
