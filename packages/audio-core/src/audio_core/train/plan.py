"""The settings that every training recipe inherits: length, batches, seed, precision, intervals."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from ..checks import within
from ..command import processes
from ..files import InputError


@dataclass(frozen=True, kw_only=True)
class Plan:
    steps: int = 1000
    """Training steps in all; a finished run goes on when this is raised."""
    epochs: float | None = None
    """The length in passes over the training data, in place of steps; only for data that have a length."""
    batch: int = 16
    """Samples in one forward pass of one process."""
    accumulate: int = 1
    """Forward passes a step: the effective batch is batch * accumulate * processes."""
    seed: int = 0
    """Decides the order of samples and every random draw."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision; fp16 needs a GPU, and cannot train a discriminator beside the model."""
    workers: int = 2
    """Loader processes; 0 loads in the training process. The result does not depend on it."""
    log_every: int = 50
    """Steps between two lines of the log."""
    evaluate_every: int = 1000
    """Steps between two evaluations."""
    save_every: int = 1000
    """Steps between two saved states."""
    keep: int = 3
    """How many saved states stay on disk, the newest ones."""
    tracker: str = ""
    """Where scalars go beside the log: wandb, trackio, mlflow or another that Accelerate knows; to be installed."""

    # Settings that may change when a run goes on, since they do not alter earlier steps.
    FREE: ClassVar[frozenset[str]] = frozenset(
        {"steps", "epochs", "workers", "log_every", "evaluate_every", "save_every", "keep", "tracker"}
    )
    SHARDS: ClassVar[bool] = False
    """Whether FSDP may divide the weights: the task runs its networks by `forward` alone, in all processes alike."""

    def __post_init__(self) -> None:
        within(self, 1, "steps", "batch", "accumulate", "log_every", "evaluate_every", "save_every", "keep")
        within(self, 0, "workers")
        within(self, 0, "seed", most=2**63 - 1)  # what PyTorch and numpy both take
        if self.epochs is not None and self.epochs <= 0:
            raise ValueError(f"epochs must be above 0, got {self.epochs}")

    def epoch_steps(self, items: int) -> int:
        """Training steps in a pass over `items` samples, which all processes share."""
        return math.ceil(items / (self.batch * self.accumulate * processes()))

    def total_steps(self, items: int | None) -> int:
        """Training steps in all, for training data of `items` samples, or None where the data have no length."""
        if self.epochs is None:
            return self.steps
        if items is None:
            raise InputError(f"epochs={self.epochs:g}: these data have no length; give steps in place of epochs")
        return math.ceil(self.epochs * self.epoch_steps(items))
