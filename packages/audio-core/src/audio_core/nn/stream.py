"""Chains of layers that can be fed piece by piece; layers that see one sample at a time just run."""

from fractions import Fraction
from typing import Any, Protocol

from torch import Tensor, nn
from torch.nn.modules import activation


class Streaming(Protocol):
    """A layer whose pieces add up to its `forward`: `Conv1d`, `ConvTranspose1d`, `Residual`, `Sequential`."""

    @property
    def ratio(self) -> Fraction: ...  # outputs per input

    @property
    def delay(self) -> Fraction: ...  # inputs that an output has to wait for

    @property
    def history(self) -> Fraction: ...  # inputs before its own that an output depends on

    def start(self, batch: int = 1) -> Any: ...

    def stream(self, chunk: Tensor, state: Any, last: bool = False) -> tuple[Tensor, Any]: ...


# Activations that look at more than one value.
_MIXING = {"MultiheadAttention", "Softmax", "Softmax2d", "Softmin", "LogSoftmax", "GLU"}


def streams(layer: nn.Module) -> bool:
    return hasattr(layer, "stream")


def is_pointwise(layer: nn.Module) -> bool:
    """Whether `layer` treats each sample alone: activations, Identity, what says `pointwise = True`."""
    known = type(layer).__module__ == activation.__name__ and type(layer).__name__ not in _MIXING
    return known or isinstance(layer, nn.Identity) or getattr(layer, "pointwise", False)


class Sequential(nn.Sequential):
    """nn.Sequential that streams; its state is the tuple of its layers' states, None for pointwise ones."""

    @property
    def ratio(self) -> Fraction:
        product = Fraction(1)
        for layer in self:
            product *= layer.ratio if streams(layer) else 1
        return product

    @property
    def delay(self) -> Fraction:
        """In inputs of the first layer."""
        return self._sum("delay")

    @property
    def history(self) -> Fraction:
        """In inputs of the first layer. With `delay` it is the receptive field, from which margins of chunks follow."""
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
