"""The training loop of all packages."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from accelerate.utils import send_to_device
from torch import Tensor
from torch.utils.data import DataLoader

from ..data.seeds import mix
from ..files import InputError, note
from .plan import Plan
from .player import Task, frozen, set_training
from .run import Run

# Called after every step; decides itself at which steps it acts.
Watcher = Callable[[Task, Mapping[str, Tensor], Run], None]


def fit(task: Task, data: Any, run: Run, watchers: Sequence[Watcher] = ()) -> None:
    """Train the task on `data` from the step where `run` stands to the last one of its plan, or until a signal.

    `data[index]` is a pure function of the index, for every index from 0 on. `data.name(index)`, if it exists, names
    the sample in messages.
    """
    accelerator, plan = run.accelerator, run.plan
    if plan.precision == "fp16" and len(task.players) > 1:
        raise InputError("precision=fp16 cannot train a discriminator beside the model; give precision=bf16")
    for module in frozen(task):
        module.to(accelerator.device).requires_grad_(False)
    for player in task.players.values():
        player.join(accelerator)
    run.restore(task.players)  # after joining, which moves the step counts of optimizers to the GPU
    nets = [player.net for player in task.players.values()]
    averages = [player.average.net for player in task.players.values() if player.average]
    set_training(task)
    guard = Guard(task, data, run)
    run.check_losses = guard.check
    batches = iter(loader(data, plan, run))
    with _stopping(run):
        while not run.finished and not run.leaving:
            parts = []
            for micro in range(plan.accumulate):
                batch = send_to_device(next(batches), accelerator.device, non_blocking=True)
                # After the fetch, so that neither it nor the last step changes the random numbers of this step.
                _seed(mix(plan.seed, run.step, micro, accelerator.process_index))
                with accelerator.accumulate(*nets):
                    parts.append(task.step(batch, run.step))
            metrics = parts[0] if len(parts) == 1 else _mean(parts)
            guard.watch(metrics)
            same_statistics([*nets, *averages], run)
            run.step += 1
            run.samples += plan.batch * plan.accumulate * accelerator.num_processes
            run.leaving = run.finished or _everyone_stops(run)
            for watch in watchers:
                watch(task, metrics, run)
        guard.check()


@torch.no_grad()
def same_statistics(nets: Sequence[torch.nn.Module], run: Run) -> None:
    """Copy the running statistics of the first process to all others, after every step.

    Otherwise they would change only at a save or an evaluation, and the results would depend on these.
    """
    if run.accelerator.num_processes == 1:
        return
    by_type: dict[torch.dtype, list[Tensor]] = {}
    for buffer in running_statistics(nets):
        by_type.setdefault(buffer.dtype, []).append(buffer)
    for buffers in by_type.values():
        joined = torch.cat([buffer.flatten() for buffer in buffers])  # one message in place of one for each buffer
        torch.distributed.broadcast(joined, 0)
        for buffer, part in zip(buffers, joined.split([buffer.numel() for buffer in buffers]), strict=True):
            buffer.copy_(part.view_as(buffer))


def running_statistics(nets: Sequence[torch.nn.Module]) -> Iterator[Tensor]:
    """The buffers that depend on the batch of a process: those of batch normalisation, and those that a module lists.

    A module lists them by name in `running_buffers`.
    """
    usual = ("running_mean", "running_var", "num_batches_tracked")
    for net in nets:
        for module in net.modules():
            names = {*usual, *getattr(module, "running_buffers", ())}
            yield from (buffer for name, buffer in module.named_buffers(recurse=False) if name in names)


def loader(data: Any, plan: Plan, run: Run) -> DataLoader:
    """Endless batches from sample `run.samples` on; process r of n takes batch r of every n."""
    first = run.samples + plan.batch * run.accelerator.process_index
    return DataLoader(
        data,
        batch_sampler=_Batches(first, plan.batch, plan.batch * run.accelerator.num_processes),
        num_workers=plan.workers,
        collate_fn=getattr(data, "collate", None),
        generator=torch.Generator().manual_seed(plan.seed),  # its own: the global one belongs to the step
        worker_init_fn=start_worker,
        pin_memory=run.accelerator.device.type == "cuda",
    )


class _Batches:
    def __init__(self, first: int, size: int, stride: int):
        self.first, self.size, self.stride = first, size, stride

    def __iter__(self) -> Iterator[list[int]]:
        at = self.first
        while True:
            yield list(range(at, at + self.size))
            at += self.stride


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 (libraries inside a task may draw from it)


def _mean(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}


class Guard:
    """Stops a run when a loss is not finite; the message names the step, the losses and the samples.

    Reading a loss makes a GPU wait, so on a GPU losses are read every ten steps, and always before a state is saved.
    """

    def __init__(self, task: Task, data: Any, run: Run):
        self.task, self.data, self.run = task, data, run
        self.patience = 1 if run.accelerator.device.type == "cpu" else 10
        self.pending: list[tuple[int, int, dict[str, Tensor]]] = []

    def watch(self, metrics: Mapping[str, Tensor]) -> None:
        losses = {f"the loss of {name}": player.loss for name, player in self.task.players.items()}
        self.pending.append((self.run.step, self.run.samples, {**metrics, **losses}))
        if len(self.pending) >= self.patience:
            self.check()

    def check(self) -> None:
        pending, self.pending = self.pending, []
        for step, samples, terms in pending:
            tensors = [torch.as_tensor(term, device=self.run.accelerator.device) for term in terms.values()]
            finite = torch.stack([tensor.detach().isfinite().all() for tensor in tensors]).tolist()
            if not all(finite):
                bad = [name for name, fine in zip(terms, finite, strict=True) if not fine]
                saved = self.run.states()
                kept = f"the state of step {max(saved)} is kept" if saved else "no state was saved before"
                raise InputError(f"step {step}: {', '.join(bad)} not finite; {kept}; the batch: {self._names(samples)}")

    def _names(self, samples: int) -> str:
        plan, accelerator = self.run.plan, self.run.accelerator
        name = getattr(self.data, "name", lambda index: f"sample {index}")
        stride = plan.batch * accelerator.num_processes
        starts = [samples + plan.batch * accelerator.process_index + micro * stride for micro in range(plan.accumulate)]
        indices = [index for start in starts for index in range(start, start + plan.batch)]
        shown = ", ".join(name(index) for index in indices[:8])
        return shown + (f" and {len(indices) - 8} more" if len(indices) > 8 else "")


# --- leaving on a signal --------------------------------------------------------------------------


@contextmanager
def _stopping(run: Run) -> Iterator[None]:
    """On SIGTERM or Ctrl-C the loop saves and ends; a second Ctrl-C interrupts it at once."""

    def ask(number: int, frame: object) -> None:
        if run.stopped and number == signal.SIGINT:
            raise KeyboardInterrupt
        run.stopped = signal.Signals(number).name
        if run.main:
            note(f"{run.stopped}: saving after this step")

    if threading.current_thread() is not threading.main_thread():  # only there may signals be handled
        yield
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _everyone_stops(run: Run) -> bool:
    """Whether any process was asked to stop. Processes exchange this every tenth step, since it takes time."""
    if run.accelerator.num_processes == 1:
        return run.stopped is not None
    if run.step % 10:
        return False
    asked = torch.tensor(float(run.stopped is not None), device=run.accelerator.device)
    if stops := bool(run.accelerator.reduce(asked, "sum").item()):
        run.stopped = run.stopped or "SIGTERM"
    return stops


def start_worker(worker: int) -> None:
    """A loader's worker ignores signals to the whole process group: the training ends it, also when that is killed.

    (PyTorch's own watch does not notice that while a worker waits for room in the queue.)
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, daemon=True).start()


def _follow_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os._exit(1)
