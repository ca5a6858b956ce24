"""What the kernels compiled by Numba share: how they are compiled, pointers, and an exp2 that LLVM can vectorise.

Kernels take addresses, not arrays: an array costs its conversion at each call, a check for a negative index at each
element, and counted references at each call within the kernel.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 32  # channels that a kernel works on at once: loops of this constant length become vector instructions
LOG2E, LN2, ONE = np.float32(1.4426950408889634), np.float32(0.6931471805599453), np.float32(1)

ROUND = np.float32(1.5 * 2**23)  # a float32 as large as this has no fraction bits: adding it rounds to a whole number
SMALLEST, LARGEST = np.float32(-126), np.float32(126)  # exponents of float32 end here
# 2^f on [-1/2, 1/2] to 1e-7, and exact at 0, since most decays are close to 1.
COEFFICIENTS = tuple(np.float32(c) for c in (0.69314698, 0.24022242, 0.05550734, 0.00967151, 0.00132647))
TABLE = 5 * LANES


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel: compiled at its first call and kept beside its file, else in the user's cache, else in memory.

    It runs without the lock of the interpreter, so that threads can share the rows.
    """
    try:
        return numba.njit(cache=True, **OPTIONS)(function)
    except RuntimeError:  # no folder can be written
        return numba.njit(**OPTIONS)(function)


# A product and a sum may become one instruction, but sums keep their order: the rounding in `power` depends on it.
OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
inner = numba.njit(**OPTIONS)
# An inner part of a kernel whose sums may be reordered, so that sums over lanes become vector instructions as well.
summing = numba.njit(**OPTIONS | {"fastmath": {"contract", "reassoc", "nsz"}})


@intrinsic
def floats(typing, address):
    """The pointer to float32 at an address."""

    def convert(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.float32)(types.int64), convert


@inner
def strided(tensor):
    """Pointer and strides of a tensor that was passed as (address, row, step)."""
    return floats(tensor[0]), tensor[1], tensor[2]


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


@inner
def power(x, c1, c2, c3, c4, c5):
    """2^x = 2^whole 2^fraction: a polynomial for the fraction, the whole number added to the bits of the exponent.

    NaN stays NaN: no comparison with it is true, and its bits are shifted out where the whole number is added.
    """
    x = SMALLEST if x < SMALLEST else x
    whole = x + ROUND
    f = x - (whole - ROUND)
    fraction = ONE + f * (c1 + f * (c2 + f * (c3 + f * (c4 + f * c5))))
    return float_of(np.int32(bits_of(fraction) + np.int32(bits_of(whole) << np.int32(23))))


@inner
def exp2(x):
    return power(x, *COEFFICIENTS)


@inner
def exp2_of_lane(x, table, i):
    """A coefficient from memory is an operand of its instruction; a constant would first need one of few registers."""
    return power(x, table[i], table[LANES + i], table[2 * LANES + i], table[3 * LANES + i], table[4 * LANES + i])


@inner
def fill(table):
    """The table for `exp2_of_lane`."""
    for k in range(5):
        for i in range(LANES):
            table[k * LANES + i] = COEFFICIENTS[k]


@inner
def sigmoid(x):
    x = -x * LOG2E
    return ONE / (ONE + exp2(x if x < LARGEST else LARGEST))


@inner
def padded(count):
    """Rounded up to whole LANES."""
    return (count + LANES - 1) // LANES * LANES


@inner
def copy(source, source_at, target, target_at, count):
    """Up to LANES numbers."""
    if count == LANES:
        move(target, target_at, source, source_at)
    else:
        for i in range(count):
            target[target_at + i] = source[source_at + i]


# --- operations on LANES at once ---------------------------------------------------------------------------
# LLVM makes no vectors of loops of so few and small steps: where the count is a constant it unrolls them, and else it
# works on four vectors at a time, for which there are too few lanes. Loops with an exp2 or a sigmoid are long enough.

PLACE = types.CPointer(types.float32), types.int64  # a pointer, and the place of the first of LANES numbers
WHOLE, BYTES = ir.IntType(32), ir.IntType(8).as_pointer()


def _vectors(operation: Callable[..., Any]) -> Any:
    """Code that stores `operation` of the numbers at all places at the first of these."""

    def convert(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = ir.VectorType(ir.FloatType(), LANES).as_pointer()
        pairs = zip(args[::2], args[1::2], strict=True)
        places = [builder.bitcast(builder.gep(pointer, [at]), vector) for pointer, at in pairs]
        result = operation(builder, *(builder.load(place, align=4) for place in places))
        builder.store(result, places[0], align=4)
        return context.get_dummy_value()

    return convert


@intrinsic
def move(typing, target, at, source, source_at):
    """target = source"""
    return types.void(*PLACE, *PLACE), _vectors(lambda builder, old, new: new)


@intrinsic
def add(typing, target, at, a, a_at):
    """target += a"""
    return types.void(*PLACE, *PLACE), _vectors(lambda builder, total, x: builder.fadd(total, x))


@intrinsic
def multiply(typing, target, at, a, a_at, b, b_at):
    """target = a b"""
    return types.void(*PLACE, *PLACE, *PLACE), _vectors(lambda builder, old, x, y: builder.fmul(x, y))


@intrinsic
def add_product(typing, target, at, a, a_at, b, b_at):
    """target += a b, by one instruction where there is one."""
    flags = ["contract"]

    def sum_up(builder: Any, total: Any, x: Any, y: Any) -> Any:
        return builder.fadd(total, builder.fmul(x, y, flags=flags), flags=flags)

    return types.void(*PLACE, *PLACE, *PLACE), _vectors(sum_up)


@intrinsic
def fetch(typing, source, at):
    """Bring LANES numbers to the second-level cache; it may be any address."""

    def convert(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [BYTES, WHOLE, WHOLE, WHOLE])
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [BYTES], kind)
        start = builder.bitcast(builder.gep(args[0], [args[1]]), BYTES)
        for line in range(0, 4 * LANES, 64):
            builder.call(prefetch, [builder.gep(start, [WHOLE(line)]), WHOLE(0), WHOLE(2), WHOLE(1)])
        return context.get_dummy_value()

    return types.void(*PLACE), convert
