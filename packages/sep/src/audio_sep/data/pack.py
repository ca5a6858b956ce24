"""Data sets of songs and speech into packs: one file a song, resumable, each whole or absent."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from audio_core import audio, batch
from audio_core.audio import Samples
from audio_core.data.manifest import find_audio, is_audio
from audio_core.files import InputError, note, replacing

from .packed import stems, write
from .stem_mp4 import STREAMS, stream

Block = dict[str, Samples]  # (channels, any) of each source, all equally long
Open = Callable[[], Iterator[Samples]]
VOCALS, MIXTURE, ACCOMPANIMENT = "vocals", "mixture", "accompaniment"


class Song(NamedTuple):
    """A pack to be: its path below the folder of packs, and how each recording of it is opened."""

    relative: Path
    recordings: Mapping[str, Open]
    sources: Callable[[Block], Block]
    """The sources in a block of the recordings."""
    shortest: bool = False
    """Whether the recordings are cut to the shortest, and not padded to the longest."""


class PackSettings(NamedTuple):
    """What the packs shall hold."""

    rate: int
    channels: int
    source: str
    """What the recordings of a list are of."""

    def reader(self, path: Path) -> Open:
        return partial(audio.blocks, path, rate=self.rate, channels=self.channels)


def pack(
    kind: str,
    folder: str | Path,
    out: str | Path,
    rate: int = 44100,
    channels: int = 2,
    source: str = "piano",
    force: bool = False,
    quiet: bool = False,
) -> batch.Summary:
    """Write the packs of a data set of this `kind`, one of KINDS, below `out`, in folders of its splits.

    Packs that are there are skipped. A song that cannot be read is named, and the others are packed. `source` is what
    the recordings of `maestro` are of.
    """
    folder, out = Path(folder), Path(out)
    if kind not in KINDS:
        raise InputError(f"{kind}: is no kind of data set; known are {', '.join(KINDS)}")
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    songs = KINDS[kind](folder, PackSettings(rate, channels, source))
    jobs = [batch.Job(path, out / f"{song.relative}.h5") for path, song in songs.items()]

    def work(path: Path, target: Path) -> None:
        song = songs[path]
        with replacing(target) as temporary:
            write(temporary, song.relative.name, rate, blocks(song, str(path), quiet))

    return batch.run(jobs, work, force, quiet, stale=partial(_differing, rate=rate, channels=channels))


def _differing(path: Path, rate: int, channels: int) -> str:
    """What a pack that is there has in place of what is asked for."""
    for stem in stems(path, "").values():
        if (stem.rate, stem.channels) != (rate, channels):
            return f"has {stem.rate} Hz and {stem.channels} channels, not {rate} and {channels}"
    return ""


def blocks(song: Song, name: str, quiet: bool) -> Iterator[Block]:
    """All sources of a song, block by block."""
    opened = {source: audio.regroup(start(), audio.BLOCK) for source, start in song.recordings.items()}
    lengths = dict.fromkeys(opened, 0)
    while True:
        blocks = {source: block for source, blocks in opened.items() if (block := next(blocks, None)) is not None}
        for source, block in blocks.items():
            lengths[source] += block.shape[1]
        if not blocks or (song.shortest and len(blocks) < len(opened)):
            break
        counts = [block.shape[1] for block in blocks.values()]
        count = min(counts) if song.shortest else max(counts)
        silence = np.zeros((len(next(iter(blocks.values()))), 0), np.float32)
        yield song.sources({source: _fitted(blocks.get(source, silence), count) for source in opened})
    longest, shortest = max(lengths.values()), min(lengths.values())
    if shortest < longest and not quiet:
        short = ", ".join(source for source, length in lengths.items() if length < longest)
        done = "what is beyond was left out" if song.shortest else "silence was added"
        note(f"{name}: {short}: up to {longest - shortest} samples shorter than the longest; {done}")


def _fitted(block: Samples, count: int) -> Samples:
    return np.pad(block[:, :count], ((0, 0), (0, max(0, count - block.shape[1]))))


# --- the kinds of data sets ------------------------------------------------------------------------------


def musdb18(folder: Path, settings: PackSettings) -> dict[Path, Song]:
    """MUSDB18, whose songs are .stem.mp4 files, or MUSDB18-HQ with folders of .wav files."""
    files = [path for path in find_audio(folder, ".mp4") if path.name.endswith(".stem.mp4")]
    if not files:
        return songs(folder, settings)
    return {
        path: Song(
            path.relative_to(folder).with_name(path.name.removesuffix(".stem.mp4")),
            {name: partial(stream, path, at, settings.rate, settings.channels) for at, name in enumerate(STREAMS)},
            with_sums,
        )
        for path in files
    }


def songs(folder: Path, settings: PackSettings) -> dict[Path, Song]:
    """A folder for each song, at any depth, in it a file for each stem."""
    by_song: dict[Path, dict[str, Path]] = {}
    for path in find_audio(folder):
        if path.parent != folder:
            files = by_song.setdefault(path.parent, {})
            if path.stem in files:
                raise InputError(f"{path}: {files[path.stem].name} is the same stem; keep one of them")
            files[path.stem] = path
    if not by_song:
        raise InputError(f"{folder}: holds no songs: a folder for each, in it a file for each stem, such as vocals.wav")
    return {
        song: Song(song.relative_to(folder), {name: settings.reader(file) for name, file in files.items()}, with_sums)
        for song, files in by_song.items()
    }


def voicebank_demand(folder: Path, settings: PackSettings) -> dict[Path, Song]:
    """Folders clean_…_wav and noisy_…_wav with files of the same names."""
    pairs = {}
    for clean in sorted(folder.glob("clean_*")):
        noisy = clean.with_name(clean.name.replace("clean_", "noisy_", 1))
        for path in sorted(clean.iterdir()) if noisy.is_dir() else []:
            if is_audio(path):
                readers = {"speech": settings.reader(path), "noisy": settings.reader(noisy / path.name)}
                split = "test" if "test" in clean.name else "train"
                pairs[path] = Song(Path(split, path.stem), readers, speech_and_noise, shortest=True)
    if not pairs:
        raise InputError(f"{folder}: holds no folders such as clean_trainset_wav and noisy_trainset_wav")
    return pairs


def maestro(folder: Path, settings: PackSettings) -> dict[Path, Song]:
    """Recordings that a .csv lists, with the columns split and audio_filename, or audio_name of files in mp3s/."""
    lists = sorted(folder.glob("*.csv"))
    if len(lists) != 1:
        raise InputError(f"{folder}: expected one list in .csv, found {len(lists)}")
    try:
        with lists[0].open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error):
        raise InputError(f"{lists[0]}: is no .csv that can be read") from None
    homes = {"audio_filename": folder, "audio_name": folder / "mp3s"}
    column = next((name for name in homes if rows and name in rows[0]), None)
    if column is None or any(not row[column] or Path(row.get("split") or "").name != row["split"] for row in rows):
        raise InputError(f"{lists[0]}: expected rows with the columns split and audio_filename (or audio_name)")
    paths = [(row["split"], homes[column] / row[column]) for row in rows]
    return {path: Song(Path(split, path.stem), {settings.source: settings.reader(path)}, dict) for split, path in paths}


KINDS: Mapping[str, Callable[[Path, PackSettings], dict[Path, Song]]] = {
    "musdb18": musdb18,
    "songs": songs,
    "voicebank-demand": voicebank_demand,
    "maestro": maestro,
}


def with_sums(block: Block) -> Block:
    """The stems; and where there are no recordings of these, the accompaniment of vocals, and the mixture."""
    stems = {name: samples for name, samples in block.items() if name not in (MIXTURE, ACCOMPANIMENT)}
    others = [samples for name, samples in stems.items() if name != VOCALS]
    sums = dict(block)
    if VOCALS in stems and others:
        sums.setdefault(ACCOMPANIMENT, np.sum(others, 0))
    parts = [stems[VOCALS], sums[ACCOMPANIMENT]] if VOCALS in stems and ACCOMPANIMENT in sums else [*stems.values()]
    if len(parts) > 1:
        sums.setdefault(MIXTURE, np.sum(parts, 0))
    return sums


def speech_and_noise(block: Block) -> Block:
    return {"speech": block["speech"], "noise": block["noisy"] - block["speech"]}
