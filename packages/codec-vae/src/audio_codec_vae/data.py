"""Audio files -> training samples and clips to evaluate on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from audio_core import audio
from audio_core.data.augment import Chain, Gain, Peak, Polarity, Sometimes
from audio_core.data.combine import Mixture
from audio_core.data.corpus import divided, listed, name_left_out
from audio_core.data.manifest import File, Item, Unreadable, inspect_files
from audio_core.data.seeds import mix, shuffled
from audio_core.data.segments import Fixed, cut, tensor
from audio_core.files import InputError, note
from torch import Tensor

from .config import AutoencoderConfig
from .recipe import Data

TRIES = 8
"""Stretches of a file that are looked at for one sample, and files whose stretches are."""
LEAST = 0.1
"""Of a sample, what a file must fill."""

# --- files -------------------------------------------------------------------------------------------------


class Corpus:
    """The files of each root: those to train on, and those held out. What is left out is named."""

    def __init__(self, data: Data, model: AutoencoderConfig, cache: Path, quiet: bool = False):
        """`cache` remembers the headers of folders."""
        self.data, self.model, self.quiet = data, model, quiet
        parts = [divided(self._usable(root, cache), data.held_out) for root in (data.root, *data.more)]
        self.trained, self.held = [kept for kept, _ in parts], [file for _, held in parts for file in held]
        self._remark_low_rates()

    def __len__(self) -> int:
        return sum(map(len, self.trained))

    def _usable(self, root: Path, cache: Path) -> list[File]:
        by_path = {file.path: file for file in listed(root, cache, self.quiet)}
        checked = inspect_files([*by_path], lambda path: self._checked(by_path[path]), progress=not self.quiet)
        unusable = [file for file in checked if isinstance(file, Unreadable)]
        name_left_out(unusable, self.quiet)
        usable = [file for file in checked if isinstance(file, File)]
        if not usable:
            first = f"; {unusable[0].name}: {unusable[0].cause}" if unusable else ""
            raise InputError(f"{root}: holds no audio to train on{first}")
        return usable

    def _checked(self, file: File) -> File | Unreadable:
        channels, samples = self.model.channels, self.data.samples
        if not audio.convertible(file.channels, channels):
            return Unreadable(file.name, f"has {file.channels} channels, which cannot become {channels}")
        if file.frames < LEAST * samples * file.rate / self.model.rate:
            return Unreadable(file.name, f"has {file.frames} samples, less than a tenth of a training sample")
        try:
            if not self._audible(file):
                return Unreadable(file.name, f"is nowhere louder than {self.data.quiet_db:g} dB")
        except InputError as error:
            return Unreadable(file.name, str(error).removeprefix(f"{file.name}: "))
        return file

    def _audible(self, file: File) -> bool:
        """Whether any sample is louder than the least RMS: no stretch is without one. Mostly the first block tells."""
        if isinstance(peak := file.facts.get("peak_db"), int | float):  # from `scan --level`
            return peak > self.data.quiet_db
        least = 10 ** (self.data.quiet_db / 20)
        return any(np.abs(block).max(initial=0) > least for block in audio.blocks(file.path))

    def _remark_low_rates(self) -> None:
        low = [file for files in self.trained for file in files if file.rate < self.model.rate]
        if low and not self.quiet:
            example = f"such as {low[0].name} with {low[0].rate} Hz"
            note(f"resampled from a rate below the model's {self.model.rate} Hz: {len(low)} files, {example}")


# --- samples -----------------------------------------------------------------------------------------------


def samples(data: Data, model: AutoencoderConfig, trained: Sequence[Sequence[File]], seed: int) -> Mixture:
    """Endless training samples (C, T) of several sets of files in turn."""
    return Mixture([LoudStretches(files, data, model, mix(seed, at)) for at, files in enumerate(trained)])


class LoudStretches:
    """Endless samples (C, T) from random places, quiet ones passed over. A sample is a function of (seed, index).

    Every file has its turn once in each epoch. Where a few of its stretches are quiet, or it cannot be read, another
    takes its place; where all of these are quiet, the loudest stretch is taken, so that no search goes on for ever.
    """

    def __init__(self, items: Sequence[Item], data: Data, model: AutoencoderConfig, seed: int):
        self.items, self.data, self.rate, self.channels, self.seed = items, data, model.rate, model.channels, seed
        self.augment: Chain[audio.Samples] = Chain(
            Peak(data.peak),
            *([Gain(*data.gain_db)] if data.gain_db != (0.0, 0.0) else []),
            *([Sometimes(Polarity(), 0.5)] if data.flip else []),
        )
        self.damaged: set[str] = set()  # named once

    def __getitem__(self, index: int) -> Tensor:
        stretch, _, rng = self._drawn(index)
        return tensor(self.augment(stretch, rng))

    def name(self, index: int) -> str:
        """The file and the second of a sample, for messages."""
        return self._drawn(index)[1]

    def _drawn(self, index: int) -> tuple[audio.Samples, str, np.random.Generator]:
        """The stretch (C, T) of a sample, its name, and the generator for what is done with it."""
        rng = np.random.default_rng((self.seed, index))
        at = shuffled(index, len(self.items), self.seed)
        loudest: tuple[float, audio.Samples, str] | None = None
        error: InputError | None = None
        for _ in range(TRIES):
            try:
                level, stretch, name = self._stretch(self.items[at], rng)
            except InputError as problem:
                error = problem
                self._tell(str(problem))
            else:
                if loudest is None or level > loudest[0]:
                    loudest = level, stretch, name
                if level > self.data.quiet_db:
                    break
            at = int(rng.integers(len(self.items)))
        if loudest is None:
            assert error
            raise error
        return loudest[1], loudest[2], rng

    def _stretch(self, item: Item, rng: np.random.Generator) -> tuple[float, audio.Samples, str]:
        """The level in dB, samples (C, T) and name of the first stretch that is loud, or of the loudest of some."""
        item = self._played(item, rng)
        latest = max(0, item.frames - math.ceil(self.data.samples * item.rate / self.rate))
        loudest: tuple[float, audio.Samples, str] | None = None
        for _ in range(TRIES if latest else 1):
            start = int(rng.integers(latest + 1))
            stretch = cut(item, start, self.data.samples, self.rate, self.channels)
            level = level_db(stretch)
            if loudest is None or level > loudest[0]:
                loudest = level, stretch, f"{item.name} at {start / item.rate:.3f} s"
            if level > self.data.quiet_db:
                break
        assert loudest
        return loudest

    def _played(self, item: Item, rng: np.random.Generator) -> Item:
        """The item as it is, or as one of another rate, so that its pitch and its tempo change when it is resampled."""
        if not self.data.pitch:
            return item
        percent = round(100 * 2 ** (rng.uniform(-self.data.pitch, self.data.pitch) / 12))  # few rates resample fast
        return Played(item, round(item.rate * percent / 100))

    def _tell(self, problem: str) -> None:
        if problem not in self.damaged:
            self.damaged.add(problem)
            note(f"passed over: {problem}")


@dataclass(frozen=True)
class Played:
    """An item as if it had another rate."""

    item: Item
    rate: int

    @property
    def name(self) -> str:
        return self.item.name

    @property
    def channels(self) -> int:
        return self.item.channels

    @property
    def frames(self) -> int:
        return self.item.frames

    def read(self, start: int, frames: int) -> audio.Samples:
        return self.item.read(start, frames)


def clips(data: Data, model: AutoencoderConfig, held: Sequence[Item]) -> Fixed:
    """One clip (C, T) from the middle of each file held out, as loud as in training."""
    return Fixed(held, data.samples, rate=model.rate, channels=model.channels, take="centre", augment=Peak(data.peak))


def level_db(stretch: audio.Samples) -> float:
    """The RMS over all channels and the whole length, re full scale; -200 at the least."""
    return 10 * math.log10(max(1e-20, float(np.mean(np.square(stretch, dtype=np.float64)))))
