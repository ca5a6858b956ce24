"""Datasets of several sources: `Aligned` cuts them at the same place, `Mixture` takes from them in turn."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from ..audio import Samples
from ..files import InputError
from .manifest import Item
from .segments import Fixed, Segments, tensor

AugmentAll = Callable[[dict[str, Samples], np.random.Generator], dict[str, Samples]]


class Aligned:
    """Several sources cut at the same place by one index: {"clean": (C, T), "noisy": (C, T)}.

    `sources` holds items by name, and those at the same position belong together: same rate and same length. With
    `shortest`, lengths may differ, and what is beyond the shortest is left out. Without `channels`, each source keeps
    its own. Segments are random and endless (`take="random"`, see `Segments`) or always the same (see `Fixed`).
    `augment` gets all sources and may add further ones; `augment.Only` and `augment.Together` apply a usual
    augmentation to one source, or to all with the same chance.
    """

    def __init__(
        self,
        sources: Mapping[str, Sequence[Item]],
        *,
        frames: int = 0,
        seconds: float = 0.0,
        rate: int = 0,
        channels: int = 0,
        seed: int = 0,
        augment: AugmentAll | None = None,
        take: str = "random",
        shortest: bool = False,
    ):
        items = _aligned(sources, shortest)
        self.sources = {name: Segments(each, frames, seconds, rate, channels) for name, each in sources.items()}
        self.places: Segments | Fixed = (
            Segments(items, frames, seconds, rate, 1, seed)
            if take == "random"
            else Fixed(items, frames, seconds, rate, 1, take)
        )
        self.seed, self.augment = seed, augment

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if isinstance(self.places, Segments):
            place, rng = self.places.drawn(index)
        else:
            place, rng = self.places.place(index), np.random.default_rng((self.seed, index))
        end = self.places.items[place.item].frames
        parts = {name: source.cut(place, end) for name, source in self.sources.items()}
        if self.augment:
            parts = self.augment(parts, rng)
        return {name: tensor(samples) for name, samples in parts.items()}

    def __len__(self) -> int:
        if isinstance(self.places, Segments):
            raise TypeError("random segments are endless")
        return len(self.places)

    def name(self, index: int) -> str:
        return self.places.name(index)


def _aligned(sources: Mapping[str, Sequence[Item]], shortest: bool) -> list[Item]:
    """The shortest item at each position, after checking that the items there fit together."""
    (name, items), *others = sources.items()
    rows = list(items)
    for other, partners in others:
        if len(partners) != len(rows):
            raise InputError(f"{name} has {len(rows)} files, {other} has {len(partners)}; each needs its partner")
        for at, (item, partner) in enumerate(zip(items, partners, strict=True)):
            for what, unit in (("rate", "Hz"), ("frames", "samples")):
                one, two = getattr(item, what), getattr(partner, what)
                if one != two and not (shortest and what == "frames"):
                    hint = f"{name} and {other} are cut at the same place and must agree"
                    raise InputError(f"{partner.name}: has {two} {unit}, but {item.name} has {one}; {hint}")
            rows[at] = min(rows[at], partner, key=lambda item: item.frames)
    return rows


class Source(Protocol):
    """Endless samples, such as `Segments`: `source[index]` is a function of the index, for every index from 0 on."""

    def __getitem__(self, index: int, /) -> Any: ...
    def name(self, index: int, /) -> str: ...


class Mixture:
    """Endless samples of several sources in turn: all equally often, or by `shares` such as (3, 1).

    Each source is read from its sample 0 on without a gap, so that its own epochs stay whole.
    """

    def __init__(self, sources: Sequence[Source], shares: Sequence[int] | None = None):
        shares = [1] * len(sources) if shares is None else list(shares)
        if not sources or len(shares) != len(sources) or not all(isinstance(n, int) and n > 0 for n in shares):
            raise ValueError(f"expected a whole number above 0 for each of {len(sources)} sources, got {shares}")
        self.sources, self.shares = list(sources), shares
        # One round has each source as often as its share, evenly spread: (source, turn of that source in the round).
        turns = [(source, turn) for source, share in enumerate(shares) for turn in range(share)]
        self.round = sorted(turns, key=lambda at: ((at[1] + 0.5) / shares[at[0]], at[0]))

    def place(self, index: int) -> tuple[int, int]:
        """Which source sample `index` comes from, and which of that source's samples it is."""
        rounds, at = divmod(index, len(self.round))
        source, turn = self.round[at]
        return source, rounds * self.shares[source] + turn

    def __getitem__(self, index: int) -> Any:
        source, at = self.place(index)
        return self.sources[source][at]

    def name(self, index: int) -> str:
        source, at = self.place(index)
        return self.sources[source].name(at)
