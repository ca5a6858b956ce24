"""Arrays and tensors that users pass: each is taken as audio or refused, with one line that says what to pass.

An integer array, one with its axes swapped or one with NaN would otherwise become noise or a wrong answer.
"""

from __future__ import annotations

import sys
from numbers import Real
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from ..files import InputError

if TYPE_CHECKING:
    from torch import Tensor

Samples = np.ndarray  # float32 (C, T)

_FEW = 8  # a clip of so few samples may have more channels than samples


def samples(array: ArrayLike | Tensor, name: str = "audio") -> Samples:
    """A recording (T,) or (C, T) of floating-point numbers, from numpy, torch or a list, as float32 (C, T).

    Full scale is -1 to 1, and more is allowed. Integers, swapped axes, NaN, infinity and emptiness are an InputError
    that begins with `name`.
    """
    checked = shaped(array, name)
    if not checked.size:
        raise InputError(f"{name}: is empty, of shape {checked.shape}; pass at least one sample")
    finite = np.isfinite(checked)
    if not finite.all():
        raise InputError(f"{name}: holds NaN or infinity at sample {int(np.argmax(~finite.all(0)))}")
    return checked


def refuse_rate(rate: object) -> None:
    """A rate that is no number would fail later and in other words."""
    if not isinstance(rate, Real):
        raise InputError(f"rate: expected a number of Hz, got {rate!r:.40}")


def shaped(array: ArrayLike | Tensor, name: str, channels: int | None = None) -> Samples:
    """What `samples` does without a look at the values; `channels` is how many there must be, if that is known."""
    torch = sys.modules.get("torch")  # a tensor exists only where torch is imported already
    if torch and isinstance(array, torch.Tensor):
        array = array.detach().cpu()
        array = (array.float() if array.dtype.is_floating_point else array).numpy()
    try:
        numbers = np.asarray(array)
    except ValueError:  # lists of several lengths
        raise InputError(f"{name}: its channels differ in length; pass one array (C, T)") from None
    if numbers.dtype.kind not in "fiubc":  # a path, for example
        raise InputError(f"{name}: is no array of numbers but {type(array).__name__}; pass samples, (T,) or (C, T)")
    if numbers.dtype.kind != "f":
        raise InputError(f"{name}: holds {numbers.dtype}, {_as_float(str(numbers.dtype))}")
    if numbers.ndim not in (1, 2):
        raise InputError(f"{name}: has the shape {numbers.shape}; pass one recording, (T,) or (C, T)")
    numbers = np.atleast_2d(numbers)
    count, frames = numbers.shape
    swapped = count > max(frames, _FEW) if channels is None else count != channels == frames
    if frames and swapped:
        raise InputError(f"{name}: {count} channels of {frames} samples look like (T, C); pass the transpose, (C, T)")
    if channels not in (None, count):
        raise InputError(f"{name}: has {count} channels; {channels} are expected")
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinity
        return numbers.astype(np.float32, copy=False)


def batch(tensor: Tensor, channels: int, name: str = "audio") -> Tensor:
    """The tensor itself where it is a batch (B, channels, T) of finite floating-point audio, as a model takes it."""
    if isinstance(tensor, np.ndarray):
        raise InputError(f"{name}: is a numpy array; pass a tensor (B, {channels}, T), torch.from_numpy(x)[None]")
    if "torch" not in sys.modules or not isinstance(tensor, sys.modules["torch"].Tensor):
        raise InputError(f"{name}: is no tensor but {type(tensor).__name__}; pass a tensor (B, {channels}, T)")
    kind, shape = str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)
    if not tensor.dtype.is_floating_point:
        raise InputError(f"{name}: holds {kind}, {_as_float(kind)}")
    if len(shape) != 3:
        raise InputError(f"{name}: has the shape {shape}; pass a batch (B, {channels}, T)")
    if not tensor.numel():
        raise InputError(f"{name}: is empty, of shape {shape}; pass at least one sample")
    if shape[1] != channels and shape[2] == channels:
        raise InputError(f"{name}: {shape} looks like (B, T, C); pass (B, {channels}, T), x.transpose(1, 2)")
    if shape[1] != channels:
        raise InputError(f"{name}: has {shape[1]} channels, and the model takes {channels}; pass (B, {channels}, T)")
    if not tensor.isfinite().all():
        raise InputError(f"{name}: holds NaN or infinity")
    return tensor


def _as_float(kind: str) -> str:
    """What to pass in place of numbers that are no floats."""
    scale = {"int16": "32768", "int32": "2147483648", "uint8": "128 after subtracting 128"}.get(kind)
    return f"not floats in -1 to 1; divide by {scale}" if scale else "not floats in -1 to 1; convert it"


def to_int16(samples: Samples) -> np.ndarray:
    """Samples within -1 to 1 as 16 bits: times 32768, rounded, what is beyond cut off."""
    return np.clip(np.rint(samples * np.float32(2**15)), -(2**15), 2**15 - 1).astype(np.int16)
