"""Items of a folder or of shards: looked at once before a training, without their values.

An item costs its header and what lies beside it: 0.2 to 0.4 ms on two CPU cores. That is not remembered for the next
start, since a file beside an item may change or be added at any time, and to know so each place must be asked again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from audio_core.data.corpus import name_left_out
from audio_core.data.manifest import Unreadable, inspect_files
from audio_core.files import InputError, note

from ..recipe.data import Data


class Entry(Protocol):
    @property
    def path(self) -> Path: ...
    @property
    def name(self) -> str: ...
    @property
    def seconds(self) -> float: ...


P = TypeVar("P")
T = TypeVar("T", bound=Entry)


def kept(
    root: Path,
    places: Sequence[P],
    inspect: Callable[[P], T | None],
    data: Data,
    damaged: Sequence[Unreadable] = (),
    quiet: bool = False,
) -> list[T]:
    """The items that `inspect` makes of the places. It returns None for an item that its own facts reject."""

    def checked(place: P) -> T | Unreadable | None:
        try:
            return inspect(place)
        except InputError as error:
            return Unreadable(str(place), str(error).removeprefix(f"{place}: "))

    results = inspect_files([*places], checked, progress=not quiet)
    left_out = [*damaged, *(each for each in results if isinstance(each, Unreadable))]
    items = [each for each in results if each is not None and not isinstance(each, Unreadable)]
    longest = data.max_seconds or float("inf")
    fitting = [each for each in items if data.min_seconds <= each.seconds <= longest]
    rejected = results.count(None)
    if not fitting:
        causes = [f"{left_out[0].name}: {left_out[0].cause}"] if left_out else []
        causes += [f"{rejected} are rejected by their own facts"] if rejected else []
        causes += [f"{len(items)} are shorter or longer than data.min_seconds and max_seconds allow"] if items else []
        raise InputError(f"{root}: holds no items to train on{''.join(f'; {cause}' for cause in causes)}")
    name_left_out(left_out, quiet)
    if not quiet and len(fitting) < len(items):
        note(f"left out: {len(items) - len(fitting)} items of {root}, which are shorter or longer than asked for")
    if not quiet and rejected:
        note(f"left out: {rejected} items of {root}, which their own facts reject")
    return sorted(fitting, key=lambda each: each.path.as_posix())
