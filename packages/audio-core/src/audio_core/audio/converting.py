"""Audio of one rate or number of channels as audio of another, whole or block by block.

soxr resamples (HQ: 73 dB on a 44.1 -> 16 kHz sweep, aliases below -140 dB).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
import soxr

from ..files import InputError
from .arrays import Samples, refuse_rate
from .formats import BLOCK

# The loudspeakers of n channels, in the order of WAV and FLAC. Other numbers may be anything: microphones, ambisonics.
LAYOUTS = {5: ("5.0", "L R C Ls Rs"), 6: ("5.1", "L R C LFE Ls Rs"), 8: ("7.1", "L R C LFE Lb Rb Ls Rs")}


def convert_channels(samples: Samples, channels: int, name: str = "audio") -> Samples:
    """One channel is copied to all, and many become one by their mean; surround is mixed down to two or one.

    Surround is 5.0, 5.1 or 7.1 in the order of WAV. Every other change is an error.
    """
    count = samples.shape[0]
    if count == channels:
        return samples
    if channels <= 2 and count in LAYOUTS:
        weights = _downmix(count)  # (2, count)
        return (weights if channels == 2 else weights.mean(0, keepdims=True)) @ samples
    if channels == 1:
        return samples.mean(0, keepdims=True, dtype=np.float32)
    if count == 1:
        return np.repeat(samples, channels, 0)
    raise InputError(
        f"{name}: has {count} channels; only 1 to n, n to 1, surround to 2 or none can be converted, not {channels}"
    )


def convertible(source: int, channels: int) -> bool:
    """Whether `convert_channels` can make so many channels of `source`."""
    return source == channels or 1 in (source, channels) or bool(mixing(source, channels))


def mixing(source: int, channels: int) -> str:
    """What `convert_channels` does to surround of `source` channels, for a remark; empty for every other change."""
    if source not in LAYOUTS or channels > 2:
        return ""
    layout, speakers = LAYOUTS[source]
    result = "stereo" if channels == 2 else "mono"
    return f"{layout} ({speakers}) mixed down to {result} as in ITU-R BS.775, scaled so that nothing clips"


def _downmix(count: int) -> np.ndarray:
    """Weights (2, count) of ITU-R BS.775: centre and surround at -3 dB and no LFE; each side's add up to one."""
    weights = np.zeros((2, count), np.float32)
    for at, speaker in enumerate(LAYOUTS[count][1].split()):
        if speaker != "LFE":
            weights[:, at] = [speaker[0] in (side, "C") for side in "LR"]
            weights[:, at] *= 1.0 if speaker in "LR" else 0.5**0.5
    return weights / weights.sum(1, keepdims=True)


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
    _refuse_ratio(source, target)
    if source == target:
        return samples
    frames = math.ceil(samples.shape[-1] * target / source)
    # A copy, since soxr takes the transposed strides of a single sample for another layout.
    out = np.asarray(soxr.resample(samples.T.copy(), source, target, "HQ").T, np.float32)[..., :frames]
    return np.pad(out, [(0, 0)] * (out.ndim - 1) + [(0, frames - out.shape[-1])])


def _refuse_ratio(source: int, target: int) -> None:
    """A header may claim any rate, and a second of 1 Hz would fill the memory at 1 GHz."""
    for rate in (source, target):
        refuse_rate(rate)
    if target < 1 or not 1 / 512 <= source / target <= 512:
        raise InputError(f"audio at {source} Hz cannot be resampled to {target} Hz")


def resampled(source: Iterable[Samples], rate: int, target: int, channels: int) -> Iterator[Samples]:
    """`resample` block by block, with the state carried; how long the source is need not be known before."""
    _refuse_ratio(rate, target)
    stream = soxr.ResampleStream(rate, target, channels, "float32", "HQ")
    taken = written = 0
    # Few samples at a time where each becomes many, so that memory stays flat.
    for block in regroup(source, max(1, min(BLOCK, BLOCK * rate // target))):
        out = stream.resample_chunk(block.T.copy()).T
        taken, written = taken + block.shape[1], written + out.shape[1]
        yield out
    left = math.ceil(taken * target / rate) - written
    out = stream.resample_chunk(np.zeros((0, channels), np.float32), last=True).T[:, :left]
    yield np.pad(out, ((0, 0), (0, left - out.shape[1])))
