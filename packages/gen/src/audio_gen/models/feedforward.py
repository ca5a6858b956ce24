"""What a transformer block does at each position.

Shapes are (B, T, C). `valid` (B, T) is true where a position is real; none of the others gets into a convolution.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from audio_core.nn.transformer import TimeConv, gated
from torch import Tensor, nn

from ..config.transformer import FeedForwardConfig
from .linear import Linear

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
        return _apply(self.down, gated(x) if self.gated else F.silu(x), valid)


def _apply(layer: nn.Module, x: Tensor, valid: Tensor | None) -> Tensor:
    return layer(x, valid) if isinstance(layer, TimeConv) else layer(x)
