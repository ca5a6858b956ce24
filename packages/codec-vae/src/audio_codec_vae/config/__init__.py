"""The configurations of the autoencoders, without torch: encoder, bottleneck and decoder are chosen one by one.

Names and defaults of the settings are the originals', where a user meets them in a model_config.json.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .bottlenecks import (
    BottleneckConfig,
    DACRVQConfig,
    DACRVQVAEConfig,
    DitheredFSQConfig,
    FSQConfig,
    L2NormConfig,
    LogVarianceConfig,
    RVQConfig,
    RVQVAEConfig,
    SoftNormConfig,
    TanhConfig,
    VAEConfig,
    WassersteinConfig,
)
from .coders import (
    DACDecoderConfig,
    DACEncoderConfig,
    DecoderConfig,
    EncoderConfig,
    LyraConfig,
    LyraDecoderConfig,
    LyraEncoderConfig,
    OobleckConfig,
    OobleckDecoderConfig,
    OobleckEncoderConfig,
    SEANetConfig,
    SEANetDecoderConfig,
    SEANetEncoderConfig,
    TAAEConfig,
    TAAEDecoderConfig,
    TAAEEncoderConfig,
)
from .pretransforms import FilterBankConfig, PatchedConfig, PretransformConfig, WaveletConfig


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    rate: int = 44100
    channels: int = 2
    encoder: EncoderConfig = field(default_factory=LyraEncoderConfig)
    decoder: DecoderConfig = field(default_factory=LyraDecoderConfig)
    bottleneck: BottleneckConfig | None = field(default_factory=LogVarianceConfig)
    pretransform: PretransformConfig | None = None
    soft_clip: bool = False
    """Limits the output by tanh."""
    frozen: tuple[Literal["encoder", "bottleneck", "decoder"], ...] = ()
    """What does not learn."""
    folded: bool = False
    """Weight norm is folded into plain weights: for use, and not for training."""


@dataclass(frozen=True, kw_only=True)
class LearningEncoderConfig:
    """The half of an autoencoder that learns as a part of another package's model."""

    encoder: EncoderConfig
    bottleneck: BottleneckConfig | None
    pretransform: None = None


__all__ = [
    "AutoencoderConfig",
    "BottleneckConfig",
    "DACDecoderConfig",
    "DACEncoderConfig",
    "DACRVQConfig",
    "DACRVQVAEConfig",
    "DecoderConfig",
    "DitheredFSQConfig",
    "EncoderConfig",
    "FSQConfig",
    "FilterBankConfig",
    "L2NormConfig",
    "LearningEncoderConfig",
    "LogVarianceConfig",
    "LyraConfig",
    "LyraDecoderConfig",
    "LyraEncoderConfig",
    "OobleckConfig",
    "OobleckDecoderConfig",
    "OobleckEncoderConfig",
    "PatchedConfig",
    "PretransformConfig",
    "RVQConfig",
    "RVQVAEConfig",
    "SEANetConfig",
    "SEANetDecoderConfig",
    "SEANetEncoderConfig",
    "SoftNormConfig",
    "TAAEConfig",
    "TAAEDecoderConfig",
    "TAAEEncoderConfig",
    "TanhConfig",
    "VAEConfig",
    "WassersteinConfig",
    "WaveletConfig",
]
