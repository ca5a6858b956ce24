"""What Lyra, Oobleck and DAC share: blocks that change the rate, and how encoders and decoders run through them.

Shapes are (B, channels, samples or frames). A stride s has a kernel of 2 s and a padding of ceil(s / 2), so that L
values become floor(L / s) on the way down, of an odd stride floor((L + 1) / s).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import accumulate
from operator import mul
from typing import Any

import torch
import torch.nn.functional as F
from audio_core.nn.conv import Conv1d, ConvTranspose1d
from audio_core.nn.residual import ResidualUnit
from torch import Tensor, nn

from .pieces import in_pieces, margin
from .reach import decoder_field, encoder_field
from .weight_norm import remove_weight_norm

Activation = Callable[[int], nn.Module]  # of a number of channels

_DILATIONS = (1, 3, 9)
_VALUES = 2**21  # in a piece of the highest rate: few enough for the cache, and enough to outweigh the overlaps
_LOW = 16  # the layers that work at less than a sixteenth of the audio's rate take all at once


class Block(nn.Module):
    """Layers in a row."""

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def units(channels: int, activation: Activation, weight_norm: bool) -> list[nn.Module]:
    """Residual units of growing dilation."""
    options: dict[str, Any] = {"activation": activation, "weight_norm": weight_norm}
    return [ResidualUnit(channels, dilation=dilation, **options) for dilation in _DILATIONS]


def down(inputs: int, outputs: int, stride: int, weight_norm: bool) -> Conv1d:
    return Conv1d(inputs, outputs, 2 * stride, stride, padding=math.ceil(stride / 2), weight_norm=weight_norm)


def up(inputs: int, outputs: int, stride: int, weight_norm: bool, whole: bool = False) -> ConvTranspose1d:
    """L values become L * stride, of an odd stride one less, unless the result is to be `whole`."""
    added = stride % 2 if whole else 0
    padding = math.ceil(stride / 2)
    return ConvTranspose1d(
        inputs, outputs, 2 * stride, stride, padding=padding, output_padding=added, weight_norm=weight_norm
    )


def stage_lengths(samples: int, strides: Sequence[int]) -> list[int]:
    """The lengths before the first stride and behind each of them."""
    return [*accumulate(strides, lambda length, stride: (length + stride % 2) // stride, initial=samples)]


def shortest(strides: Sequence[int]) -> int:
    """Samples that make one latent."""
    length = 1
    for stride in reversed(strides):
        length = length * stride - stride % 2
    return length


# --- encoders and decoders ---------------------------------------------------------------------------------


class Coder(nn.Module, ABC):
    """What encoders and decoders have in common: a first layer, a block for each stride, and further layers."""

    ratio: int
    strides: tuple[int, ...]
    hidden: int
    """Channels of the layers at the audio's rate."""
    local = True
    """Whether outputs depend on neighbours only, and not on the whole input."""
    piece: int | None = None
    """Samples that layers of a high rate take or give at a time, where that is faster; None: all."""

    @abstractmethod
    def steps(self) -> list[nn.Module]:
        """The first layer, the blocks, and the layers behind them."""

    def _piece(self, x: Tensor) -> int | None:
        """Only a CPU gains by pieces, and an exported program is to be free of their number."""
        return self.piece if self.local and x.device.type == "cpu" and not torch.compiler.is_compiling() else None


class Encoder(Coder):
    """Audio (B, C, T) -> (B, W, F)."""

    @property
    def receptive_field(self) -> int | None:
        """Samples to either side, beyond those of its frame, that a latent depends on; None: all."""
        return encoder_field(nn.Sequential(*self.steps()), self.ratio) if self.local else None

    def frames(self, samples: int) -> int:
        """How many latents come of so many samples."""
        return stage_lengths(samples, self.strides)[-1]

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] < shortest(self.strides):
            raise ValueError(f"audio of {x.shape[-1]} samples is too short; {shortest(self.strides)} make one latent")
        steps, early = self.steps(), 0
        if piece := self._piece(x):
            ratios = [1, *(each for each in accumulate(self.strides, mul) if each <= _LOW)]
            early, ratio = len(ratios), ratios[-1]
            chain = nn.Sequential(*steps[:early])
            size = -(-piece // ratio) * ratio
            x = in_pieces(lambda part, *_: chain(part), x, size, margin(chain, ratio), Fraction(1, ratio))
        for step in steps[early:]:
            x = step(x)
        return x


class Decoder(Coder):
    """Latents (B, W, F) -> audio (B, C, T); `strides` are in its own order."""

    @property
    def receptive_field(self) -> int | None:
        """Latents to either side of a frame that its samples depend on; None: all."""
        return decoder_field(nn.Sequential(*self.steps()), self.ratio) if self.local else None

    def forward(self, z: Tensor) -> Tensor:
        return self.decode(z, [None] * len(self.strides))

    def decode(self, z: Tensor, lengths: Sequence[int | None]) -> Tensor:
        """Audio, where the outputs of the blocks are cut or followed by zeros to have `lengths`; None: left alone."""
        steps = self.steps()
        fits = [None, *lengths, *[None] * (len(steps) - len(lengths) - 1)]
        piece = self._piece(z)
        if piece is None:
            return _through(steps, fits, z)
        early = 1 + sum(math.prod(self.strides[at:]) > _LOW for at in range(len(self.strides)))
        x, late = _through(steps[:early], fits[:early], z), steps[early:]
        strides = self.strides[early - 1 :]
        ratio = math.prod(strides)
        rates = [*accumulate(strides, mul), *[ratio] * (len(late) - len(strides))]  # of the outputs of the late steps

        def run(part: Tensor, start: int, last: bool) -> Tensor:
            pairs = zip(fits[early:], rates, strict=True)
            own = [None if fit is None or not last else fit - start * rate for fit, rate in pairs]
            return _through(late, own, part)

        return in_pieces(run, x, -(-piece // ratio), margin(nn.Sequential(*late)), Fraction(ratio))


def _through(steps: Sequence[nn.Module], lengths: Sequence[int | None], x: Tensor) -> Tensor:
    """What the steps make of x, where the output of each is cut or followed by zeros to have its length."""
    for step, length in zip(steps, lengths, strict=True):
        x = step(x)
        if length is not None:
            x = F.pad(x, (0, length - x.shape[-1]))  # a negative number cuts
    return x


def for_inference(model: nn.Module) -> nn.Module:
    """`model` itself, made faster and smaller: weight norm folded, and high rates computed in pieces.

    The results are the same up to rounding. Snake needs less memory and time wherever gradients are off.
    """
    remove_weight_norm(model)
    for part in model.modules():
        if isinstance(part, Coder):
            part.piece = max(1, _VALUES // part.hidden)
    return model
