"""How clips are cut: zeros at their ends, crops of one length, changes of speed. Training and inference cut alike.

The numbers are the authors' to the bit. Clips are int16 (T,) at the model's rate.
"""

from __future__ import annotations

import numpy as np
from audio_core.files import InputError

FULL_SCALE = 32768.0


def trimmed(samples: np.ndarray, name: str) -> np.ndarray:
    """Without the samples at both ends that are exactly zero: data sets fill short clips up with them."""
    nonzero = np.flatnonzero(samples)
    if not len(nonzero):
        raise InputError(f"{name}: is silent: all of its {len(samples)} samples are zero")
    return samples[nonzero[0] : nonzero[-1] + 1].copy()


def stretched_length(length: int, factor: float) -> int:
    return max(1, int(length * factor))


def stretch(sound: np.ndarray, factor: float, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Samples `start` to `stop` of `sound` (T,) stretched to `factor` times its length by linear interpolation.

    Pitch moves with it. Only the wanted part is computed.
    """
    stop = stretched_length(len(sound), factor) if stop is None else stop
    place = np.arange(start, stop) / factor
    left = place.astype(np.int32)
    share = place - left
    right = np.minimum(left + 1, len(sound) - 1)
    return sound[left] * (1 - share) + sound[right] * share


def crop(sound: np.ndarray, start: int, length: int, factor: float = 1.0) -> np.ndarray:
    """`length` samples of `sound`, stretched by `factor` and set between length // 2 zeros on both sides, from `start`.

    Full scale becomes 1; float64.
    """
    total = len(sound) if factor == 1 else stretched_length(len(sound), factor)
    begin, end = start - length // 2, start - length // 2 + length  # in the sound itself
    inside = slice(max(0, begin), max(0, min(end, total)))
    out = np.zeros(length)
    part = sound[inside] if factor == 1 else stretch(sound, factor, inside.start, inside.stop)
    np.divide(part, FULL_SCALE, out=out[inside.start - begin : inside.start - begin + len(part)])
    return out


def crops(sound: np.ndarray, length: int, count: int) -> np.ndarray:
    """The test protocol: `count` crops at even steps over the sound between its zeros, float32 (count, length).

    The steps are whole numbers, so that the last crop may end before the end; a single crop is the one in the middle.
    """
    room = len(sound) + 2 * (length // 2) - length
    starts = [room // 2] if count == 1 else [room // (count - 1) * number for number in range(count)]
    return np.stack([crop(sound, start, length) for start in starts]).astype(np.float32)
