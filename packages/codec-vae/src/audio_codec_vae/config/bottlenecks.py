"""The configurations of bottlenecks."""

from __future__ import annotations

import math
from dataclasses import dataclass

from audio_core.checks import within

_MOST_BOOKS = 255
_MOST_ENTRIES = 65536
_MOST_CODES = 2**31
"""Of scalar quantizers, whose entries are not stored."""


@dataclass(frozen=True)
class LogVarianceConfig:
    """LyraCodec's Gaussian: mean and log variance, limited to [-10, 10]."""


@dataclass(frozen=True)
class VAEConfig:
    """A Gaussian of mean and softplus deviation."""


@dataclass(frozen=True)
class TanhConfig:
    scale: float = 1.0

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"scale must be above 0, got {self.scale}")


@dataclass(frozen=True)
class L2NormConfig:
    """Vectors of length 1."""


@dataclass(frozen=True)
class WassersteinConfig:
    """Drawn towards a Gaussian by the maximum mean discrepancy of a batch."""

    noise_augment_dim: int = 0
    """Channels of noise that decoding appends."""
    bypass_mmd: bool = False
    use_tanh: bool = False
    tanh_scale: float = 5.0

    def __post_init__(self) -> None:
        within(self, 0, "noise_augment_dim")
        if not self.tanh_scale > 0:
            raise ValueError(f"tanh_scale must be above 0, got {self.tanh_scale}")


@dataclass(frozen=True)
class SoftNormConfig:
    """A scale and a shift for each channel, learnt so that latents have mean 0 and deviation 1."""

    dim: int = 64
    noise_augment_dim: int = 0
    noise_regularize: bool = False
    """In training the decoder gets latents with a little noise."""

    def __post_init__(self) -> None:
        within(self, 1, "dim")
        within(self, 0, "noise_augment_dim")


@dataclass(frozen=True)
class RVQConfig:
    """EnCodec's residual vector quantizer, with codebooks that are moving averages."""

    dim: int = 128
    codebook_size: int = 1024
    num_quantizers: int = 8
    decay: float = 0.99
    threshold_ema_dead_code: float = 2
    """An entry is replaced when fewer vectors of a batch choose it, or fewer than half of the mean if that is less."""

    def __post_init__(self) -> None:
        within(self, 1, "dim")
        within(self, 2, "codebook_size", most=_MOST_ENTRIES)
        within(self, 1, "num_quantizers", most=_MOST_BOOKS)
        within(self, 0, "decay", most=1)
        within(self, 0, "threshold_ema_dead_code")


@dataclass(frozen=True)
class RVQVAEConfig(RVQConfig):
    """A Gaussian, then the quantizer."""


@dataclass(frozen=True)
class DACRVQConfig:
    """DAC's residual vector quantizer, with codebooks that learn by gradients."""

    input_dim: int = 512
    n_codebooks: int = 9
    codebook_dim: int | tuple[int, ...] = 8
    """Channels in which entries are compared, of all codebooks or of each one."""
    codebook_size: int = 1024
    quantizer_dropout: float = 0.0
    """The share of a batch that learns with a random number of codebooks."""
    quantize_on_decode: bool = False
    """Latents stay as the encoder gives them and are quantized for the decoder; there are no codes then."""
    noise_augment_dim: int = 0

    def __post_init__(self) -> None:
        within(self, 1, "input_dim", "codebook_dim")
        within(self, 1, "n_codebooks", most=_MOST_BOOKS)
        within(self, 2, "codebook_size", most=_MOST_ENTRIES)
        within(self, 0, "quantizer_dropout", most=1)
        within(self, 0, "noise_augment_dim")
        if isinstance(self.codebook_dim, tuple) and len(self.codebook_dim) != self.n_codebooks:
            raise ValueError(f"codebook_dim needs {self.n_codebooks} numbers, got {list(self.codebook_dim)}")


@dataclass(frozen=True)
class DACRVQVAEConfig(DACRVQConfig):
    """A Gaussian, then the quantizer."""


@dataclass(frozen=True)
class FSQConfig:
    """Finite scalar quantization."""

    levels: tuple[int, ...] = (8, 5, 5, 5)
    """Of each channel of a codebook."""
    num_codebooks: int = 1
    dim: int | None = None
    """Channels before and after, where a projection changes them; None: levels times codebooks."""
    noise_augment_dim: int = 0

    def __post_init__(self) -> None:
        _check_levels(self, self.levels)
        within(self, 0, "noise_augment_dim")
        if self.dim is not None:
            within(self, 1, "dim")


@dataclass(frozen=True)
class DitheredFSQConfig:
    """Finite scalar quantization that learns with uniform noise in place of rounding."""

    dim: int = 8
    """Channels of one codebook."""
    levels: int | tuple[int, ...] = 5
    """Of all channels of a codebook, or of each one."""
    num_codebooks: int = 1
    noise_dropout: float = 0.05
    """The share of a batch that learns without noise."""

    def __post_init__(self) -> None:
        within(self, 1, "dim", most=31)
        within(self, 0, "noise_dropout", most=1)
        if isinstance(self.levels, tuple) and len(self.levels) != self.dim:
            raise ValueError(f"levels needs {self.dim} numbers, got {list(self.levels)}")
        _check_levels(self, self.of_each)

    @property
    def of_each(self) -> tuple[int, ...]:
        """The levels of each channel of a codebook."""
        return self.levels if isinstance(self.levels, tuple) else (self.levels,) * self.dim


def _check_levels(config: FSQConfig | DitheredFSQConfig, levels: tuple[int, ...]) -> None:
    within(config, 2, "levels", most=500)  # the bound of the tanh leaves room for more than one level beyond that
    within(config, 1, "num_codebooks", most=_MOST_BOOKS)
    if math.prod(levels) > _MOST_CODES:
        raise ValueError(f"levels: {math.prod(levels)} codes, and at most {_MOST_CODES} are possible; use codebooks")


BottleneckConfig = (
    LogVarianceConfig
    | VAEConfig
    | TanhConfig
    | L2NormConfig
    | WassersteinConfig
    | SoftNormConfig
    | RVQConfig
    | RVQVAEConfig
    | DACRVQConfig
    | DACRVQVAEConfig
    | FSQConfig
    | DitheredFSQConfig
)
