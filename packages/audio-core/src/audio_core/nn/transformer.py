"""Parts of transformer blocks that several models share, with the names of published weights.

Shapes are (B, T, C). `valid` (B, T) is true where a position is real; none of the others gets into a convolution.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LayerScale(nn.Module):
    """A factor for each channel, small at first, so that a new block passes its input on."""

    def __init__(self, width: int):
        super().__init__()
        self.scale = nn.Parameter(torch.full((width,), 1e-5))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


def gated(x: Tensor) -> Tensor:
    """Half of the channels, gated by the other half."""
    value, gate = x.chunk(2, -1)
    return value * F.silu(gate)


class GLU(nn.Module):
    """Half of a projection, gated by the other half. `linear` makes the projection."""

    def __init__(self, inputs: int, outputs: int, linear: type[nn.Linear] = nn.Linear):
        super().__init__()
        self.proj = linear(inputs, 2 * outputs)

    def forward(self, x: Tensor) -> Tensor:
        return gated(self.proj(x))


class TimeConv(nn.Conv1d):
    """Over positions, with zeros beyond the ends and where positions are not valid. The kernel is odd."""

    def __init__(self, inputs: int, outputs: int, kernel: int, bias: bool, groups: int = 1):
        super().__init__(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=bias)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        if valid is not None:
            x = x.masked_fill(~valid[..., None], 0.0)
        return super().forward(x.mT).mT


class Conformer(nn.Module):
    """Convolutions that mix neighbours: pointwise, gated, depthwise, pointwise. `norm` makes a norm for a width."""

    reach = 8  # positions to either side

    def __init__(self, width: int, norm: Callable[[int], nn.Module], linear: type[nn.Linear] = nn.Linear):
        super().__init__()
        self.in_norm = norm(width)
        self.pointwise_conv = TimeConv(width, width, 1, bias=False)
        self.glu = GLU(width, width, linear)
        self.depthwise_conv = TimeConv(width, width, 2 * self.reach + 1, bias=False, groups=width)
        self.mid_norm = norm(width)
        self.pointwise_conv_2 = TimeConv(width, width, 1, bias=False)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        x = self.glu(self.pointwise_conv(self.in_norm(x)))
        x = self.depthwise_conv(x, valid)
        return self.pointwise_conv_2(F.silu(self.mid_norm(x)))
