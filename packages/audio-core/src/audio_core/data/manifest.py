"""Manifests, lists of audio files as JSON lines: path, rate, channels, frames and any further facts of each.

An item is anything with `name`, `rate`, `channels`, `frames` and `read(start, frames) -> (C, frames)`. A file of a
manifest is one, and so are a track of a pack and a sample of a shard; a package may write its own.
"""

import difflib
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from tqdm import tqdm

from .. import audio
from ..files import InputError, read_text, reason, replacing

REQUIRED = ("path", "rate", "channels", "frames")  # of every row; all other keys are facts
MOST = 2**53  # the largest rate, channels and frames: beyond it no offset can be drawn or divided exactly
_GROUP = 16  # files that one thread inspects at a time
P = TypeVar("P")  # a path, or anything else that stands for a file
T = TypeVar("T")
LIMIT = 1 << 31  # bytes; ten million files make a manifest of one gigabyte


class Item(Protocol):
    """What `Segments` reads from; `start` and `frames` count samples of the item's own rate."""

    @property
    def name(self) -> str: ...
    @property
    def rate(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def frames(self) -> int: ...
    def read(self, start: int, frames: int) -> audio.Samples: ...


class File(NamedTuple):
    """An audio file, with the values of its header when it was scanned."""

    path: Path
    rate: int
    channels: int
    frames: int
    facts: Mapping[str, Any] = {}
    """All other keys of its row, such as a text, a label, a partner or a level."""

    @property
    def name(self) -> str:
        return str(self.path)

    def read(self, start: int, frames: int) -> audio.Samples:
        return audio.read(self.path, start, frames).samples


class Unreadable(NamedTuple):
    name: str
    cause: str


class Scan(NamedTuple):
    items: list[File]
    unreadable: list[Unreadable]


class Manifest(NamedTuple):
    path: Path
    items: list[File]

    @classmethod
    def load(cls, path: str | Path) -> "Manifest":
        """Read a manifest. Rows that are not valid, and files that do not exist, are errors."""
        path = Path(path)
        if path.is_dir():
            raise InputError(f"{path}: is a folder; list its files first: audio-core scan {path} -o NAME.jsonl")
        lines = read_text(path, LIMIT).split("\n")  # not splitlines, which also cuts at characters that a name may hold
        rows = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
        if not rows:
            raise InputError(f"{path}: lists no files")
        items = [parse_row(line, path, number) for number, line in rows]
        missing = [at for at, item in enumerate(items) if not os.path.exists(item.path)]  # noqa: PTH110 (Path raises for some names)
        if missing:
            first = f"{items[missing[0]].path} (line {rows[missing[0]][0]})"
            raise InputError(f"{path}: {len(missing)} of {len(items)} files are missing, the first is {first}")
        return cls(path, items)


def scan(
    inputs: str | Path | Iterable[str | Path],
    manifest: str | Path,
    workers: int = 8,
    progress: bool = True,
    check: bool = False,
    level: bool = False,
    facts: Callable[[Path], Mapping[str, Any]] | None = None,
) -> Scan:
    """Inspect every audio file of `inputs`, which are folders and files, and write the manifest, sorted by path.

    Only headers are read. `check` decodes whole files, which also finds damage inside, NaN and infinity. `level`
    decodes them too, and adds the facts `peak_db` and `rms_db` of the whole file, in dB re full scale. `facts` returns
    further facts for a path. Unreadable files are left out of the manifest and listed in the result.
    """
    inputs = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    paths = [path for entry in map(Path, inputs) for path in (find_audio(entry) if entry.is_dir() else [entry])]
    if not paths:
        raise InputError(f"{', '.join(map(str, inputs)) or 'no input'}: no audio files found; known are {extensions()}")
    manifest = Path(manifest)
    relative = {_relative(path, manifest): path for path in paths}
    order = sorted(relative)

    def inspect(path: Path) -> File | Unreadable:
        file = inspect_file(path, check, level)
        return file._replace(facts={**file.facts, **facts(path)}) if facts and isinstance(file, File) else file

    results = inspect_files([relative[name] for name in order], inspect, workers, progress)
    rows = [row(file, name) for name, file in zip(order, results, strict=True) if isinstance(file, File)]
    unreadable = [file for file in results if isinstance(file, Unreadable)]
    if not rows:
        raise InputError(f"{unreadable[0].name}: {unreadable[0].cause}; none of {len(order)} files can be read")
    with replacing(manifest) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as lines:
        lines.writelines(rows)
    return Scan([file for file in results if isinstance(file, File)], unreadable)


def find_audio(folder: str | Path, extension: str | None = None) -> list[Path]:
    """Every file below `folder` with an audio extension, or with this `extension`, sorted, without hidden files."""
    paths = []
    for here, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        folders[:] = [name for name in folders if name[0] != "." and not _returns(Path(here, name))]
        paths += [Path(here, name) for name in names if is_audio(name, extension)]
    return sorted(paths)


def is_audio(name: str | Path, extension: str | None = None) -> bool:
    """Whether a file's name looks like audio, or has this `extension`.

    Names that begin with a dot, such as ._song.wav, belong to some program and do not count.
    """
    path = Path(name)
    extensions = {extension} if extension else audio.FORMATS.keys() | audio.FOREIGN
    return path.suffix.lower() in extensions and path.name[0] != "."


def extensions() -> str:
    return " ".join(sorted(audio.FORMATS.keys() | audio.FOREIGN))


def _returns(folder: Path) -> bool:
    """Whether a link leads to a folder that contains it, so that walking would never end."""
    return folder.is_symlink() and folder.resolve() in {parent.resolve() for parent in folder.absolute().parents}


def _refuse(error: OSError) -> None:
    raise InputError(f"{error.filename}: {error.strerror}") from None


def _relative(path: Path, manifest: Path) -> str:
    return Path(os.path.relpath(path, manifest.parent)).as_posix()


def inspect_files(paths: list[P], inspect: Callable[[P], T], workers: int = 8, progress: bool = True) -> list[T]:
    """Inspect files in threads, since a network disk is slow to answer; results are in the order of `paths`."""
    groups = [paths[at : at + _GROUP] for at in range(0, len(paths), _GROUP)]
    results: list[T] = []
    pool = ThreadPoolExecutor(workers)
    try:
        with tqdm(total=len(paths), desc="scan", unit="file", disable=None if progress else True) as bar:
            for group in pool.map(lambda group: [inspect(path) for path in group], groups):
                results += group
                bar.update(len(group))
    finally:
        pool.shutdown(cancel_futures=True)
    return results


def inspect_file(path: Path, check: bool = False, level: bool = False) -> File | Unreadable:
    """Read the header of a file; `check` and `level` also decode it."""
    try:
        header = audio.info(path)
        facts = _level(path) if level else {}
        if check and not level:
            for _ in audio.blocks(path):
                pass
    except InputError as error:
        return Unreadable(str(path), str(error).removeprefix(f"{path}: "))
    return File(path, header.rate, header.channels, header.frames, facts)


def _level(path: Path) -> dict[str, float]:
    """Peak and RMS over all channels in dB re full scale; silence is -200 dB, since JSON has no infinity."""
    peak, power, count = 0.0, 0.0, 0
    for block in audio.blocks(path):
        peak = max(peak, float(np.abs(block).max()))
        power += float(np.square(block, dtype=np.float64).sum())
        count += block.size
    rms = math.sqrt(power / count)
    return {key: round(20 * math.log10(max(x, 1e-10)), 3) for key, x in (("peak_db", peak), ("rms_db", rms))}


# --- rows -----------------------------------------------------------------------------------------


def row(file: File, path: str) -> str:
    """The line of a manifest for `file`; `path` is relative to the manifest's folder."""
    wrong = sorted(set(REQUIRED) & file.facts.keys())
    if wrong:
        raise InputError(f"{file.path}: {wrong[0]} cannot be a fact, since every row has it")
    values = {"path": path, "rate": file.rate, "channels": file.channels, "frames": file.frames, **file.facts}
    try:
        text = json.dumps(values, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"{file.path}: its facts cannot be written as JSON: {reason(error)}") from None
    # Unprintable characters, such as line ends or bytes that are not UTF-8, are escaped.
    return (text if text.isprintable() else json.dumps(values)) + "\n"


def parse_row(line: str, manifest: Path, number: int) -> File:
    where = f"{manifest}, line {number}"
    try:
        values: Any = json.loads(line)
    except (ValueError, RecursionError):
        raise InputError(f"{where}: not valid JSON") from None
    if not isinstance(values, dict) or not values.keys() >= set(REQUIRED):
        raise InputError(f"{where}: expected {', '.join(REQUIRED)}, {_instead(values)}")
    path, *numbers = (values.pop(key) for key in REQUIRED)
    if not isinstance(path, str) or not path or "\0" in path:
        raise InputError(f"{where}: path is no file name: {path!r}")
    for key, value in zip(REQUIRED[1:], numbers, strict=True):
        if type(value) is not int or not 1 <= value <= MOST:  # not isinstance: True is an int
            raise InputError(f"{where}: {key} must be a whole number above 0 and at most 2^53, not {value!r:.40}")
    rate, channels, frames = numbers
    return File(manifest.parent / path, rate, channels, frames, values)


def _instead(values: Any) -> str:
    """The keys that a row holds in place of the required ones, and which of these may be misspelt."""
    if not isinstance(values, dict):
        return f"found {type(values).__name__}"
    keys = f"found {', '.join(sorted(values))[:200] or 'nothing'}"
    for key in REQUIRED:
        near = difflib.get_close_matches(key, sorted(values.keys() - set(REQUIRED)), 1)
        if key not in values and near:
            return f"{keys}; is {near[0][:40]} meant to be {key}?"
    return keys
