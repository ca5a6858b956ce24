"""What the kernels compiled by Numba share: how they are compiled, and an exp2 that LLVM can vectorise."""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic

LANES = 32  # channels that a kernel works on at once: loops of this constant length become vector instructions
LOG2E = np.float32(1.4426950408889634)
ONE = np.float32(1)

ROUND = np.float32(1.5 * 2**23)  # a float32 as large as this has no fraction bits: adding it rounds to a whole number
SMALLEST, LARGEST = np.float32(ROUND - 126), np.float32(126)  # exponents of float32 end here
# 2^f on [-1/2, 1/2] to 1e-7, and exact at 0, since most decays are close to 1.
C1, C2, C3, C4, C5 = (np.float32(c) for c in (0.69314698, 0.24022242, 0.05550734, 0.00967151, 0.00132647))


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile at the first call and keep the result: beside this file, else in the user's cache, else in memory.

    Without the lock of the interpreter, so that threads can share the rows. Products and sums may become one
    instruction, but nothing is reordered: the rounding in `exp2` depends on the order.
    """
    options = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder can be written
        return numba.njit(**options)(function)


def _bitcast(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return builder.bitcast(args[0], context.get_value_type(signature.return_type))


@intrinsic
def bits_of(typing, value):
    """The bits of a float32 as int32."""
    return types.int32(types.float32), _bitcast


@intrinsic
def float_of(typing, value):
    """The float32 of these bits."""
    return types.float32(types.int32), _bitcast


@numba.njit(inline="always")
def exp2(x: float) -> float:
    """2^x = 2^whole 2^fraction: a polynomial for the fraction, the whole number added to the bits of the exponent."""
    whole = x + ROUND
    f = x - (whole - ROUND)
    power = ONE + f * (C1 + f * (C2 + f * (C3 + f * (C4 + f * C5))))
    whole = whole if whole > SMALLEST else SMALLEST
    return float_of(np.int32(bits_of(power) + np.int32(bits_of(whole) << np.int32(23))))


@numba.njit(inline="always")
def sigmoid(x: float) -> float:
    x = -x * LOG2E
    return ONE / (ONE + exp2(x if x < LARGEST else LARGEST))
