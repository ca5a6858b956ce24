"""Several sources as one: taking turns, each as often as its share says."""

from collections.abc import Sequence
from typing import Any, Protocol


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
        # One round: every source as often as its share, evenly spread; (number of the source, its how-manieth turn).
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
