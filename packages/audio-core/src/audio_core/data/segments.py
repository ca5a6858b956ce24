"""Segments of audio for training and evaluation. A segment is a function of (seed, index) alone.

So sample `index` is the same for any number of workers and processes, in a resumed run, and in a test.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .. import audio
from ..files import InputError
from .manifest import Item
from .seeds import shuffled

Augment = Callable[[audio.Samples, np.random.Generator], audio.Samples]

_CONTEXT = 1024  # samples read beyond both ends before resampling, as context in place of silence


class Place(NamedTuple):
    """Where a segment begins: sample `start` of item `item`, at the item's own rate."""

    item: int
    start: int


@dataclass(eq=False, repr=False)
class _Source(ABC):
    """Items that are cut to one length, given in `frames` or in `seconds`.

    `rate` and `channels` are those of the segments, by default the items' own. Items that do not fit are an error here,
    before a run begins.
    """

    items: Sequence[Item]
    frames: int = 0
    seconds: float = 0.0
    rate: int = 0
    channels: int = 0

    def __post_init__(self) -> None:
        if not len(self.items):
            raise InputError("segments need at least one audio file")
        self.rate = self.rate or _common(self.items, "rate")
        self.channels = self.channels or _common(self.items, "channels")
        if bool(self.frames) == bool(self.seconds):
            raise ValueError("give the length of a segment as frames or as seconds, one of them")
        self.frames = self.frames or round(self.seconds * self.rate)
        if self.frames < 1:
            raise InputError(f"a segment must be at least 1 sample long, not {self.frames}")
        for item in self.items:
            if not audio.convertible(item.channels, self.channels):
                raise InputError(f"{item.name}: has {item.channels} channels, which cannot become {self.channels}")

    def length(self, item: Item) -> int:
        """Samples of the item's own rate in a segment."""
        return math.ceil(self.frames * item.rate / self.rate)

    @abstractmethod
    def place(self, index: int) -> Place:
        """Where segment `index` begins."""

    def name(self, index: int) -> str:
        """The file and the second of segment `index`, for messages."""
        place = self.place(index)
        item = self.items[place.item]
        return f"{item.name} at {place.start / item.rate:.3f} s"

    def cut(self, place: Place, end: int | None = None) -> audio.Samples:
        """The segment that begins at `place`, with silence after sample `end` of the item, by default its own end."""
        return cut(self.items[place.item], place.start, self.frames, self.rate, self.channels, end)


@dataclass(eq=False, repr=False)
class Segments(_Source):
    """Endless random segments (C, frames), for training.

    Every item comes once in each epoch, in another order each time, at a random offset. Items shorter than a segment
    are followed by silence. `augment` gets the samples and the generator that drew the offset.
    """

    seed: int = 0
    augment: Augment | None = None

    def place(self, index: int) -> Place:
        return self.drawn(index)[0]

    def __getitem__(self, index: int) -> Tensor:
        place, rng = self.drawn(index)
        samples = self.cut(place)
        return tensor(samples if self.augment is None else self.augment(samples, rng))

    def drawn(self, index: int) -> tuple[Place, np.random.Generator]:
        """Where segment `index` begins, and the generator for its augmentations."""
        if index < 0:
            raise IndexError(f"segments are counted from 0, not {index}")
        rng = np.random.default_rng((self.seed, index))
        at = shuffled(index, len(self.items), self.seed)
        item = self.items[at]
        latest = max(0, item.frames - self.length(item))
        return Place(at, int(rng.integers(latest + 1))), rng


@dataclass(eq=False, repr=False)
class Fixed(_Source):
    """A fixed list of segments (C, frames) in file order, for evaluation.

    `take="all"` covers every sample once, the end of each item followed by silence; "first" and "centre" take
    one segment of each item. `augment` gets the samples and a generator of their index.
    """

    take: str = "all"
    augment: Augment | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.take not in ("all", "first", "centre"):
            raise InputError(f"take is all, first or centre, not {self.take}")
        self.places = []
        for at, item in enumerate(self.items):
            total = math.ceil(item.frames * self.rate / item.rate)
            count = math.ceil(total / self.frames) if self.take == "all" else 1
            first = max(0, item.frames - self.length(item)) // 2 if self.take == "centre" else 0
            starts = [number * self.frames * item.rate // self.rate for number in range(count)]
            self.places += [Place(at, first + start) for start in starts]

    def __len__(self) -> int:
        return len(self.places)

    def place(self, index: int) -> Place:
        return self.places[index]

    def __getitem__(self, index: int) -> Tensor:
        samples = self.cut(self.places[index])
        return tensor(samples if self.augment is None else self.augment(samples, np.random.default_rng(index)))


def cut(item: Item, start: int, frames: int, rate: int, channels: int, end: int | None = None) -> audio.Samples:
    """(channels, frames) at `rate` from sample `start` of the item's own rate; silence after the item's end.

    Where the rates differ, some context is read on both sides, so that a segment equals the same part of the whole
    item resampled.
    """
    length = math.ceil(frames * item.rate / rate)
    before = after = 0
    if item.rate != rate:
        # Only after a multiple of `step` samples do both rates have a sample at the same moment.
        step = item.rate // math.gcd(item.rate, rate)
        before = min(math.ceil(_CONTEXT / step), start // step) * step
        after = _CONTEXT
    begin, end = start - before, min(item.frames if end is None else end, start + length + after)
    samples = audio.convert_channels(item.read(begin, max(0, end - begin)), channels, item.name)
    skip = before * rate // item.rate
    samples = audio.resample(samples, item.rate, rate)[:, skip : skip + frames]
    return np.pad(samples, ((0, 0), (0, frames - samples.shape[1])))


def _common(items: Sequence[Item], what: str) -> int:
    """The rate or the number of channels that all items share."""
    first, value = items[0], getattr(items[0], what)
    for item in items:
        if getattr(item, what) != value:
            pair = f"{first.name} has {value}, {item.name} has {getattr(item, what)}"
            raise InputError(f"the files differ in {what} ({pair}); say which {what} is wanted")
    return value


def tensor(samples: audio.Samples) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(samples, np.float32))
