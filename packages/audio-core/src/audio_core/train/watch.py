"""Watchers: logging, saving, evaluating and listening. Each is called after every step and decides when to act."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, send_to_device
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from .. import audio, config
from ..data.segments import Fixed
from ..files import InputError, note, reason, replacing, write_text
from ..weights import save_weights, whole
from .fit import start_worker
from .player import Task, set_training
from .results import BEST, best_results, journal
from .run import Run


class Journal:
    """Writes log.jsonl, to TensorBoard where it is installed, and to the recipe's tracker; in the main process only."""

    def __init__(self, run: Run):
        self.run, self.path, self.board = run, run.folder / "log.jsonl", None
        if not run.main:
            return
        if self.path.exists():  # lines after the restored state belong to steps that are taken again
            kept = [entry for entry in journal(run.folder) if entry["step"] <= run.step]
            write_text(self.path, "".join(json.dumps(entry) + "\n" for entry in kept))
        if run.plan.tracker:
            project = type(run.plan).__module__.partition(".")[0].replace("_", "-")
            named = {"name": run.folder.name} if run.plan.tracker == "wandb" else {}
            run.accelerator.init_trackers(project, {"recipe": config.dump(run.plan)}, {run.plan.tracker: named})
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self.board = SummaryWriter(str(run.folder / "tensorboard"), purge_step=run.step + 1)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        """End the thread that writes for TensorBoard, and the tracker's run; one that goes on is a new one there."""
        if self.board:
            self.board.close()
        for tracker in self.run.accelerator.trackers:
            tracker.finish()
        self.run.accelerator.trackers = []

    def scalars(self, group: str, values: Mapping[str, float]) -> None:
        if not self.run.main:
            return
        entry = {"step": self.run.step, "kind": group, "time": round(time.time(), 3)}
        # JSON has no NaN: a metric that is not a number is null.
        entry |= {name: float(f"{value:.7g}") if math.isfinite(value) else None for name, value in values.items()}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written: {reason(error)}") from error
        if self.run.plan.tracker:
            self.run.accelerator.log({f"{group}/{name}": value for name, value in values.items()}, self.run.step)
        if self.board:
            for name, value in values.items():
                self.board.add_scalar(f"{group}/{name}", value, self.run.step)

    def sound(self, name: str, samples: np.ndarray, rate: int) -> None:
        """Write (C, T) samples and their spectrogram to audio/ and to TensorBoard."""
        from ..draw import png, spectrogram_image

        folder = self.run.folder / "audio" / f"step-{self.run.step:08d}"
        pixels = spectrogram_image(samples, rate)
        audible = np.clip(samples, -1, 1)
        audio.write(folder / f"{name}.wav", audible, rate)
        (folder / f"{name}.png").write_bytes(png(pixels))
        if self.board:
            self.board.add_audio(name, torch.from_numpy(audible.mean(0)), self.run.step, sample_rate=rate)
            self.board.add_image(name, pixels, self.run.step, dataformats="HWC")


class Log:
    """Writes means of the metrics, learning rates and speed to the console and the journal, every `log_every` steps.

    Where some steps lack a metric, its mean is over the others. These must be the same in all processes.
    """

    def __init__(self, journal: Journal, quiet: bool = False):
        self.journal, self.quiet = journal, quiet
        self.values: dict[str, list[Tensor]] = {}
        self.updates: dict[str, int] = {}
        self.count, self.since = 0, time.perf_counter()

    def __call__(self, task: Task, metrics: Mapping[str, Tensor], run: Run) -> None:
        moved = [name for name, player in task.players.items() if player.updates != self.updates.get(name, 0)]
        self.updates = {name: player.updates for name, player in task.players.items()}
        norms = {f"norm/{name}": task.players[name].norm for name in moved if task.players[name].clip}
        for name, value in {**metrics, **norms}.items():
            self.values.setdefault(name, []).append(value.detach())
        self.count += 1
        if run.step % run.plan.log_every and not run.leaving:
            return
        names, device = list(self.values), run.accelerator.device
        own = [torch.stack(steps).float().mean().to(device) for steps in self.values.values()]
        means = run.accelerator.reduce(torch.stack(own or [torch.zeros((), device=device)]), "mean").tolist()
        now = time.perf_counter()
        speed = self.count / max(now - self.since, 1e-9)
        self.values, self.count, self.since = {}, 0, now
        values = dict(zip(names, means, strict=False))
        rates = {f"rate/{name}": player.optimizer.param_groups[0]["lr"] for name, player in task.players.items()}
        self.journal.scalars("train", {**values, **rates, "steps_per_second": speed})
        if run.main and not self.quiet:
            losses = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
            left = clock((run.plan.steps - run.step) / speed)
            note(f"step {run.step}/{run.plan.steps}  {losses}  {speed:.3g} steps/s  {left} left")


def clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class Save:
    """Saves the state of the run every `save_every` steps and at the end."""

    def __call__(self, task: Task, metrics: Mapping[str, Tensor], run: Run) -> None:
        if run.step % run.plan.save_every == 0 or run.leaving:
            run.check_losses()  # so that no state is saved after a loss that is not finite
            run.save(task.players)


