"""The shape that all networks share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from .blocks import DecoderBlock, Stride


class UNetBody(nn.Module):
    """(B, inputs, T, F) -> (B, widths[0], T, F): encoder blocks, a centre, decoder blocks, and one block more.

    After each encoder block time and frequency are halved, and before each decoder block they are doubled. T must be
    divisible by `unit`, F by 2 ** len(widths).
    """

    def __init__(
        self,
        inputs: int,
        widths: Sequence[int],
        block: Callable[[int, int], nn.Module],
        up: Callable[[int, int, Stride], nn.Module],
        centre: int = 1,
        last: Stride = (2, 2),
    ):
        """`block(inputs, outputs)` and `up(inputs, outputs, stride)` make the parts, `centre` is a number of blocks,
        and `last` the stride of the deepest level."""
        super().__init__()
        self.strides = [(2, 2)] * (len(widths) - 1) + [last]
        self.unit = 2 ** (len(widths) - 1) * last[0]
        self.encoders = nn.ModuleList(block(*pair) for pair in pairwise((inputs, *widths)))
        self.centre = nn.ModuleList(block(widths[-1], widths[-1]) for _ in range(centre))
        upward = pairwise((widths[-1], *reversed(widths)))
        self.decoders = nn.ModuleList(
            DecoderBlock(up(below, here, stride), block(2 * here, here))
            for (below, here), stride in zip(upward, reversed(self.strides), strict=True)
        )
        self.after = block(widths[0], widths[0])

    def forward(self, x: Tensor, *condition: Tensor) -> Tensor:
        skips = []
        for encoder, stride in zip(self.encoders, self.strides, strict=True):
            x = encoder(x, *condition)
            skips.append(x)
            x = F.avg_pool2d(x, stride)
        for block in self.centre:
            x = block(x, *condition)
        for decoder in self.decoders:
            x = decoder(x, skips.pop(), *condition)
        return self.after(x, *condition)
