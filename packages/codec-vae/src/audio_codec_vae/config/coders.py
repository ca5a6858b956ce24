"""The configurations of encoders and decoders."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from .checks import within

GROUPS = 32
"""Of channels in LyraCodec's group norms; narrower layers have one for each channel."""

HEAD = 128
"""Channels of an attention head in TAAE's transformers; narrower layers have one head."""


@dataclass(frozen=True, kw_only=True)
class LyraEncoderConfig:
    """LyraCodec's, which tells mean and log variance."""

    in_channels: int = 2
    base_channels: int = 128
    latent_dim: int = 64
    c_mults: tuple[tuple[int, int], ...] = ((1, 1), (1, 2), (2, 4), (4, 8), (8, 16))
    """Of each block the inputs and outputs, in base channels."""
    strides: tuple[int, ...] = (2, 4, 4, 8, 8)
    group_norm: bool = False
    """Of the later revision: its results depend on the length."""

    def __post_init__(self) -> None:
        _check_lyra(self)

    @property
    def ratio(self) -> int:
        return math.prod(self.strides)


@dataclass(frozen=True, kw_only=True)
class LyraDecoderConfig:
    """LyraCodec's, which knows the lengths that the encoder met on its way."""

    out_channels: int = 2
    base_channels: int = 128
    latent_dim: int = 64
    c_mults: tuple[tuple[int, int], ...] = ((1, 1), (1, 2), (2, 4), (4, 8), (8, 16))
    """In the encoder's order."""
    strides: tuple[int, ...] = (2, 4, 4, 8, 8)
    group_norm: bool = False

    def __post_init__(self) -> None:
        _check_lyra(self)

    @property
    def ratio(self) -> int:
        return math.prod(self.strides)


@dataclass(frozen=True, kw_only=True)
class OobleckEncoderConfig:
    """Of the stable-audio models."""

    in_channels: int = 2
    channels: int = 128
    latent_dim: int = 32
    c_mults: tuple[int, ...] = (1, 2, 4, 8)
    strides: tuple[int, ...] = (2, 4, 8, 8)
    use_snake: bool = False
    """Otherwise ELU."""
    antialias_activation: bool = False
    """Computes one activation at twice the rate, that before the last convolution."""

    def __post_init__(self) -> None:
        _check_oobleck(self)

    @property
    def ratio(self) -> int:
        return math.prod(self.strides)


@dataclass(frozen=True, kw_only=True)
class OobleckDecoderConfig:
    """Of the stable-audio models."""

    out_channels: int = 2
    channels: int = 128
    latent_dim: int = 32
    c_mults: tuple[int, ...] = (1, 2, 4, 8)
    strides: tuple[int, ...] = (2, 4, 8, 8)
    """In the encoder's order."""
    use_snake: bool = False
    antialias_activation: bool = False
    """Of the activations before each upsampling and of the last one."""
    use_nearest_upsample: bool = False
    """Repetition and a convolution in place of a transposed convolution."""
    final_tanh: bool = True

    def __post_init__(self) -> None:
        _check_oobleck(self)

    @property
    def ratio(self) -> int:
        return math.prod(self.strides)


@dataclass(frozen=True, kw_only=True)
class DACEncoderConfig:
    """Of the Descript Audio Codec."""

    in_channels: int = 1
    d_model: int = 128
    strides: tuple[int, ...] = (2, 4, 8, 8)
    latent_dim: int | None = None
    """Of a further convolution; without it the width is d_model * 2^len(strides)."""

    def __post_init__(self) -> None:
        within(self, 1, "in_channels", "d_model")
        within(self, 2, "strides")
        if self.latent_dim is not None:
            within(self, 1, "latent_dim")

    @property
    def ratio(self) -> int:
        return math.prod(self.strides)


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


@dataclass(frozen=True, kw_only=True)
class SEANetEncoderConfig:
    """Of EnCodec."""

    channels: int = 1
    dimension: int = 128
    n_filters: int = 32
    n_residual_layers: int = 1
    ratios: tuple[int, ...] = (2, 4, 5, 8)
    """In the order in which the encoder downsamples."""
    kernel_size: int = 7
    last_kernel_size: int = 7
    residual_kernel_size: int = 3
    dilation_base: int = 2
    compress: int = 2
    lstm: int = 2
    """Layers; 0: none."""

    def __post_init__(self) -> None:
        _check_seanet(self)

    @property
    def ratio(self) -> int:
        return math.prod(self.ratios)


@dataclass(frozen=True, kw_only=True)
class SEANetDecoderConfig:
    """Of EnCodec."""

    channels: int = 1
    dimension: int = 128
    n_filters: int = 32
    n_residual_layers: int = 1
    ratios: tuple[int, ...] = (8, 5, 4, 2)
    """In the order in which the decoder upsamples."""
    kernel_size: int = 7
    last_kernel_size: int = 7
    residual_kernel_size: int = 3
    dilation_base: int = 2
    compress: int = 2
    lstm: int = 2

    def __post_init__(self) -> None:
        _check_seanet(self)

    @property
    def ratio(self) -> int:
        return math.prod(self.ratios)


