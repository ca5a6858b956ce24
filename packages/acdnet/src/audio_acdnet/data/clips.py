"""Clips in memory as the authors hold them: int16 mono at the model's rate, without the zeros at both ends.

ESC-50 takes 330 MB, UrbanSound8K 1.3 GB at 20 kHz.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from audio_core import audio
from audio_core.files import InputError
from tqdm import tqdm

from ..crops import trimmed
from .listing import Entry, Listing


class Clip(NamedTuple):
    path: Path
    label: int
    """Number in the labels of the data set."""
    fold: int
    samples: np.ndarray
    """int16 (T,), neither empty nor silent."""


@dataclass(frozen=True)
class Dataset:
    """Clips in memory, mono at `rate`."""

    root: Path
    labels: tuple[str, ...]
    rate: int
    clips: tuple[Clip, ...]

    @property
    def folds(self) -> tuple[int, ...]:
        return tuple(sorted({clip.fold for clip in self.clips} - {0}))

    def of_folds(self, folds: Iterable[int]) -> Dataset:
        wanted = set(folds)
        if missing := wanted - set(self.folds):
            raise InputError(f"{self.root}: has no fold {min(missing)}")
        return replace(self, clips=tuple(clip for clip in self.clips if clip.fold in wanted))

    def held_out(self, fold: int) -> tuple[Dataset, Dataset]:
        """The clips of all other folds, and those of `fold`."""
        rest = tuple(clip for clip in self.clips if clip.fold != fold)
        held = tuple(clip for clip in self.clips if clip.fold == fold)
        return replace(self, clips=rest), replace(self, clips=held)


def read(listing: Listing, rate: int) -> Dataset:
    """All clips of `listing`; those that cannot be used are named together in one error."""
    numbers = {label: number for number, label in enumerate(listing.labels)}
    wrong: list[str] = []

    def load(entry: Entry) -> Clip | None:
        try:
            if entry.row and not entry.path.exists():
                raise InputError(f"{entry.row}: there is no file {entry.path}")
            return Clip(entry.path, numbers[entry.label], entry.fold, read_clip(entry.path, rate))
        except InputError as error:
            wrong.append(str(error))
            return None

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as threads:  # decoders and resampler run without the lock
        loaded, quiet = threads.map(load, listing.entries), not sys.stderr.isatty()
        bar = tqdm(loaded, "reading", len(listing.entries), unit="clip", leave=False, disable=quiet)
        clips = [clip for clip in bar if clip]
    if wrong:
        wrong.sort()
        more = f" (and {len(wrong) - 1} more of {len(listing.entries)} clips)" if len(wrong) > 1 else ""
        raise InputError(f"{wrong[0]}{more}")
    return Dataset(listing.root, listing.labels, rate, tuple(clips))


def read_clip(path: str | Path, rate: int) -> np.ndarray:
    """One file as int16 (T,) mono at `rate`, without the zeros at its ends."""
    samples, _ = audio.read(path, rate=rate, channels=1)
    return trimmed(audio.to_int16(samples[0]), str(path))
