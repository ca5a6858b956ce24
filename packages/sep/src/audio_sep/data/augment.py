"""Augmentations of one segment (C, T), with the original's formulas and its order of random draws."""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
from audio_core.audio import Samples

from ..recipe import Augment


class Draws(Protocol):
    """A numpy Generator, or the RandomState that the original's numbers came from."""

    def uniform(self, low: float, high: float, /) -> Any: ...
    def permutation(self, count: int, /) -> Any: ...
    def choice(self, values: Any, size: int) -> Any: ...


def augmented(samples: Samples, steps: Augment, rng: Draws) -> Samples:
    """The segment after all steps; pitch changes its length."""
    if steps.pitch:
        samples = pitched(samples, rng.uniform(-steps.pitch, steps.pitch))
    if steps.gain_db != (0.0, 0.0):
        samples = samples * np.float32(10 ** (rng.uniform(*steps.gain_db) / 20))
    if steps.swap:
        samples = samples[rng.permutation(len(samples))]
    if steps.polarity:
        samples = samples * np.asarray(rng.choice([-1, 1], size=len(samples)), np.float32)[:, None]
    return samples


def longer(samples: int, steps: Augment) -> int:
    """How many samples must be read, so that the highest pitch leaves `samples` of them."""
    return math.ceil(samples * 2 ** (steps.pitch / 12))


def pitched(samples: Samples, semitones: float) -> Samples:
    """Higher and faster by so many semitones: (C, T) -> (C, ceil(T * 2^(-semitones / 12))).

    Linear interpolation, one sample late, as libsamplerate does it in the original.
    """
    ratio = 2 ** (-semitones / 12)
    time = np.arange(math.ceil(samples.shape[1] * ratio)) / ratio - 1
    at = np.arange(samples.shape[1])
    return np.stack([np.interp(time, at, channel) for channel in samples]).astype(np.float32)
