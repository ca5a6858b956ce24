"""From where in the recordings of a source sample number `index` is taken: a function of (seed, index) alone."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple, Protocol

import numpy as np
from audio_core.data.seeds import shuffled


class Extent(NamedTuple):
    """How long a recording is, in samples of its own rate."""

    frames: int
    rate: int


class Place(NamedTuple):
    recording: int
    start: int  # sample of the recording's own rate


class Places(Protocol):
    def __call__(self, index: int) -> list[Place]:
        """The places of the segments that sample `index` is the sum of."""


class Windows:
    """The recordings cut into windows about a segment long. An epoch has each window once, from a random start in it.

    So each second of audio is heard equally often, whether it is of a long song or of a short utterance.
    """

    def __init__(self, extents: Sequence[Extent], seconds: float, mix: int, seed: int):
        self.mix, self.seed = mix, seed
        lengths = [math.ceil(seconds * extent.rate) for extent in extents]
        pairs = [*zip(extents, lengths, strict=True)]
        self.starts = [max(0, extent.frames - length) + 1 for extent, length in pairs]  # possible ones
        self.counts = [max(1, math.ceil(extent.frames / length)) for extent, length in pairs]
        self.ends = [*accumulate(self.counts)]

    def __call__(self, index: int) -> list[Place]:
        return [self.place(index * self.mix + at) for at in range(self.mix)]

    def place(self, entry: int) -> Place:
        number = shuffled(entry, self.ends[-1], self.seed)
        recording = bisect_right(self.ends, number)
        count, starts = self.counts[recording], self.starts[recording]
        window = number - self.ends[recording] + count
        within = np.random.default_rng((self.seed, entry)).random()
        return Place(recording, int((window + within) / count * starts))
