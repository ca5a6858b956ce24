"""Layers that run piece by piece, so that what they hand on stays in the processor's cache, with the same result.

Audio at its full rate takes most of the memory and most of the time that memory costs: 10 seconds of 128 channels at
44.1 kHz are 226 MB, for each of some thirty layers. Each piece brings as much of its neighbours along as the layers
reach, and what the cut ends spoil is dropped.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import torch
from torch import Tensor, nn

from .reach import reach

Run = Callable[[Tensor, int, bool], Tensor]  # of a piece, the place of its first input, whether it is the last


def in_pieces(run: Run, x: Tensor, size: int, margin: int, ratio: Fraction) -> Tensor:
    """What `run` makes of x (B, C, L), `size` inputs at a time between `margin` inputs of context.

    `ratio` is the number of outputs per input. `size` and `margin` are multiples of its denominator.
    """
    length, outputs, start, last = x.shape[-1], [], 0, False
    while not last:
        stop = start + size
        last = stop + 2 * margin >= length  # no other piece meets the end of the whole
        begin, end = max(0, start - margin), length if last else stop + margin
        output = run(x[..., begin:end], begin, last)
        first = int((start - begin) * ratio)
        outputs.append(output[..., first : None if last else first + int(size * ratio)])
        start = stop
    return torch.cat(outputs, -1) if len(outputs) > 1 else outputs[0]


def margin(chain: nn.Module, unit: int = 1) -> int:
    """Inputs to either side that an output of the chain depends on, as a multiple of `unit`."""
    sides = reach(chain)
    if sides is None:
        raise ValueError("layers that depend on the whole input do not run in pieces")
    return math.ceil(math.ceil(max(sides)) / unit) * unit
