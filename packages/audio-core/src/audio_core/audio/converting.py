"""Audio of one rate or number of channels as audio of another, whole or block by block.

soxr resamples (HQ: 73 dB on a 44.1 -> 16 kHz sweep, aliases below -140 dB).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import soxr

from ..files import InputError
from .arrays import Samples
from .formats import BLOCK


def convert_channels(samples: Samples, channels: int, name: str = "audio") -> Samples:
    """One channel is copied to all; many become one by their mean; every other change is an error."""
    if samples.shape[0] == channels:
        return samples
    if channels == 1:
        return samples.mean(0, keepdims=True, dtype=np.float32)
    if samples.shape[0] == 1:
        return np.repeat(samples, channels, 0)
    raise InputError(
        f"{name}: has {samples.shape[0]} channels; only 1 to n, n to 1 or none can be converted, not {channels}"
    )


def regroup(source: Iterable[Samples], frames: int) -> Iterator[Samples]:
    """The same samples in blocks of `frames`; only the last may be shorter."""
    held: list[Samples] = []
    count = 0
    for block in source:
        held.append(block)
        count += block.shape[-1]
        if count >= frames:
            joined = np.concatenate(held, -1)
            full = count - count % frames
            yield from (joined[..., at : at + frames] for at in range(0, full, frames))
            held, count = [joined[..., full:]], count - full
    if count:
        yield np.concatenate(held, -1)


def resample(samples: Samples, source: int, target: int) -> Samples:
    """soxr HQ over the last axis: ceil(T * target / source) samples, no delay."""
    if source == target:
        return samples
    _refuse_ratio(source, target)
    frames = math.ceil(samples.shape[-1] * target / source)
    # A copy, since soxr takes the transposed strides of a single sample for another layout.
    out = np.asarray(soxr.resample(samples.T.copy(), source, target, "HQ").T, np.float32)[..., :frames]
    return np.pad(out, [(0, 0)] * (out.ndim - 1) + [(0, frames - out.shape[-1])])


def _refuse_ratio(source: int, target: int) -> None:
    """A header may claim any rate, and a second of 1 Hz would fill the memory at 1 GHz."""
    if target < 1 or not 1 / 512 <= source / target <= 512:
        raise InputError(f"audio at {source} Hz cannot be resampled to {target} Hz")


def resampled(source: Iterable[Samples], rate: int, target: int, channels: int, frames: int) -> Iterator[Samples]:
    """`resample` block by block, with the state carried."""
    _refuse_ratio(rate, target)
    stream = soxr.ResampleStream(rate, target, channels, "float32", "HQ")
    left = math.ceil(frames * target / rate)
    # Few samples at a time where each becomes many, so that memory stays flat.
    for block in regroup(source, max(1, min(BLOCK, BLOCK * rate // target))):
        out = stream.resample_chunk(block.T.copy()).T[:, :left]
        left -= out.shape[1]
        yield out
    out = stream.resample_chunk(np.zeros((0, channels), np.float32), last=True).T[:, :left]
    yield np.pad(out, ((0, 0), (0, left - out.shape[1])))
