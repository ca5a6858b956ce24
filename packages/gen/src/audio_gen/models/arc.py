"""The discriminator of adversarial relativistic-contrastive post-training (ARC, arXiv 2505.08175), and its losses.

It scores noisy latents under the conditions they were generated for. Scores are compared in pairs of a real item and
a generated one, so they have no zero of their own.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from audio_core.dsp.precision import at_least_float32
from audio_core.nn.conv import Conv1d
from torch import Tensor, nn

from ..config.discriminators import ArcDiscriminatorConfig, ConvHeadConfig, ConvNeXtHeadConfig
from .dit import DiT

_GROUPS = 32  # of the convolutional head's norms


class ArcDiscriminator(nn.Module):
    """A copy of `backbone` up to the hidden layer, and a head."""

    def __init__(self, config: ArcDiscriminatorConfig, backbone: DiT):
        super().__init__()
        if config.dit_hidden_layer >= backbone.config.depth:
            raise ValueError(
                f"dit_hidden_layer is {config.dit_hidden_layer}, and there are {backbone.config.depth} blocks"
            )
        self.config = config
        self.backbone = copy.deepcopy(backbone)
        self.backbone.postprocess_conv = nn.Identity()
        transformer = self.backbone.transformer
        transformer.layers, transformer.project_out = transformer.layers[: config.dit_hidden_layer + 1], nn.Identity()
        width = backbone.config.embed_dim
        convolutional = isinstance(config.head, ConvHeadConfig)
        self.head: nn.Module = ConvHead(width) if convolutional else ConvNeXtHead(width, config.head)

    def forward(self, x: Tensor, t: Tensor, **conditions: Tensor | None) -> Tensor:
        """Noisy latents (B, C, T) at times t (B,) -> scores (B, 1, some fraction of T)."""
        return self.head(self.backbone.hidden(x, t, self.config.dit_hidden_layer, **conditions).mT)


class ConvHead(nn.Module):
    """(B, C, T) -> scores (B, 1, T // 16 - 3)."""

    def __init__(self, width: int):
        super().__init__()
        if width % _GROUPS:
            raise ValueError(f"the convolutional head needs a width that is a multiple of {_GROUPS}, got {width}")
        layers: list[nn.Module] = []
        for _ in range(4):
            layers += [nn.Conv1d(width, width, 4, 2, 1), nn.GroupNorm(_GROUPS, width), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Conv1d(width, 1, 4))

    def forward(self, x: Tensor) -> Tensor:
        _expect_length(x, 64)
        return self.layers(x)


class ConvNeXtHead(nn.Module):
    """(B, C, T) -> scores (B, 1, T // ratio), for strides that are even."""

    def __init__(self, width: int, config: ConvNeXtHeadConfig):
        super().__init__()
        self.ratio = config.ratio
        inputs = config.channels
        self.proj_in = Conv1d(width, inputs, 7, padding=3, weight_norm=True)
        layers: list[nn.Module] = []
        for factor, stride, count in zip(config.c_mults, config.strides, config.num_blocks, strict=True):
            blocks = [ConvNeXtBlock(inputs, config.kernel_size, config.mult, config.glu) for _ in range(count)]
            outputs = config.channels * factor
            shorter = Conv1d(inputs, outputs, 2 * stride, stride, padding=math.ceil(stride / 2), weight_norm=True)
            layers += [*blocks, shorter]
            inputs = outputs
        self.layers = nn.Sequential(*layers, Conv1d(inputs, 1, 3, padding=1, weight_norm=True))

    def forward(self, x: Tensor) -> Tensor:
        _expect_length(x, self.ratio)
        return self.layers(self.proj_in(x))


class ConvNeXtBlock(nn.Module):
    """x + a wide hidden layer at each position, behind a convolution of each channel over time."""

    def __init__(self, width: int, kernel_size: int, mult: int, glu: bool):
        super().__init__()
        hidden = mult * width
        self.glu = glu
        self.dw_conv = Conv1d(width, width, kernel_size, padding=kernel_size // 2, groups=width, weight_norm=True)
        self.proj_up = Conv1d(width, 2 * hidden if glu else hidden, 1, weight_norm=True)
        self.proj_down = Conv1d(hidden, width, 1, weight_norm=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.proj_up(self.dw_conv(x))
        if self.glu:
            value, gate = y.chunk(2, 1)
            y = F.silu(value * torch.sigmoid(gate))
        else:
            y = F.gelu(y)
        return x + self.proj_down(y)


def relativistic_discriminator(real: Tensor, generated: Tensor) -> Tensor:
    """Falls as real items score above the generated ones they are paired with."""
    return F.softplus(at_least_float32(generated) - at_least_float32(real)).mean()


def relativistic_generator(real: Tensor, generated: Tensor) -> Tensor:
    """Falls as generated items score above the real ones they are paired with."""
    return F.softplus(at_least_float32(real) - at_least_float32(generated)).mean()


def _expect_length(x: Tensor, least: int) -> None:
    if x.shape[2] < least:
        raise ValueError(f"the discriminator's head needs {least} positions, got {x.shape[2]}")
