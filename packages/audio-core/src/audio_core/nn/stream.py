"""Sequences of layers that can process a stream piece by piece, pointwise layers included.

A layer that streams, such as `Conv1d`, `ConvTranspose1d`, `Residual` and `Sequential`, gives a state by `start(batch)`,
and by `stream(chunk, state, last)` the output of `forward` piece by piece, with the next state. It states its outputs
per input as `ratio`, its look-ahead, the inputs after its own that an output waits for, as `delay`, and the inputs
before its own that an output depends on as `history`.
"""

from fractions import Fraction
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import activation

# Activations that compute one output from several values.
_MIXING = {"MultiheadAttention", "Softmax", "Softmax2d", "Softmin", "LogSoftmax", "GLU"}


def streams(layer: nn.Module) -> bool:
    return hasattr(layer, "stream")


def is_pointwise(layer: nn.Module) -> bool:
    """Whether `layer` treats each sample alone: activations, Identity, and classes with `pointwise = True`."""
    is_activation = type(layer).__module__ == activation.__name__ and type(layer).__name__ not in _MIXING
    return is_activation or isinstance(layer, nn.Identity) or getattr(layer, "pointwise", False)


class Sequential(nn.Sequential):
    """nn.Sequential that streams. Its state is the tuple of its layers' states, None for pointwise layers."""

    @property
    def ratio(self) -> Fraction:
        product = Fraction(1)
        for layer in self:
            product *= layer.ratio if streams(layer) else 1
        return product

    @property
    def delay(self) -> Fraction:
        """The look-ahead, in inputs of the first layer."""
        return self._sum("delay")

    @property
    def history(self) -> Fraction:
        """Earlier inputs of the first layer that an output depends on. With `delay` they are the receptive field."""
        return self._sum("history")

    def _sum(self, name: str) -> Fraction:
        total, ratio = Fraction(0), Fraction(1)
        for layer in self:
            if streams(layer):
                total += getattr(layer, name) / ratio
                ratio *= layer.ratio
        return total

    def start(self, batch: int = 1) -> tuple[Any, ...]:
        for layer in self:
            if not streams(layer) and not is_pointwise(layer):
                raise TypeError(
                    f"{type(layer).__name__} cannot stream: it is neither pointwise nor has start and stream"
                )
        return tuple(layer.start(batch) if streams(layer) else None for layer in self)

    def stream(self, chunk: Tensor, state: tuple[Any, ...], last: bool = False) -> tuple[Tensor, tuple[Any, ...]]:
        following = []
        for layer, held in zip(self, state, strict=True):
            if streams(layer):
                chunk, held = layer.stream(chunk, held, last)
            else:
                chunk = layer(chunk)
            following.append(held)
        return chunk, tuple(following)
