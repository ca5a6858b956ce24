"""What a transformer block does at each position, and what mixes neighbours by convolution.

Shapes are (B, T, C). `valid` (B, T) is true where a position is real; none of the others gets into a convolution.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config.transformer import FeedForwardConfig, NormConfig
from .linear import Linear
from .norms import LayerNorm

_POSITIONS = 512  # that inference computes at once


class FeedForward(nn.Module):
    """down(silu(up(x))), or down(value · silu(gate)) of the two halves of `up`."""

    def __init__(self, width: int, config: FeedForwardConfig, zero_init: bool):
        super().__init__()
        hidden, kernel, bias = int(config.mult * width), config.conv_kernel_size, not config.no_bias
        self.gated, self.mixes = config.glu, config.use_conv
        self.up: nn.Module
        if config.glu:
            self.up = Linear(width, 2 * hidden)
        elif config.use_conv:
            self.up = TimeConv(width, hidden, kernel, bias)
        else:
            self.up = Linear(width, hidden, bias)
        self.down = TimeConv(hidden, width, kernel, bias) if config.use_conv else Linear(hidden, width, bias)
        if zero_init:
            for parameter in self.down.parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        if self.mixes or torch.is_grad_enabled():
            return self._applied(x, valid)
        positions = x.flatten(0, 1)
        parts = positions.chunk(-(-len(positions) // _POSITIONS))  # the hidden layer is by far the largest tensor
        return torch.cat([self._applied(part, None) for part in parts]).view_as(x)

    def _applied(self, x: Tensor, valid: Tensor | None) -> Tensor:
        x = _apply(self.up, x, valid)
        return _apply(self.down, _gated(x) if self.gated else F.silu(x), valid)


class Conformer(nn.Module):
    """Convolutions that mix neighbours: pointwise, gated, depthwise over 17 positions, pointwise."""

    def __init__(self, width: int, norm: NormConfig):
        super().__init__()
        self.in_norm = LayerNorm(width, norm)
        self.pointwise_conv = TimeConv(width, width, 1, bias=False)
        self.glu = GLU(width)
        self.depthwise_conv = TimeConv(width, width, 17, bias=False, groups=width)
        self.mid_norm = LayerNorm(width, norm)
        self.pointwise_conv_2 = TimeConv(width, width, 1, bias=False)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        x = self.glu(self.pointwise_conv(self.in_norm(x)))
        x = self.depthwise_conv(x, valid)
        return self.pointwise_conv_2(F.silu(self.mid_norm(x)))


class GLU(nn.Module):
    """Half of a projection, gated by the other half."""

    def __init__(self, width: int):
        super().__init__()
        self.proj = Linear(width, 2 * width)

    def forward(self, x: Tensor) -> Tensor:
        return _gated(self.proj(x))


class TimeConv(nn.Conv1d):
    """Over positions, with zeros beyond the ends and where positions are not valid."""

    def __init__(self, inputs: int, outputs: int, kernel: int, bias: bool, groups: int = 1):
        super().__init__(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=bias)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        if valid is not None:
            x = x.masked_fill(~valid[..., None], 0.0)
        return super().forward(x.mT).mT


def _gated(x: Tensor) -> Tensor:
    value, gate = x.chunk(2, -1)
    return value * F.silu(gate)


def _apply(layer: nn.Module, x: Tensor, valid: Tensor | None) -> Tensor:
    return layer(x, valid) if isinstance(layer, TimeConv) else layer(x)
