"""What a backbone expects of the conditions that it is given, and how it projects tokens."""

from __future__ import annotations

from audio_core.files import InputError
from torch import Tensor, nn

from .linear import Linear


def expect(name: str, condition: Tensor | None, width: int, axis: int = 1) -> None:
    """Refuse a condition that has not `width` channels along `axis`; a width of 0 stands for no condition."""
    if condition is None and width:
        raise InputError(f"{name}: none is given, and this model needs {width} channels")
    if condition is not None and not width:
        raise InputError(f"{name}: this model takes none; its configuration has no channels for it")
    if condition is not None and condition.shape[axis] != width:
        raise InputError(f"{name}: has {condition.shape[axis]} channels, and this model needs {width}")


def projection(inputs: int, outputs: int) -> nn.Sequential:
    """Of tokens. Without biases, so that tokens of zeros stay zeros, which guidance takes for none."""
    return nn.Sequential(Linear(inputs, outputs, bias=False), nn.SiLU(), Linear(outputs, outputs, bias=False))
