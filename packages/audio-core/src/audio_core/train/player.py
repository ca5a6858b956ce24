"""A network that learns, and what a package writes to teach it."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from .average import Average

Metrics = Mapping[str, Tensor]  # detached scalars; the log reads them, never the task


class Player:
    """A network that learns: the net, its optimizer, its schedule (update -> factor), its clip, its averaged copy."""

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
        self.updates = 0  # all the state a schedule needs
        self.loss = self.norm = torch.tensor(0.0)  # of the last update, for the log

    def join(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        with (
            warnings.catch_warnings()
        ):  # PyTorch renames `broadcast_buffers`, Accelerate does not know the new name yet
            warnings.filterwarnings("ignore", ".*broadcast_buffers", FutureWarning)
            self.net, self.optimizer = accelerator.prepare(self.raw, self.bare_optimizer)
        self.loss, self.norm = self.loss.to(accelerator.device), self.norm.to(accelerator.device)
        if self.average:
            self.average.net.to(accelerator.device)

    def __call__(self, *inputs: Any) -> Any:
        return self.net(*inputs)  # through the wrapper: gradients synchronise

    @contextmanager
    def judging(self) -> Iterator[nn.Module]:
        """The bare net, frozen: gradients pass through it and leave nothing behind."""
        learning = [parameter for parameter in self.raw.parameters() if parameter.requires_grad]
        for parameter in learning:
            parameter.requires_grad_(False)
        try:
            yield self.raw
        finally:
            for parameter in learning:
                parameter.requires_grad_(True)

    def update(self, loss: Tensor) -> None:
        """Gradients of `loss`; once a step, when all its parts are accumulated, the optimizer moves."""
        self.loss = loss.detach()
        self.accelerator.backward(loss)
        if not self.accelerator.sync_gradients:  # still accumulating
            return
        if self.clip:
            self.norm = self.accelerator.clip_grad_norm_(self.net.parameters(), self.clip).detach()
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
    """What a package writes: who learns, what one step of learning is, how good the result is."""

    players: Mapping[str, Player]

    def step(self, batch: Any, at: int) -> Metrics:
        """Forward, losses, player.update(loss). The batch is on the device; random draws are seeded before.

        Accumulation equals a larger batch when no loss is computed by a net that moved earlier in the same step:
        let the net learn from its discriminator first, then the discriminator from what the net had made.
        """

    def evaluate(self, batch: Any) -> Metrics:
        """Without gradients, nets in eval mode; means over the batch, averaged over all batches by the watcher."""

    def release(self) -> nn.Module:
        """What `export` saves: averaged weights, no discriminators."""
