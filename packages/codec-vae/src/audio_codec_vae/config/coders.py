"""The configurations of encoders and decoders; what both sides of a kind share is in its base class.

Lists are in the encoder's order, where nothing else is said.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from audio_core.checks import within

GROUPS = 32
"""Of channels in LyraCodec's group norms; narrower layers have one for each channel."""

HEAD = 128
"""Channels of an attention head in TAAE's transformers; narrower layers have one head."""


@dataclass(frozen=True, kw_only=True)
class Strided:
    strides: tuple[int, ...] = (2, 4, 8, 8)

    LEAST_STRIDE: ClassVar[int] = 2

    def __post_init__(self) -> None:
        within(self, self.LEAST_STRIDE, "strides")
        within(self, 1, *(name for name in ("in_channels", "out_channels") if hasattr(self, name)))

    @property
    def ratio(self) -> int:
        """Samples of a frame of latents."""
        return math.prod(self.strides)


# --- LyraCodec's -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class LyraConfig(Strided):
    base_channels: int = 128
    latent_dim: int = 64
    c_mults: tuple[tuple[int, int], ...] = ((1, 1), (1, 2), (2, 4), (4, 8), (8, 16))
    """Of each block the inputs and outputs, in base channels."""
    strides: tuple[int, ...] = (2, 4, 4, 8, 8)
    group_norm: bool = False
    """Of the later revision: its results depend on the length."""

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, 1, "base_channels", "latent_dim")
        _check_counts(self.c_mults, self.strides)
        factors = [factor for pair in self.c_mults for factor in pair]
        if min(factors) < 1:
            raise ValueError(f"c_mults must be at least 1, got {[*map(list, self.c_mults)]}")
        for (_, outputs), (inputs, _) in pairwise(self.c_mults):
            if outputs != inputs:
                raise ValueError(f"c_mults: a block gives {outputs} times base_channels, and the next takes {inputs}")
        for width in (self.base_channels * factor for factor in factors):
            if self.group_norm and width > GROUPS and width % GROUPS:
                raise ValueError(
                    f"base_channels times c_mults must be multiples of {GROUPS} for group_norm, got {width}"
                )


@dataclass(frozen=True, kw_only=True)
class LyraEncoderConfig(LyraConfig):
    """LyraCodec's, which tells mean and log variance."""

    in_channels: int = 2


@dataclass(frozen=True, kw_only=True)
class LyraDecoderConfig(LyraConfig):
    """LyraCodec's, which knows the lengths that the encoder met on its way."""

    out_channels: int = 2


# --- of stable-audio-tools ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class OobleckConfig(Strided):
    channels: int = 128
    latent_dim: int = 32
    c_mults: tuple[int, ...] = (1, 2, 4, 8)
    use_snake: bool = False
    """Otherwise ELU."""
    antialias_activation: bool = False
    """Computes activations at twice the rate: of an encoder the one before its last convolution, of a decoder those
    before each upsampling and the last one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, 1, "channels", "latent_dim", "c_mults")
        _check_counts(self.c_mults, self.strides)


@dataclass(frozen=True, kw_only=True)
class OobleckEncoderConfig(OobleckConfig):
    """Of the stable-audio models."""

    in_channels: int = 2


@dataclass(frozen=True, kw_only=True)
class OobleckDecoderConfig(OobleckConfig):
    """Of the stable-audio models."""

    out_channels: int = 2
    use_nearest_upsample: bool = False
    """Repetition and a convolution in place of a transposed convolution."""
    final_tanh: bool = True


@dataclass(frozen=True, kw_only=True)
class TAAEConfig(Strided):
    channels: int = 128
    latent_dim: int = 32
    c_mults: tuple[int, ...] = (1, 2, 4, 8)
    transformer_depths: tuple[int, ...] = (3, 3, 3, 3)
    use_snake: bool = False
    """Otherwise the blocks have no activation of their own."""
    sliding_window: tuple[int, int] | None = None
    """How many positions attention reaches to the left and right; None: all."""
    use_dilated_conv: bool = False
    conformer: bool = False

    LEAST_STRIDE: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, 1, "channels", "latent_dim", "c_mults")
        within(self, 0, "transformer_depths")
        if self.sliding_window is not None:
            within(self, 0, "sliding_window")
        if not len(self.c_mults) == len(self.strides) == len(self.transformer_depths):
            lengths = f"{len(self.c_mults)}, {len(self.strides)} and {len(self.transformer_depths)}"
            raise ValueError(f"c_mults, strides and transformer_depths need as many numbers each, got {lengths}")
        widths = [self.channels * factor for factor in self.c_mults]
        for width in widths:
            if width % HEAD if width > HEAD else width % 4:
                raise ValueError(f"channels times c_mults must be multiples of {HEAD}, or of 4 below it, got {width}")
        for width, before, stride in zip(widths, (widths[0], *widths), self.strides, strict=False):
            if stride == 1 and width != before:
                raise ValueError(f"a stride of 1 keeps the width, but c_mults change it from {before} to {width}")


@dataclass(frozen=True, kw_only=True)
class TAAEEncoderConfig(TAAEConfig):
    """Of stable-codec: transformers on every level."""

    in_channels: int = 2


@dataclass(frozen=True, kw_only=True)
class TAAEDecoderConfig(TAAEConfig):
    """Of stable-codec: transformers on every level."""

    out_channels: int = 2


# --- DAC's -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class DACEncoderConfig(Strided):
    """Of the Descript Audio Codec."""

    in_channels: int = 1
    d_model: int = 128
    latent_dim: int | None = None
    """Of a further convolution; without it the width is d_model * 2^len(strides)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, 1, "d_model")
        if self.latent_dim is not None:
            within(self, 1, "latent_dim")