class Evaluate:
    """Runs `task.evaluate` on `data` every `evaluate_every` steps and at the end, and keeps the best weights.

    `data` may be several sets by name, whose metrics are then called set/metric. `best` names the metric that decides
    which weights are best; with `lower` a lower value is better. best.safetensors holds the weights of
    `task.release()`, with step and metrics in its header.
    """

    def __init__(
        self, journal: Journal, data: Any, batch: int, best: str | None = None, lower: bool = False, quiet: bool = False
    ):
        self.journal, self.batch, self.best, self.lower, self.quiet = journal, batch, best, lower, quiet
        self.sets = data if isinstance(data, Mapping) else {"": data}
        fewest, processes = min(map(len, self.sets.values())), journal.run.accelerator.num_processes
        if fewest < processes:  # before the first step and not after the last
            raise InputError(f"{fewest} items to evaluate on are too few for {processes} processes; see data.held_out")

    def __call__(self, task: Task, metrics: Mapping[str, Tensor], run: Run) -> None:
        if run.step % run.plan.evaluate_every and not run.finished:
            return
        values = self._values(task, run)
        if self.best not in (None, *values):  # known to all processes, so that all of them leave
            raise InputError(f"{self.best} is to decide which evaluation is best; there are {', '.join(values)}")
        self.journal.scalars("evaluate", values)
        if run.main and not self.quiet:
            note(f"step {run.step}  evaluation: " + "  ".join(f"{name} {x:.4g}" for name, x in values.items()))
        self._keep_best(task, values, run)

    def _values(self, task: Task, run: Run) -> dict[str, float]:
        values: dict[str, float] = {}
        for name, data in self.sets.items():
            of_set = evaluate(task, data, self.batch, run.accelerator, run.plan.workers)
            values |= {f"{name}/{metric}" if name else metric: value for metric, value in of_set.items()}
        return values

    def _keep_best(self, task: Task, values: Mapping[str, float], run: Run) -> None:
        (better,) = broadcast_object_list([run.main and self._is_best(values, run)])
        if not better:
            return
        released = task.release()
        state = whole(released.state_dict(), run.main)
        if not run.main:
            return
        numbers = {name: value if math.isfinite(value) else None for name, value in values.items()}
        with replacing(run.folder / BEST) as temporary:  # weights and metrics in one file are never of two steps
            header = {"evaluation": json.dumps({"step": run.step, **numbers})}
            save_weights(released, temporary, header, state)

    def _is_best(self, values: Mapping[str, float], run: Run) -> bool:
        if self.best is None or not math.isfinite(values[self.best]):
            return False
        earlier = best_results(run.folder)
        if earlier and earlier["step"] > run.step:  # from steps that were lost and are taken again
            earlier = None
        record, sign = earlier.get(self.best) if earlier else None, -1 if self.lower else 1
        return record is None or sign * values[self.best] > sign * record


@contextmanager
def resting(task: Task) -> Iterator[None]:
    """Eval mode without gradients for the `with` block, so that the block changes no training step."""
    for player in task.players.values():
        player.raw.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        set_training(task)


def evaluate(task: Task, data: Any, batch: int, accelerator: Accelerator, workers: int = 0) -> dict[str, float]:
    """Means of the metrics over all items of `data`. Each of n processes takes every n-th; NaN values are left out."""
    mine: Any = Subset(data, range(accelerator.process_index, len(data), accelerator.num_processes))
    most = math.ceil(math.ceil(len(data) / accelerator.num_processes) / batch)  # batches of any process
    sums: dict[str, Tensor] = {}  # of each metric, and how many items it is over
    batches = DataLoader(
        mine,
        batch,
        collate_fn=getattr(data, "collate", None),
        num_workers=min(workers, math.ceil(len(mine) / batch)),
        worker_init_fn=start_worker,
        generator=torch.Generator(),  # its own, so that an evaluation draws nothing from the global one
    )
    with resting(task):
        left = iter(batches)
        for at in range(most):
            if fresh := at < len(batches):  # or else once more, for nothing: FSDP's processes run networks together
                items = next(left)
            for name, value in task.evaluate(send_to_device(items, accelerator.device)).items():
                size = fresh * _length(items) * value.detach().isfinite()
                pair = torch.stack([value.detach().nan_to_num(0.0, 0.0, 0.0) * size, size]).float()
                sums[name] = sums.get(name, torch.zeros(2)) + pair.cpu()
    names = sorted(sums)
    totals = accelerator.reduce(torch.stack([sums[name] for name in names]).to(accelerator.device), "sum")
    return dict(zip(names, (totals[:, 0] / totals[:, 1]).tolist(), strict=True))


def _length(items: Any) -> int:
    if isinstance(items, Mapping):
        return _length(next(iter(items.values())))
    return len(items[0]) if isinstance(items, list | tuple) else len(items)


def reconstructions(task: Task, clips: Fixed, run: Run) -> dict[str, Tensor]:
    """For `Listen`, where a codec is trained: the first clips (C, T), and what it gives back of them."""
    sounds: dict[str, Tensor] = {}
    for at in range(min(3, len(clips))):
        clip = clips[at][None].to(run.accelerator.device)
        sounds |= {f"clip{at}": clip[0], f"clip{at}-decoded": task.release()(clip).audio[0]}
    return sounds


class Listen:
    """Writes sounds of the task, as audio and spectrogram, every `evaluate_every` steps.

    `sounds()` returns samples (C, T) by name.
    """

    def __init__(self, journal: Journal, sounds: Callable[[], Mapping[str, Tensor]], rate: int):
        self.journal, self.sounds, self.rate = journal, sounds, rate

    def __call__(self, task: Task, metrics: Mapping[str, Tensor], run: Run) -> None:
        if run.main and (run.step % run.plan.evaluate_every == 0 or run.finished):
            with resting(task):
                for name, samples in self.sounds().items():
                    self.journal.sound(name, samples.float().cpu().numpy(), self.rate)
