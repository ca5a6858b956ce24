"""All settings of a training. Importing it needs no torch.

Defaults are those of stable-audio-tools' autoencoders, where nothing else is said.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from audio_core.train.optimize import AdamW, Constant
from audio_core.train.plan import Plan

from ..config import AutoencoderConfig
from .adversaries import Adversary, DACDiscriminator, EncodecDiscriminator, LyraDiscriminator, OobleckDiscriminator
from .data import Data
from .losses import KL, Losses, Mel, Phase, Spectral, Time
from .rates import LyraCosine, LyraInverse, Optimizer, Schedule, by_epochs

__all__ = [
    "KL",
    "Adversary",
    "DACDiscriminator",
    "Data",
    "EncodecDiscriminator",
    "Losses",
    "LyraCosine",
    "LyraDiscriminator",
    "LyraInverse",
    "Mel",
    "OobleckDiscriminator",
    "Phase",
    "Recipe",
    "Spectral",
    "Time",
    "by_epochs",
]


@dataclass(frozen=True, kw_only=True)
class Recipe(Plan):
    """An autoencoder, and a discriminator or none."""

    data: Data = field(default_factory=Data)
    model: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    losses: Losses = field(default_factory=Losses)
    discriminator: EncodecDiscriminator | DACDiscriminator | OobleckDiscriminator | LyraDiscriminator | None = None
    optimizer: Optimizer = field(default_factory=lambda: AdamW(1.5e-4, (0.8, 0.99), weight_decay=1e-3))
    schedule: Schedule = field(default_factory=Constant)
    """Of the autoencoder, in its updates."""
    discriminator_optimizer: Optimizer = field(default_factory=lambda: AdamW(3e-4, (0.8, 0.99), weight_decay=1e-3))
    discriminator_schedule: Schedule = field(default_factory=Constant)
    """In the discriminator's own updates."""
    clip: float = 0.0
    """Largest norm of the autoencoder's gradient; 0: no limit."""
    discriminator_clip: float = 0.0
    average: float = 0.0
    """Largest decay of averaged weights, which are then tested and released, 0.9999 in stable-audio-tools; 0: the last
    weights are."""

    FIRST: ClassVar[tuple[str, ...]] = (
        *("data.root", "data.more", "data.held_out", "data.samples", "steps", "batch", "optimizer", "schedule"),
        *("losses.spectral.weight", "losses.kl.weight", "discriminator", "evaluate_every", "save_every", "workers"),
    )
    FREE: ClassVar[frozenset[str]] = Plan.FREE | {"data.root", "data.more"}

    steps: int = 1_000_000
    batch: int = 4
    seed: int = 42
    evaluate_every: int = 5000
    save_every: int = 5000

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.average < 1 or min(self.clip, self.discriminator_clip) < 0:
            limits = f"{self.average}, {self.clip} and {self.discriminator_clip}"
            raise ValueError(f"average is from 0 to below 1 and both clips from 0 on, got {limits}")
        if self.model.folded:
            raise ValueError("model.folded: a folded model is for use; leave it false for training")
        if self.data.samples < self.least:
            raise ValueError(f"data.samples: model and losses need {self.least} at least, got {self.data.samples}")

    @property
    def least(self) -> int:
        """Samples that the model, the losses and the discriminator need: a frame, half a window, a whole one."""
        pretransform, losses = self.model.pretransform, self.losses
        frame = self.model.encoder.ratio * (pretransform.ratio if pretransform else 1)
        centred = [part.windows for part in (losses.spectral, losses.mel, losses.phase) if part]
        whole = getattr(self.discriminator, "windows", ()) or (getattr(self.discriminator, "window", 0),)
        return max(frame, *whole, *(size // 2 + 1 for sizes in centred for size in sizes))
