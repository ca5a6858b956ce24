"""All settings of a training. Importing it needs no torch. Defaults are those of stable-audio-tools."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from audio_core.checks import within
from audio_core.train.optimize import SGD, Adam, AdamW, Constant, Cosine, InverseLR, Staircase
from audio_core.train.plan import Plan

from ..config import DiffusionConfig, LMConfig
from ..config.adapters import AdapterConfig
from ..config.arc import ArcConfig
from ..config.diffusion_autoencoder import DiffusionAutoencoderConfig
from ..config.masks import MaskConfig
from ..config.timesteps import TimestepsConfig
from .data import Data

__all__ = ["Data", "Recipe"]


@dataclass(frozen=True, kw_only=True)
class Recipe(Plan):
    data: Data = field(default_factory=Data)
    model: DiffusionConfig | DiffusionAutoencoderConfig | LMConfig = field(default_factory=DiffusionConfig)
    timesteps: TimestepsConfig = field(default_factory=TimestepsConfig)
    """The noise at which a diffusion model learns."""
    cfg_dropout: float = 0.1
    """How often each kind of tokens is left out, so that guidance knows the estimate without."""
    checkpointing: bool = False
    """Transformers compute their blocks again in the backward pass: less memory for more time."""
    start: str | None = None
    """A bundle of the same model, whose weights the training begins with: fine-tuning."""
    adapter: AdapterConfig | None = None
    """Low-rank adapters learn beside the weights of `start`, which stay."""
    arc: ArcConfig | None = None
    """Adversarial post-training (ARC): the rectified flow of `start` learns to generate in few steps, without guidance.
    Even steps train the model, odd ones its discriminator."""
    inpainting: MaskConfig = field(default_factory=MaskConfig)
    """What an inpainting model is to fill."""
    mask_padding: bool = False
    """Only real frames count in the loss; otherwise a model learns the silence behind an item as well."""
    mask_padding_dropout: float = 0.0
    """The chance of a step in which all frames count nevertheless."""
    optimizer: AdamW | Adam | SGD = field(default_factory=lambda: AdamW(5e-5, (0.9, 0.999), weight_decay=1e-3))
    schedule: InverseLR | Staircase | Cosine | Constant = field(default_factory=InverseLR)
    clip: float = 0.0
    """Largest norm of the gradient; 0: no limit."""
    average: float = 0.9999
    """Largest decay of averaged weights, which are then tested and released; 0: the last weights are."""

    FIRST: ClassVar[tuple[str, ...]] = (
        *("data.root", "data.more", "data.metadata", "data.held_out", "steps", "batch", "optimizer", "schedule"),
        *("cfg_dropout", "timesteps.distribution", "average", "evaluate_every", "save_every", "workers"),
    )
    FREE: ClassVar[frozenset[str]] = Plan.FREE | {"data.root", "data.more", "data.metadata", "data.cache"}
    steps: int = 100_000
    batch: int = 4
    seed: int = 42
    evaluate_every: int = 2000
    save_every: int = 2000

    @property
    def SHARDS(self) -> bool:  # type: ignore[override]
        """The discriminator's copy of the model is frozen in turns, and runs beside its wrapper."""
        return self.arc is None

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, 0, "cfg_dropout", "mask_padding_dropout", most=1)
        if self.adapter and not self.start:
            raise ValueError("adapter: needs the weights of `start`")
        if self.mask_padding and isinstance(self.model, DiffusionAutoencoderConfig):
            raise ValueError("mask_padding: autoencoders learn all frames; leave it out")
        if self.arc and self.adapter:
            raise ValueError("arc: trains all weights; leave out adapter")
        if self.arc:
            self.arc.expect_possible(self.model)
        if not 0 <= self.average < 1 or self.clip < 0:
            raise ValueError(f"average is from 0 to below 1 and clip from 0 on, got {self.average} and {self.clip}")
