"""Configurations of the codecs, their sizes and bitrates. Importing it needs no torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Learning = Literal["moving", "none", "moving_original", "gradient_original"]
"""How codebooks learn. `moving`: as moving averages that begin with k-means and revive dead entries. `none`: not at
all, as in released models. The others are the originals' ways, with their defects (see original.py)."""


@dataclass(frozen=True)
class SoundStreamConfig:
    channels: int = 32
    """Channels of the first layer; each of the four blocks doubles them."""
    width: int = 512
    """Values in a latent."""
    strides: tuple[int, ...] = (2, 4, 5, 8)
    layers: int = 8
    """Layers of the residual quantizer; the first n alone are a lower bitrate."""
    size: int = 1024
    """Entries in the codebook of each layer."""
    rate: int = 24000
    learning: Learning = "moving"

    def __post_init__(self) -> None:
        _check(self)

    @property
    def hop(self) -> int:
        return math.prod(self.strides)


@dataclass(frozen=True)
class TinyStreamConfig:
    channels: int = 8
    """Channels of the first layer; the blocks have 2, 3, 4 and 4 times as many."""
    width: int = 128
    """Values in a latent."""
    strides: tuple[int, ...] = (4, 4, 4, 4)
    layers: int = 4
    """Layers of the residual quantizer; the first n alone are a lower bitrate."""
    size: int = 512
    """Entries in the codebook of each layer."""
    rate: int = 16000
    causal: bool = False
    """No look-ahead: a delay of one hop; the original's is 183 ms."""
    activation: Literal["relu", "hardswish"] = "relu"
    learning: Learning = "moving"

    def __post_init__(self) -> None:
        _check(self)
        if any(stride % 2 for stride in self.strides):
            raise ValueError(f"strides must be even, got {list(self.strides)}")

    @property
    def hop(self) -> int:
        return math.prod(self.strides)


CodecConfig = SoundStreamConfig | TinyStreamConfig


def _check(config: CodecConfig) -> None:
    for name in ("channels", "width", "layers", "size", "rate"):
        if getattr(config, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(config, name)}")
    if len(config.strides) != 4 or min(config.strides) < 1:
        raise ValueError(f"strides: four numbers from 1 on are expected, got {list(config.strides)}")
    if config.layers > 255 or not 2 <= config.size <= 65536:
        raise ValueError(f"layers up to 255 of 2 to 65536 entries are possible, got {config.layers} of {config.size}")


def bits(config: CodecConfig) -> int:
    """Width of a code."""
    return max(1, math.ceil(math.log2(config.size)))


def bitrates(config: CodecConfig) -> tuple[float, ...]:
    """In kbit/s, with 1, 2, ... layers."""
    from audio_core import codec

    return codec.bitrates((config.size,) * config.layers, config.rate, config.hop)


def layers_for(config: CodecConfig, kbps: float | None) -> int:
    """The number of layers whose bitrate is `kbps`; all of them for None. The error names the possible bitrates."""
    from audio_core import codec

    return codec.layers_for(kbps, bitrates(config))
