"""Samples of items by index: a function of (seed, index), whatever process asks for them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np
from audio_core.data.seeds import shuffled
from audio_core.files import InputError, note

from . import Sample, collate
from .facts import drawn

TRIES = 32
"""Items that are looked at for one sample."""


class Named(Protocol):
    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=Named)


class Turns(ABC, Generic[T]):
    """Every item has its turn once in each epoch, endlessly; or with `once` a single time, in their order.

    An item that cannot be read, or is too quiet, gives way to another: to a random one, or with `once` to the next.
    Where all that are looked at are too quiet the loudest is taken, so that no search goes on for ever.
    """

    least = -np.inf
    """The level in dB below which a sample is too quiet."""

    def __init__(self, items: Sequence[T], seed: int, once: bool):
        self.items, self.seed, self.once = items, seed, once
        self.reported: set[str] = set()

    @abstractmethod
    def take(self, item: T, index: int, rng: np.random.Generator) -> tuple[float, Sample]:
        """The level in dB, and the sample."""

    def __len__(self) -> int:
        if not self.once:
            raise TypeError("random samples are endless")
        return len(self.items)

    def __getitem__(self, index: int) -> Sample:
        return self._drawn(index)[1]

    def name(self, index: int) -> str:
        """The item of a sample, for messages."""
        return self._drawn(index)[0]

    def _drawn(self, index: int) -> tuple[str, Sample]:
        count, rng = len(self.items), np.random.default_rng((self.seed, index))
        at = index if self.once else shuffled(index, count, self.seed)
        loudest: tuple[float, str, Sample] | None = None
        error: InputError | None = None
        for _ in range(TRIES):
            item = self.items[at]
            try:
                level, sample = self.take(item, index, rng)
            except InputError as problem:
                error = problem
                self._tell(f"passed over: {problem}")
            else:
                if loudest is None or level > loudest[0]:
                    loudest = level, item.name, sample._replace(facts=drawn(sample.facts, self.seed, index))
                if self.once or level >= self.least:
                    break
            at = (at + 1) % count if self.once else int(rng.integers(count))
        else:
            if loudest is not None:
                self._tell(f"{loudest[1]}: {TRIES} items in a row are quiet; the loudest of them was taken")
        if loudest is None:
            assert error
            raise error
        return loudest[1], loudest[2]

    def _tell(self, problem: str) -> None:
        """Once for each item."""
        if problem not in self.reported:
            self.reported.add(problem)
            note(problem)

    collate = staticmethod(collate)