@dataclass(frozen=True, kw_only=True)
class TAAEEncoderConfig:
    """Of stable-codec: transformers on every level."""

    in_channels: int = 2
    channels: int = 128
    latent_dim: int = 32
    c_mults: tuple[int, ...] = (1, 2, 4, 8)
    strides: tuple[int, ...] = (2, 4, 8, 8)
    transformer_depths: tuple[int, ...] = (3, 3, 3, 3)
    use_snake: bool = False
    """Otherwise the blocks have no activation of their own."""
    sliding_window: tuple[int, int] | None = None
    """How many positions attention reaches to the left and right; None: all."""
    use_dilated_conv: bool = False
    conformer: bool = False

    def __post_init__(self) -> None:
        _check_taae(self)

    @property
    def ratio(self) -> int:
        return math.prod(self.strides)


@dataclass(frozen=True, kw_only=True)
class TAAEDecoderConfig:
    """Of stable-codec; lists in the encoder's order."""

    out_channels: int = 2
    channels: int = 128
    latent_dim: int = 32
    c_mults: tuple[int, ...] = (1, 2, 4, 8)
    strides: tuple[int, ...] = (2, 4, 8, 8)
    transformer_depths: tuple[int, ...] = (3, 3, 3, 3)
    use_snake: bool = False
    sliding_window: tuple[int, int] | None = None
    use_dilated_conv: bool = False
    conformer: bool = False

    def __post_init__(self) -> None:
        _check_taae(self)

    @property
    def ratio(self) -> int:
        return math.prod(self.strides)


EncoderConfig = LyraEncoderConfig | OobleckEncoderConfig | DACEncoderConfig | SEANetEncoderConfig | TAAEEncoderConfig
DecoderConfig = LyraDecoderConfig | OobleckDecoderConfig | DACDecoderConfig | SEANetDecoderConfig | TAAEDecoderConfig


def _check_lyra(config: LyraEncoderConfig | LyraDecoderConfig) -> None:
    within(config, 1, "base_channels", "latent_dim")
    within(config, 1, "in_channels" if isinstance(config, LyraEncoderConfig) else "out_channels")
    within(config, 2, "strides")
    _check_counts(config)
    factors = [factor for pair in config.c_mults for factor in pair]
    if min(factors) < 1:
        raise ValueError(f"c_mults must be at least 1, got {[*map(list, config.c_mults)]}")
    for (_, outputs), (inputs, _) in pairwise(config.c_mults):
        if outputs != inputs:
            raise ValueError(f"c_mults: a block gives {outputs} times base_channels, and the next takes {inputs}")
    for width in (config.base_channels * factor for factor in factors):
        if config.group_norm and width > GROUPS and width % GROUPS:
            raise ValueError(f"base_channels times c_mults must be multiples of {GROUPS} for group_norm, got {width}")


def _check_oobleck(config: OobleckEncoderConfig | OobleckDecoderConfig) -> None:
    within(config, 1, "channels", "latent_dim", "c_mults")
    within(config, 1, "in_channels" if isinstance(config, OobleckEncoderConfig) else "out_channels")
    within(config, 2, "strides")
    _check_counts(config)


def _check_counts(config: LyraEncoderConfig | LyraDecoderConfig | OobleckEncoderConfig | OobleckDecoderConfig) -> None:
    if len(config.c_mults) != len(config.strides):
        raise ValueError(f"c_mults: {len(config.c_mults)} are given, and {len(config.strides)} strides")


def _check_seanet(config: SEANetEncoderConfig | SEANetDecoderConfig) -> None:
    within(config, 1, "channels", "dimension", "n_filters", "ratios", "dilation_base", "compress")
    within(config, 1, "kernel_size", "last_kernel_size", "residual_kernel_size")
    within(config, 0, "n_residual_layers", "lstm")
    if config.compress > config.n_filters:
        raise ValueError(f"compress leaves no channel of {config.n_filters} n_filters, got {config.compress}")


def _check_taae(config: TAAEEncoderConfig | TAAEDecoderConfig) -> None:
    within(config, 1, "channels", "latent_dim", "c_mults", "strides")
    within(config, 1, "in_channels" if isinstance(config, TAAEEncoderConfig) else "out_channels")
    within(config, 0, "transformer_depths")
    if config.sliding_window is not None:
        within(config, 0, "sliding_window")
    if not len(config.c_mults) == len(config.strides) == len(config.transformer_depths):
        lengths = f"{len(config.c_mults)}, {len(config.strides)} and {len(config.transformer_depths)}"
        raise ValueError(f"c_mults, strides and transformer_depths need as many numbers each, got {lengths}")
    widths = [config.channels * factor for factor in config.c_mults]
    for width in widths:
        if width % HEAD if width > HEAD else width % 4:
            raise ValueError(f"channels times c_mults must be multiples of {HEAD}, or of 4 below it, got {width}")
    for width, before, stride in zip(widths, (widths[0], *widths), config.strides, strict=False):
        if stride == 1 and width != before:
            raise ValueError(f"a stride of 1 keeps the width, but c_mults change it from {before} to {width}")
