"""`Player`, a network with its optimizer, and `Task`, the training algorithm that a package writes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from accelerate.utils import fsdp2_prepare_model
from torch import Tensor, nn

from ..files import InputError, reason
from ..weights import whole
from .average import Average
from .sharded import is_sharded

Metrics = Mapping[str, Tensor]  # detached scalars; only the log reads their values


class Player:
    """A network with its optimizer, its schedule (update -> factor), its gradient clipping and its moving average."""

    def __init__(
        self,
        net: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: Callable[[int], float] = lambda update: 1.0,
        clip: float | None = None,
        average: Average | None = None,
    ):
        self.raw = self.net = net
        self.bare_optimizer = self.optimizer = optimizer
        self.schedule, self.clip, self.average = schedule, clip, average
        self.rates = [group["lr"] for group in optimizer.param_groups]
        self.updates = 0  # from which the schedule computes its factor
        self.loss = self.norm = torch.tensor(0.0)  # of the last update, for the log

    def join(self, accelerator: Accelerator) -> None:
        """Move everything to the device, and wrap network and optimizer for several processes."""
        self.accelerator = accelerator
        with warnings.catch_warnings():  # PyTorch renames `broadcast_buffers`, Accelerate has only the old name
            warnings.filterwarnings("ignore", ".*broadcast_buffers", FutureWarning)
            try:
                self.net, self.optimizer = accelerator.prepare(self.raw, self.bare_optimizer)
            except (ValueError, RuntimeError, KeyError) as error:  # of settings of FSDP that do not fit the network
                raise InputError(f"accelerate: {reason(error)[:200]}") from None
        self.loss, self.norm = self.loss.to(accelerator.device), self.norm.to(accelerator.device)
        if is_sharded(accelerator):
            self.net.forward = accelerator.autocast()(self.net.forward)  # which Accelerate leaves out there
        if self.average and is_sharded(accelerator):
            fsdp2_prepare_model(accelerator, self.average.net)
        elif self.average:
            self.average.net.to(accelerator.device)

    def __call__(self, *inputs: Any) -> Any:
        return self.net(*inputs)  # through the wrapper: gradients synchronise

    @contextmanager
    def judging(self) -> Iterator[nn.Module]:
        """Freeze the network for the `with` block: gradients pass through it, but its own weights get none.

        A discriminator is used this way for the generator's adversarial loss.
        """
        learning = [parameter for parameter in self.raw.parameters() if parameter.requires_grad]
        for parameter in learning:
            parameter.requires_grad_(False)
        try:
            yield self.raw
        finally:
            for parameter in learning:
                parameter.requires_grad_(True)

    def update(self, loss: Tensor) -> None:
        """Compute the gradients of `loss`. Once all parts of a step are accumulated, take an optimizer step."""
        self.loss = loss.detach()
        self.accelerator.backward(loss)
        if not self.accelerator.sync_gradients:  # still accumulating
            return
        if self.clip:
            self.norm = whole(self.accelerator.clip_grad_norm_(self.net.parameters(), self.clip)).detach()
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * self.schedule(self.updates)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.accelerator.optimizer_step_was_skipped:  # fp16 found its scale too large
            return
        self.updates += 1
        if self.average:
            self.average.update(self.raw, self.updates)


class Task(Protocol):
    """The training algorithm that a package writes: the players, one training step, the evaluation.

    A task may have `frozen`, a mapping or sequence of modules that never learn: teachers, text encoders, losses with
    weights. `fit` moves them to the device once and keeps them in eval mode without gradients; they are not saved.
    """

    players: Mapping[str, Player]

    def step(self, batch: Any, at: int) -> Metrics:
        """Forward, losses, player.update(loss). The batch is on the device; random draws are seeded before.

        Accumulation equals a larger batch as long as no loss is computed with a network that was updated earlier in the
        same step. So update the generator first, then the discriminator, on the generator's output from before.
        """

    def evaluate(self, batch: Any) -> Metrics:
        """Means over the batch, which the watcher averages. Called without gradients, with networks in eval mode."""

    def release(self) -> nn.Module:
        """The network that `export` saves: with averaged weights, without discriminators."""


def frozen(task: Task) -> list[nn.Module]:
    """The modules of a task that never learn."""
    modules = getattr(task, "frozen", ())
    return list(modules.values() if isinstance(modules, Mapping) else modules)


def set_training(task: Task) -> None:
    """Set the players' networks to train mode, and frozen modules to eval mode."""
    for player in task.players.values():
        player.net.train()
    for module in frozen(task):
        module.eval()
