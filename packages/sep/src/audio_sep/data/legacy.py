"""The original program's order of training segments, exactly, for comparisons with it."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from audio_core.files import InputError

from .places import Extent, Place

HOP_SECONDS = 0.1  # between two entries of the original's index


def seeds(sources: int, remix: bool, seed: int = 1234) -> list[int]:
    """One seed for each source in their order; all the same where the sources stay aligned."""
    draw = np.random.RandomState(seed)
    return [int(draw.randint(0, 10000)) for _ in range(sources)] if remix else [seed] * sources


class Order:
    """Sample `index` takes the next `mix` entries of a shuffled list; a list with fewer left is shuffled once more.

    Each shuffle begins with the order before. To look back, all shuffles are repeated from the first.
    """

    def __init__(self, entries: int, mix: int, seed: int):
        if entries < mix:
            raise InputError(f"sampling=bytesep: {mix} segments are to be mixed, and the recordings hold {entries}")
        self.entries, self.mix, self.seed = entries, mix, seed
        self._begin()

    def _begin(self) -> None:
        self.draw = np.random.RandomState(self.seed)
        self.order = np.arange(self.entries)
        self.shuffles = 0

    def __call__(self, index: int) -> list[int]:
        epoch, at = divmod(index, self.entries // self.mix)
        if epoch + 1 < self.shuffles:
            self._begin()
        while self.shuffles <= epoch:
            self.draw.shuffle(self.order)
            self.shuffles += 1
        return self.order[at * self.mix : (at + 1) * self.mix].tolist()


class IndexedWindows:
    """Places every tenth of a second, in the original's order. A recording shorter than a segment has one place."""

    def __init__(self, extents: Sequence[Extent], seconds: float, mix: int, seed: int):
        self.hops = [int(HOP_SECONDS * extent.rate) for extent in extents]
        self.counts = [
            max(1, math.ceil((extent.frames - int(seconds * extent.rate)) / hop))
            for extent, hop in zip(extents, self.hops, strict=True)
        ]
        self.ends = [*accumulate(self.counts)]
        self.order = Order(self.ends[-1], mix, seed)

    def __call__(self, index: int) -> list[Place]:
        return [self.place(entry) for entry in self.order(index)]

    def place(self, entry: int) -> Place:
        recording = bisect_right(self.ends, entry)
        return Place(recording, (entry - self.ends[recording] + self.counts[recording]) * self.hops[recording])
