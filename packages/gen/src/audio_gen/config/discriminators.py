"""The settings of the discriminator of adversarial post-training (ARC), without torch.

Names are those of the original's JSON.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

from audio_core.checks import within


@dataclass(frozen=True, kw_only=True)
class ConvHeadConfig:
    """Strided convolutions that halve the sequence four times; there is nothing to set."""

    least: ClassVar[int] = 64
    """Positions that it needs."""
    groups: ClassVar[int] = 32
    """Of its norms, which divide the width."""


@dataclass(frozen=True, kw_only=True)
class ConvNeXtHeadConfig:
    """ConvNeXt blocks on ever fewer positions."""

    channels: int = 128
    c_mults: tuple[int, ...] = (1, 2, 4, 8)
    """Channels behind each level, in `channels`."""
    strides: tuple[int, ...] = (2, 4, 8, 8)
    """By which each level shortens the sequence; it must have as many positions as their product."""
    num_blocks: tuple[int, ...] = (3, 3, 3, 3)
    kernel_size: int = 7
    mult: int = 4
    """The blocks' hidden layer, in channels of the block."""
    glu: bool = False
    """The hidden layer is gated, and its activation is SiLU; otherwise GELU."""

    def __post_init__(self) -> None:
        within(self, 1, "channels", "kernel_size", "mult", "c_mults", "strides")
        within(self, 0, "num_blocks")
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {self.kernel_size}")
        lengths = len(self.c_mults), len(self.strides), len(self.num_blocks)
        if len({*lengths}) > 1:
            raise ValueError(f"c_mults, strides and num_blocks need as many numbers each, got {lengths}")

    @property
    def ratio(self) -> int:
        return math.prod(self.strides)

    @property
    def least(self) -> int:
        """Positions that it needs."""
        return self.ratio


@dataclass(frozen=True, kw_only=True)
class ArcWeights:
    """Of the losses."""

    generator: float = 1.0
    discriminator: float = 1.0
    contrastive: float = 1.0

    def __post_init__(self) -> None:
        within(self, 0, "generator", "discriminator", "contrastive")


@dataclass(frozen=True, kw_only=True)
class ArcDiscriminatorConfig:
    """A diffusion transformer up to one of its blocks, and a head on what that block gives."""

    dit_hidden_layer: int
    """The block, counted from 0."""
    head: ConvNeXtHeadConfig | ConvHeadConfig = field(default_factory=ConvNeXtHeadConfig)
    contrastive: bool = False
    """It also learns to tell items with their own prompts from items with the prompts of their neighbours."""
    include_grad_penalties: bool = False
    """It also learns that its scores change little under a little noise: R1 and R2 penalties, approximated."""
    weights: ArcWeights = field(default_factory=ArcWeights)

    def __post_init__(self) -> None:
        within(self, 0, "dit_hidden_layer")
