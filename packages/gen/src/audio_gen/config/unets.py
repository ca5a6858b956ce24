"""The configurations of the convolutional backbones. Names and defaults are those of the originals' JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass

from audio_core.checks import within

from .checks import as_many

HEAD_WIDTH = 32
"""Channels of an attention head of Dance Diffusion."""
TRANSFORMER_GROUPS = 32
"""Of the group norm before the ADP U-Net's transformers."""
_MOST_POINTS = 2**20
"""Of an STFT."""


@dataclass(frozen=True, kw_only=True)
class DanceDiffusionUNetConfig:
    """`DAU1d`: the U-Net of Dance Diffusion, on audio or latents."""

    io_channels: int = 2
    depth: int = 14
    n_attn_layers: int = 6
    """Levels with attention, counted from the innermost; the outermost level never has attention."""
    channels: tuple[int, ...] = (128, 128, 256, 256, *(512,) * 10)
    """Of each level, from the outermost."""
    cond_dim: int = 0
    """Channels of the condition, which is concatenated to the input."""
    cond_noise_aug: bool = False
    """Training adds noise to the condition and states how much."""
    kernel_size: int = 5
    learned_resample: bool = False
    """Convolutions change the rate, and not a fixed cubic kernel; needed for strides other than 2."""
    strides: tuple[int, ...] = (2,) * 13
    """Between neighbouring levels, from the outermost."""
    conv_bias: bool = True

    def __post_init__(self) -> None:
        within(self, 2, "depth")
        within(self, 1, "io_channels", "channels", "kernel_size", "strides")
        within(self, 0, "n_attn_layers", "cond_dim")
        as_many(self.depth, self, "channels")
        as_many(self.depth - 1, self, "strides")
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {self.kernel_size}")
        if not self.learned_resample and set(self.strides) - {2}:
            raise ValueError(f"strides other than 2 need learned_resample, got {list(self.strides)}")
        if self.cond_noise_aug and not self.cond_dim:
            raise ValueError("cond_noise_aug needs a condition; set cond_dim")
        for level in range(2, self.depth + 1):
            for width in self.channels[level - 2 : level]:
                if self.attends(level) and width % HEAD_WIDTH:
                    raise ValueError(f"channels must be multiples of {HEAD_WIDTH} where attention is, got {width}")

    def attends(self, level: int) -> bool:
        """Whether a level has attention; levels are counted from 1, the outermost."""
        return self.n_attn_layers > 0 and level > 1 and level >= self.depth - self.n_attn_layers

    @property
    def ratio(self) -> int:
        """Inputs for each frame of the innermost level."""
        return math.prod(self.strides)


