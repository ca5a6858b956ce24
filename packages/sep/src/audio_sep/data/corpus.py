"""Which recordings each source has: in packs, in folders of songs, in folders and manifests of single recordings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from audio_core.audio import Samples, convert_channels
from audio_core.data.corpus import listed
from audio_core.data.manifest import File, Item
from audio_core.files import InputError, note

from ..recipe import Data
from . import packed
from .pack import ACCOMPANIMENT, MIXTURE, VOCALS


class Stem(Item, Protocol):
    """A recording of one source."""

    @property
    def track(self) -> str:
        """The song it belongs to, by which stems of the same song are known."""


Corpus = Mapping[str, Sequence[Stem]]
"""The recordings of each source. Of sources with the same songs, those at the same position belong together."""


@dataclass(frozen=True)
class FileStem:
    """An audio file."""

    file: File
    track: str

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def rate(self) -> int:
        return self.file.rate

    @property
    def channels(self) -> int:
        return self.file.channels

    @property
    def frames(self) -> int:
        return self.file.frames

    def read(self, start: int, frames: int) -> Samples:
        return self.file.read(start, frames)


@dataclass(frozen=True)
class SumStem:
    """Several stems of a song added up; the shorter ones end in silence."""

    stems: tuple[Stem, ...]

    def __post_init__(self) -> None:
        if len({stem.rate for stem in self.stems}) > 1:
            raise InputError(f"{self.name}: differ in their sample rates, and cannot be added")

    @property
    def name(self) -> str:
        return " + ".join(stem.name for stem in self.stems)

    @property
    def track(self) -> str:
        return self.stems[0].track

    @property
    def rate(self) -> int:
        return self.stems[0].rate

    @property
    def channels(self) -> int:
        return max(stem.channels for stem in self.stems)

    @property
    def frames(self) -> int:
        return max(stem.frames for stem in self.stems)

    def read(self, start: int, frames: int) -> Samples:
        total = np.zeros((self.channels, frames), np.float32)
        for stem in self.stems:
            count = max(0, min(frames, stem.frames - start))
            if count:
                total[:, :count] += convert_channels(stem.read(start, count), self.channels, stem.name)
        return total


# --- the data of a recipe --------------------------------------------------------------------------------


def corpora(data: Data, cache: Path, quiet: bool = False) -> tuple[Corpus, Corpus]:
    """What to train on, and what to validate on; `cache` remembers the headers of folders."""
    finder = _Finder(cache, quiet)
    stems = {source: finder.source(source, data.sources, data.packs, "") for source in data.inputs}
    held = {source: [stem for stem in recordings if _held(stem, data)] for source, recordings in stems.items()}
    train = {source: [stem for stem in recordings if not _held(stem, data)] for source, recordings in stems.items()}
    if data.held_out and not any(held.values()):
        raise InputError(f"data.held_out: no song of the training data begins with {' or '.join(data.held_out)}")
    for source, recordings in train.items():
        if not recordings:
            raise InputError(f"data.held_out: leaves no recording of {source} to train on")
    if data.valid or data.valid_sources:
        for source in data.inputs:
            held[source] += finder.source(source, data.valid_sources, data.valid, "valid")
    missing = [source for source, recordings in held.items() if not recordings]
    if missing and any(held.values()):
        raise InputError(f"data.held_out: holds no {missing[0]} to validate on")
    if not data.remix:
        _refuse_unaligned(train)
    return train, held


def same_songs(corpus: Corpus) -> bool:
    """Whether all sources have the same songs, one recording of each."""
    tracks = [[stem.track for stem in stems] for stems in corpus.values()]
    return all(songs == tracks[0] for songs in tracks) and len({*tracks[0]}) == len(tracks[0])


def _refuse_unaligned(corpus: Corpus) -> None:
    if not same_songs(corpus):
        sizes = ", ".join(f"{source} {len(stems)}" for source, stems in corpus.items())
        raise InputError(f"data.remix=false: the sources are not of the same songs (recordings: {sizes})")
    for stems in zip(*corpus.values(), strict=True):
        if len({stem.rate for stem in stems}) > 1:
            raise InputError(f"data.remix=false: {', '.join(stem.name for stem in stems)} differ in sample rate")


def _held(stem: Stem, data: Data) -> bool:
    return Path(stem.track).name.startswith(data.held_out)


class _Finder:
    """Finds recordings, each folder once, and names what cannot be read."""

    def __init__(self, cache: Path, quiet: bool):
        self.cache, self.quiet = cache, quiet
        self.packs: dict[Path, list[dict[str, packed.PackedStem]]] = {}
        self.files: dict[Path, list[File]] = {}

    def source(self, source: str, places: Mapping[str, Sequence[str]], songs: Path | None, use: str) -> list[Stem]:
        """The recordings of `source` in the places of its own, or in the folder of songs, for this `use`."""
        paths_and_names = [_parted(place) for place in places.get(source, ())]
        if songs and source not in places:
            paths_and_names = [(songs, (source,))]
        if not paths_and_names:
            settings = "data.valid or data.valid_sources" if use else "data.packs or data.sources"
            raise InputError(f"{settings}: no place has recordings of {source}; name one")
        stems = [stem for path, names in paths_and_names for stem in self.place(path, names, source)]
        if not stems:
            raise InputError(f"{', '.join(str(path) for path, _ in paths_and_names)}: holds no {source}")
        return stems

    def place(self, path: Path, names: tuple[str, ...], source: str) -> list[Stem]:
        """The stems with these names of each song; without names, of packs the source's, else all recordings."""
        if path.suffix == ".h5" or (path.is_dir() and next(path.rglob("*.h5"), None)):
            return self._of_songs(path, self._packs(path), names or (source,))
        files = self._files(path)
        if not names:
            return [FileStem(file, file.name) for file in files]
        by_song: dict[str, dict[str, Stem]] = {}
        for file in files:
            song = file.path.parent.as_posix()
            by_song.setdefault(song, {})[file.path.stem] = FileStem(file, song)
        return self._of_songs(path, [*by_song.values()], names)

    def _of_songs(self, path: Path, songs: Sequence[Mapping[str, Stem]], names: tuple[str, ...]) -> list[Stem]:
        stems = [stem for song in songs if (stem := _summed(song, names))]
        if 0 < len(stems) < len(songs) and not self.quiet:
            note(f"{path}: {len(songs) - len(stems)} of {len(songs)} songs have no {'+'.join(names)}")
        return stems

    def _packs(self, path: Path) -> list[dict[str, packed.PackedStem]]:
        if path not in self.packs:
            songs, paths = [], sorted(path.rglob("*.h5")) if path.is_dir() else [path]
            for file in [file for file in paths if file.name[0] != "."]:
                try:
                    songs.append(packed.stems(file, file.with_suffix("").as_posix()))
                except InputError as error:
                    if not self.quiet:
                        note(f"left out: {error}")
            self.packs[path] = songs
        if not self.packs[path]:
            raise InputError(f"{path}: holds no packs that can be read")
        return self.packs[path]

    def _files(self, path: Path) -> list[File]:
        if path not in self.files:
            if path.suffix != ".jsonl" and not path.is_dir():
                raise InputError(f"{path}: is no folder, no .jsonl that `scan` wrote and no pack")
            self.files[path] = listed(path, self.cache, self.quiet)
        return self.files[path]


def _parted(place: str) -> tuple[Path, tuple[str, ...]]:
    """`songs:bass+drums` as the folder songs and the names bass and drums."""
    match = re.fullmatch(r"(.+):([^/\\:]+)", place)
    if match is None or Path(place).exists():
        return Path(place), ()
    return Path(match[1]), tuple(match[2].split("+"))


def _summed(song: Mapping[str, Stem], names: tuple[str, ...]) -> Stem | None:
    """The sum of a song's stems with these names; None where one is missing."""
    if names == (ACCOMPANIMENT,) and ACCOMPANIMENT not in song and VOCALS in song:
        names = tuple(sorted(name for name in song if name not in (VOCALS, MIXTURE)))
    if not names or any(name not in song for name in names):
        return None
    return song[names[0]] if len(names) == 1 else SumStem(tuple(song[name] for name in names))
