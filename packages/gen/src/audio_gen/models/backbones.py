"""The networks of diffusion models by their configurations."""

from __future__ import annotations

from torch import nn

from ..config.backbones import DiTConfig
from ..config.unets import ADPConfig, DanceDiffusionUNetConfig
from .adp import ADPUNet
from .dance_diffusion import DanceDiffusionUNet
from .dit import DiT


def build(config: DiTConfig | DanceDiffusionUNetConfig | ADPConfig) -> nn.Module:
    if isinstance(config, DiTConfig):
        return DiT(config)
    return DanceDiffusionUNet(config) if isinstance(config, DanceDiffusionUNetConfig) else ADPUNet(config)