@dataclass(frozen=True, kw_only=True)
class ADPConfig:
    """The U-Net of audio-diffusion-pytorch 0.0.94.

    It is `adp_cfg_1d` with `context_embedding_features`, else `adp_1d` with `context_features` or `context_channels`,
    else `adp_uncond_1d`.
    """

    in_channels: int
    channels: int
    """Of the time features; the widths of the levels are `multipliers` times this."""
    multipliers: tuple[int, ...]
    """Of the first resnet block and of each level."""
    factors: tuple[int, ...]
    """By which each level lowers the rate."""
    num_blocks: tuple[int, ...]
    """Resnet blocks of each level."""
    attentions: tuple[int, ...]
    """Transformer blocks of each level, and of the bottleneck, which otherwise has those of the last level."""
    attention_heads: int | None = None
    attention_features: int | None = None
    """Channels of a head. One of the two follows from the other."""
    attention_multiplier: int = 4
    """Of the transformers' feed-forward layers."""
    out_channels: int | None = None
    """None: as many as `in_channels`."""
    patch_size: int = 1
    resnet_groups: int = 8
    kernel_multiplier_downsample: int = 2
    use_nearest_upsample: bool = False
    """Repetition and a convolution in place of a transposed convolution."""
    use_skip_scale: bool = True
    """Skips are divided by the square root of 2."""
    use_context_time: bool = True
    context_features: int | None = None
    """Channels of a global condition."""
    context_features_multiplier: int = 4
    context_channels: tuple[int, ...] = ()
    """Channels of a condition that is concatenated at one level; the first number is that of the input."""
    context_embedding_features: int | None = None
    """Channels of the tokens for cross-attention."""
    context_embedding_max_length: int | None = None
    """The largest number of these tokens: the learned null embedding has as many."""
    use_xattn_time: bool = False
    """The time is a further token."""
    use_stft: bool = False
    """The network works on spectra; magnitudes and phases are channels."""
    stft_num_fft: int = 1023
    stft_hop_length: int = 256
    stft_window_length: int | None = None
    """None: `stft_num_fft`."""
    stft_use_complex: bool = False
    """Real and imaginary parts in place of magnitudes and phases."""

    def __post_init__(self) -> None:
        levels = len(self.factors)
        within(self, 1, "in_channels", "channels", "multipliers", "factors", "num_blocks", "patch_size")
        within(self, 1, "resnet_groups", "attention_multiplier", "context_features_multiplier", "stft_hop_length")
        within(self, 1, *(name for name in _OPTIONAL_SIZES if getattr(self, name) is not None))
        within(self, 2, "kernel_multiplier_downsample", "stft_num_fft")
        within(self, 0, "attentions", *(["context_channels"] if self.context_channels else []))
        as_many(levels + 1, self, "multipliers")
        as_many(levels, self, "num_blocks")
        if len(self.attentions) not in (levels, levels + 1):
            raise ValueError(f"attentions needs {levels} or {levels + 1} numbers, got {len(self.attentions)}")
        if self.kernel_multiplier_downsample % 2:
            raise ValueError(f"kernel_multiplier_downsample must be even, got {self.kernel_multiplier_downsample}")
        if self.stft_num_fft > _MOST_POINTS:
            raise ValueError(f"stft_num_fft must be at most {_MOST_POINTS}, got {self.stft_num_fft}")
        if (self.stft_window_length or 0) > self.stft_num_fft:
            raise ValueError(f"stft_window_length must be at most {self.stft_num_fft}, got {self.stft_window_length}")
        if self.channels % 2 and (self.use_context_time or self.use_xattn_time):
            raise ValueError(f"channels must be even for the time features, got {self.channels}")
        self._check_conditions(levels)
        self._check_widths()

    def _check_conditions(self, levels: int) -> None:
        if (self.context_embedding_features is None) is not (self.context_embedding_max_length is None):
            raise ValueError("context_embedding_features and context_embedding_max_length are given together")
        if self.use_xattn_time and self.context_embedding_features is None:
            raise ValueError("use_xattn_time needs context_embedding_features")
        if len(self.context_channels) > levels + 1 or sum(width > 0 for width in self.context_channels) > 1:
            raise ValueError(f"context_channels: one condition at one of {levels + 1} levels is possible")

    def _check_widths(self) -> None:
        if self.multipliers[0] * self.channels % self.patch_size:
            raise ValueError(f"patch_size must divide {self.multipliers[0] * self.channels}, got {self.patch_size}")
        for place, width in enumerate(self.widths):
            inputs = {width, width + self.context_at(place)} if place else set()
            if any(each % self.resnet_groups for each in inputs):
                raise ValueError(f"resnet_groups must divide {sorted(inputs)}, got {self.resnet_groups}")
            if self.transformers(place) or (place == len(self.factors) and self.attentions[-1]):
                self._check_attention(width)

    def _check_attention(self, width: int) -> None:
        if width % TRANSFORMER_GROUPS:
            raise ValueError(f"channels times multipliers must be multiples of {TRANSFORMER_GROUPS}, got {width}")
        if self.attention_heads is None and self.attention_features is None:
            raise ValueError("attentions need attention_heads or attention_features")
        if not all(self.heads(width)):
            raise ValueError(f"attention_heads or attention_features: are too many for {width} channels")

    # --- what follows from the settings --------------------------------------------------------------------

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the first resnet block and of each level."""
        return tuple(self.channels * multiplier for multiplier in self.multipliers)

    @property
    def ratio(self) -> int:
        """Inputs, or with `use_stft` frames, for each frame of the bottleneck."""
        return self.patch_size * math.prod(self.factors)

    @property
    def has_mapping(self) -> bool:
        """Whether the resnet blocks know the time or a global condition."""
        return self.use_context_time or self.context_features is not None

    def heads(self, width: int) -> tuple[int, int]:
        """Number and width of the heads where there are so many channels."""
        number = self.attention_heads or width // (self.attention_features or width)
        return number, self.attention_features or width // number

    def transformers(self, place: int) -> int:
        """Transformer blocks of a level; levels are counted from 1, and 0 is the input, which has none."""
        return self.attentions[place - 1] if place else 0

    def context_at(self, place: int) -> int:
        """Channels of the condition that is concatenated at a level, or at 0, the input."""
        return self.context_channels[place] if place < len(self.context_channels) else 0


_OPTIONAL_SIZES = (
    "attention_heads",
    "attention_features",
    "out_channels",
    "context_features",
    "context_embedding_features",
    "context_embedding_max_length",
    "stft_window_length",
)
