"""`Run`, a training run and its folder: the recipe (recipe.yaml) and the saved states (state/).

A state is written beside its final name and renamed, so a killed process or a full disk leaves the previous one whole.
Weights are safetensors, counts are JSON, optimizer states load with `weights_only=True`. One training at a time: the
main process locks the folder.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from accelerate.utils import DistributedDataParallelKwargs, GradientAccumulationPlugin, broadcast_object_list

from .. import command, config
from ..files import InputError, note, read_json, reason, replacing, write_text
from ..weights import divided, load_weights, save_weights, whole
from . import sharded
from .lock import lock, unlock
from .plan import Plan
from .player import Player
from .results import BEST, stale, states


class Run:
    """The progress of a training (`step`, `samples`), its accelerator, and the folder with its states."""

    def __init__(
        self, folder: str | Path, plan: Plan, device: str = "auto", items: int | None = None, quiet: bool = False
    ):
        """Open `folder` for a new run, or to go on with the run in it. `plan` is usually a recipe that inherits Plan.

        `items` is the length of the training data, which turns a plan's epochs into steps.
        """
        self.folder, self.quiet = Path(folder), quiet
        self.plan = replace(plan, steps=plan.total_steps(items))
        self.accelerator = _accelerator(plan, device)
        self._claim()
        self.step, self.samples = max(self.states(), default=0), 0  # `restore` reads the samples
        self.leaving = False  # true after the last step of this process; watchers act then for the last time
        self.stopped: str | None = None  # the signal that ended it early
        self.check_losses: Callable[[], None] = lambda: None  # set by fit: raises if a loss was not finite
        torch.manual_seed(plan.seed)  # nets built from here on begin alike in every process

    @property
    def main(self) -> bool:
        """Whether this process writes files and prints."""
        return bool(self.accelerator.is_main_process)

    @property
    def finished(self) -> bool:
        """Whether the last step of the plan was taken. Otherwise a signal ended the run, and the next start goes on."""
        return self.step >= self.plan.steps

    def _claim(self) -> None:
        """Lock the folder and compare its recipe; where that fails, all processes raise the same error."""
        error: str | None = None
        if self.main:
            new = False
            try:
                new = lock(self.folder)
                self._compare()
                if not self.states():  # what was best then is not of this run
                    (self.folder / BEST).unlink(missing_ok=True)
                write_text(self.folder / "recipe.yaml", config.dump(self.plan))
                for leftover in (self.folder / "state").glob(".*"):  # of a process killed while saving
                    shutil.rmtree(leftover, ignore_errors=True)
            except InputError as problem:
                error = str(problem)
                if new:
                    unlock(self.folder)
        (error,) = broadcast_object_list([error])  # all processes wait for the main one
        if error:
            raise InputError(error)

    def _compare(self) -> None:
        path = self.folder / "recipe.yaml"
        if not path.exists() or not self.states():  # nothing was learnt by it
            return
        earlier = config.load(type(self.plan), path)
        changed = [name for name in config.differences(earlier, self.plan) if name not in self.plan.FREE]
        if changed:
            raise InputError(
                f"{self.folder}: holds a run with another recipe (different: {', '.join(changed)}); "
                "choose another folder or the recipe it began with"
            )

    # --- state ------------------------------------------------------------------------------------

    def states(self) -> dict[int, Path]:
        """The saved states by step, oldest first."""
        return states(self.folder)

    def save(self, players: Mapping[str, Player]) -> None:
        """Save the state after `step` steps, and delete all but the newest `plan.keep`."""
        gathered = {name: self._gathered(player) for name, player in players.items()}
        if self.main:
            self._save(players, gathered)
        self.accelerator.wait_for_everyone()

    def _gathered(self, player: Player) -> dict[str, Any]:
        """What a state holds of a player, in the main process with whole tensors."""
        weights, optimizer = player.raw.state_dict(), player.bare_optimizer.state_dict()
        average = player.average.net.state_dict() if player.average else {}
        return dict(whole({"weights": weights, "average": average, "optimizer": optimizer}, self.main))

    def _save(self, players: Mapping[str, Player], gathered: Mapping[str, dict[str, Any]]) -> None:
        saved = self.states()
        before = f"the state of step {max(saved)} is whole" if saved else "no earlier state exists"
        for name, parts in gathered.items():
            if not all(x.isfinite().all() for x in parts["weights"].values() if x.is_floating_point()):
                raise InputError(f"{self.folder}: weights of {name} are not finite after step {self.step}; {before}")
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
                    parts = gathered[name]
                    save_weights(player.raw, temporary / f"{name}.safetensors", state=parts["weights"])
                    if player.average:
                        path = temporary / f"{name}.average.safetensors"
                        save_weights(player.average.net, path, state=parts["average"])
                    with (temporary / f"{name}.optimizer.pt").open("wb") as file:
                        _torch_save(parts["optimizer"], file)
                (temporary / "run.json").write_text(json.dumps(counts))
        except InputError as error:
            raise InputError(f"{error}; {before}") from error
        for step in stale(self.states(), self.plan.keep):
            shutil.rmtree(self.folder / "state" / f"step-{step:08d}", ignore_errors=True)

    def restore(self, players: Mapping[str, Player]) -> None:
        """Load the newest state into the players and the counts. Without a state the run starts anew."""
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
                player.bare_optimizer.load_state_dict(_divided(optimizer, player.bare_optimizer))
                player.updates = int(counts["updates"][name])
            self.step, self.samples = int(counts["step"]), int(counts["samples"])
            if self.accelerator.scaler and counts.get("scaler"):
                self.accelerator.scaler.load_state_dict(counts["scaler"])
        except Exception as error:  # a damaged file can raise anything
            hint = "delete this folder to go on from the state before"
            raise InputError(f"{path}: cannot be read: {reason(error)}; {hint}") from error
        if self.main and not self.quiet and self.step < self.plan.steps:
            note(f"{self.folder}: goes on at step {self.step}")

    def close(self) -> None:
        """Unlock the folder and end the process group. Call it last, after the bundle is written."""
        self.accelerator.wait_for_everyone()  # no process may leave before the others are done
        if self.main:
            unlock(self.folder)
        self.accelerator.end_training()


def _accelerator(plan: Plan, device: str) -> Accelerator:
    sharded.expect_possible(plan.SHARDS)
    # Accelerate joins the processes of a CPU run only when it is asked for the CPU.
    cpu = command.device(device) == "cpu"
    if not torch.distributed.is_initialized():  # a second run in one process may have another precision
        AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(
        cpu=cpu,
        log_with=_tracker(plan.tracker),
        mixed_precision=plan.precision,
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=plan.accumulate, sync_with_dataloader=False),
        step_scheduler_with_optimizer=False,
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    sharded.settle(accelerator)
    if plan.precision == "fp16" and accelerator.device.type == "cpu":
        raise InputError("precision=fp16 needs a GPU; use bf16 or no on a CPU")
    return accelerator


def _divided(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The state of an optimizer, whose moments are divided among processes as its parameters are."""
    parameters = dict(enumerate(each for group in optimizer.param_groups for each in group["params"]))
    moments = {
        at: {name: divided(x, parameters[at]) if x.shape == parameters[at].shape else x for name, x in values.items()}
        for at, values in state["state"].items()
    }
    return {**state, "state": moments}


def _tracker(name: str) -> str | None:
    """A name that Accelerate has a tracker for, which would drop one that is not installed without a word."""
    known = sorted(key for key, tracker in LOGGER_TYPE_TO_CLASS.items() if not tracker.requires_logging_directory)
    if name and name not in known:
        raise InputError(f"tracker={name}: unknown; known are {', '.join(known)}")
    if name and name not in {str(each) for each in get_available_trackers()}:
        raise InputError(f"tracker={name}: is not installed; install it, or leave this setting out")
    return name or None


def _torch_save(state: Any, file: IO[bytes]) -> None:
    """Write straight to the file. PyTorch's writer hides the cause of a failed write, so it is kept here."""
    errors: list[OSError] = []

    class Writer:
        flush = file.flush

        def write(self, data: bytes) -> int:
            try:
                return file.write(data)
            except OSError as error:
                errors.append(error)
                raise

    try:
        torch.save(state, Writer())
    except RuntimeError:
        if errors:
            raise errors[0] from None
        raise
