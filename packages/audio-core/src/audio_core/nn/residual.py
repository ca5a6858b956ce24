"""Residual connections that also work in a stream: a layer's output is added to its delayed input."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .conv import Conv1d, Padding
from .snake import SnakeBeta
from .stream import Sequential


class ResidualState(NamedTuple):
    """What the block keeps between two pieces of a stream."""

    layers: tuple[Any, ...]
    waiting: Tensor  # (B, C, n): inputs for which the layers have not returned an output yet


class Residual(nn.Module):
    """x + layers(x). The layers must keep channels and length, and their delay must not be negative."""

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.layers = Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)

    @property
    def ratio(self) -> Fraction:
        return self.layers.ratio

    @property
    def delay(self) -> Fraction:
        return self.layers.delay

    @property
    def history(self) -> Fraction:
        return self.layers.history

    def start(self, batch: int = 1) -> ResidualState:
        if self.ratio != 1 or self.delay < 0:
            raise ValueError(f"a skip needs layers of ratio 1 and delay >= 0, got {self.ratio} and {self.delay}")
        parameter = next(self.parameters())
        return ResidualState(self.layers.start(batch), parameter.new_zeros(batch, 0, 0))

    def stream(self, chunk: Tensor, state: ResidualState, last: bool = False) -> tuple[Tensor, ResidualState]:
        out, layers = self.layers.stream(chunk, state.layers, last)
        held, ready = state.waiting.shape[-1], out.shape[-1]
        if not held and ready == chunk.shape[-1]:
            return chunk + out, ResidualState(layers, state.waiting)
        waiting = torch.cat([state.waiting, chunk], -1) if held else chunk
        return waiting[..., :ready] + out, ResidualState(layers, waiting[..., ready:].clone())


class ResidualUnit(Residual):
    """x + conv1(act(conv(act(x)))), the first convolution wide and dilated. (B, C, T) -> (B, C, T)."""

    def __init__(
        self,
        channels: int,
        kernel: int = 7,
        dilation: int = 1,
        padding: Padding = "same",
        activation: Callable[[int], nn.Module] = SnakeBeta,
        weight_norm: bool = False,
    ):
        super().__init__(
            activation(channels),
            Conv1d(channels, channels, kernel, dilation=dilation, padding=padding, weight_norm=weight_norm),
            activation(channels),
            Conv1d(channels, channels, 1, weight_norm=weight_norm),
        )
