"""At which times a diffusion model learns: the distributions of t, from 0 (no noise) to 1 (noise alone)."""

from __future__ import annotations

from dataclasses import dataclass, field

from audio_core.checks import within


@dataclass(frozen=True)
class UniformConfig:
    """Every time alike, by a scrambled Sobol sequence: the times of neighbouring items lie far apart."""


@dataclass(frozen=True)
class LogitNormalConfig:
    """The sigmoid of a standard normal: middle times most often."""


@dataclass(frozen=True)
class TruncLogitNormalConfig:
    """The part above `left` of a logit-normal, stretched over 0 to 1 and mirrored: high times more often."""

    left: float = 0.075

    def __post_init__(self) -> None:
        if not 0 < self.left < 1:
            raise ValueError(f"left must be between 0 and 1, got {self.left}")


@dataclass(frozen=True)
class LogSNRConfig:
    """A normal distribution of log SNR."""

    mean_logsnr: float = -1.2
    std_logsnr: float = 2.0

    def __post_init__(self) -> None:
        if not self.std_logsnr > 0:
            raise ValueError(f"std_logsnr must be above 0, got {self.std_logsnr}")


@dataclass(frozen=True)
class LogSNRUniformConfig:
    """A uniform distribution of log SNR."""

    min_logsnr: float = -6.0
    max_logsnr: float = 2.0

    def __post_init__(self) -> None:
        if not self.min_logsnr < self.max_logsnr:
            raise ValueError(f"max_logsnr must be above min_logsnr, {self.min_logsnr}, got {self.max_logsnr}")


@dataclass(frozen=True)
class ConstantConfig:
    """The same time always: 1 and 0 are `one_shot` and `denoised` of stable-audio-tools' ARC."""

    t: float = 1.0

    def __post_init__(self) -> None:
        within(self, 0, "t", most=1)


Distribution = (
    UniformConfig | LogitNormalConfig | TruncLogitNormalConfig | LogSNRConfig | LogSNRUniformConfig | ConstantConfig
)


@dataclass(frozen=True, kw_only=True)
class TimestepsConfig:
    distribution: Distribution = field(default_factory=UniformConfig)
    p_one_shot: float = 0.0
    """Share of the items that learn from noise alone, at t = 1."""

    def __post_init__(self) -> None:
        within(self, 0, "p_one_shot", most=1)


@dataclass(frozen=True, kw_only=True)
class DistributionShiftConfig:
    """Long latents need more noise to be as unclear as short ones: their times are moved towards 1."""

    base_shift: float = 0.5
    """At `min_length` and below."""
    max_shift: float = 1.15
    """At `max_length` and above."""
    min_length: int = 256
    """In latent frames."""
    max_length: int = 4096
    use_sine: bool = False
    """Moves the times once more, by sin(pi t / 2)."""

    def __post_init__(self) -> None:
        if not 0 <= self.min_length < self.max_length:
            raise ValueError(f"max_length must be above min_length, {self.min_length}, got {self.max_length}")