@dataclass(frozen=True, kw_only=True)
class DACDecoderConfig:
    """Of the Descript Audio Codec."""

    latent_dim: int
    out_channels: int = 1
    channels: int = 1536
    rates: tuple[int, ...] = (8, 8, 4, 2)
    """In the decoder's order."""

    def __post_init__(self) -> None:
        within(self, 1, "latent_dim", "out_channels", "channels")
        within(self, 2, "rates")
        if self.channels % 2 ** len(self.rates):
            raise ValueError(f"channels are halved {len(self.rates)} times, got {self.channels}")

    @property
    def ratio(self) -> int:
        return math.prod(self.rates)


# --- EnCodec's ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SEANetConfig:
    channels: int = 1
    dimension: int = 128
    n_filters: int = 32
    n_residual_layers: int = 1
    ratios: tuple[int, ...]
    kernel_size: int = 7
    last_kernel_size: int = 7
    residual_kernel_size: int = 3
    dilation_base: int = 2
    compress: int = 2
    lstm: int = 2
    """Layers; 0: none."""

    def __post_init__(self) -> None:
        within(self, 1, "channels", "dimension", "n_filters", "ratios", "dilation_base", "compress")
        within(self, 1, "kernel_size", "last_kernel_size", "residual_kernel_size")
        within(self, 0, "n_residual_layers", "lstm")
        if self.compress > self.n_filters:
            raise ValueError(f"compress leaves no channel of {self.n_filters} n_filters, got {self.compress}")

    @property
    def ratio(self) -> int:
        return math.prod(self.ratios)


@dataclass(frozen=True, kw_only=True)
class SEANetEncoderConfig(SEANetConfig):
    """Of EnCodec."""

    ratios: tuple[int, ...] = (2, 4, 5, 8)
    """In the order in which the encoder downsamples."""


@dataclass(frozen=True, kw_only=True)
class SEANetDecoderConfig(SEANetConfig):
    """Of EnCodec."""

    ratios: tuple[int, ...] = (8, 5, 4, 2)
    """In the order in which the decoder upsamples."""


EncoderConfig = LyraEncoderConfig | OobleckEncoderConfig | DACEncoderConfig | SEANetEncoderConfig | TAAEEncoderConfig
DecoderConfig = LyraDecoderConfig | OobleckDecoderConfig | DACDecoderConfig | SEANetDecoderConfig | TAAEDecoderConfig


def _check_counts(c_mults: tuple[object, ...], strides: tuple[int, ...]) -> None:
    if len(c_mults) != len(strides):
        raise ValueError(f"c_mults: {len(c_mults)} are given, and {len(strides)} strides")
