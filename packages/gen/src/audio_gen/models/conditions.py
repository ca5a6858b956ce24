"""What a backbone expects of the conditions that it is given."""

from __future__ import annotations

from audio_core.files import InputError
from torch import Tensor


def expect(name: str, condition: Tensor | None, width: int, axis: int = 1) -> None:
    """Refuse a condition that has not `width` channels along `axis`; a width of 0 stands for no condition."""
    if condition is None and width:
        raise InputError(f"{name}: none is given, and this model needs {width} channels")
    if condition is not None and not width:
        raise InputError(f"{name}: this model takes none; its configuration has no channels for it")
    if condition is not None and condition.shape[axis] != width:
        raise InputError(f"{name}: has {condition.shape[axis]} channels, and this model needs {width}")
