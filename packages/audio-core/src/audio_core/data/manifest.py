"""Which files there are, looked at once: JSON lines of path, rate, channels and frames.

An item is anything with `name`, `rate`, `channels`, `frames` and `read(start, frames) -> (C, frames)`. A file of a
manifest is one, a track of a pack is one, and a package may write its own: clean and noisy speech as two channels.
"""

import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tqdm import tqdm

from .. import audio
from ..files import InputError, read_text, replacing

_GROUP = 16  # files looked at by one thread before it reports
_LIMIT = 1 << 31  # bytes; ten million files make a manifest of one gigabyte


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
    """An audio file, and what its header said when it was scanned."""

    path: Path
    rate: int
    channels: int
    frames: int

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
        """A manifest that says what it should about files that are there."""
        path = Path(path)
        lines = read_text(path, _LIMIT).split("\n")  # not splitlines, which also cuts at signs a name may hold
        rows = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
        if not rows:
            raise InputError(f"{path}: lists no files")
        items = [_parsed(line, path, number) for number, line in rows]
        missing = [at for at, item in enumerate(items) if not item.path.exists()]
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
) -> Scan:
    """Look at every audio file in folders (or named one by one), sorted by path, and write the manifest.

    Headers only; `check` decodes every file whole, which also finds damage inside, NaN and infinity. What cannot be
    read is left out of the manifest and listed in the result.
    """
    given = [inputs] if isinstance(inputs, str | Path) else list(inputs)
    found = [path for entry in map(Path, given) for path in (find_audio(entry) if entry.is_dir() else [entry])]
    if not found:
        raise InputError(f"{', '.join(map(str, given)) or 'no input'}: no audio files found; known are {extensions()}")
    manifest = Path(manifest)
    relative = {_relative(path, manifest): path for path in found}
    order = sorted(relative)
    items, lines, unreadable = [], [], []
    with tqdm(total=len(order), desc="scan", unit="file", disable=None if progress else True) as bar:
        for name, seen in zip(order, _looked([relative[name] for name in order], workers, check), strict=True):
            bar.update()
            if isinstance(seen, Unreadable):
                unreadable.append(seen)
                continue
            items.append(seen)
            row = {"path": name, "rate": seen.rate, "channels": seen.channels, "frames": seen.frames}
            # Signs that no terminal shows, such as line ends or bytes that are no UTF-8, are escaped.
            lines.append(json.dumps(row, ensure_ascii=not name.isprintable()) + "\n")
    if not items:
        raise InputError(f"{unreadable[0].name}: {unreadable[0].cause}; none of {len(order)} files can be read")
    with replacing(manifest) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(lines)
    return Scan(items, unreadable)


def find_audio(folder: str | Path, extension: str | None = None) -> list[Path]:
    """Every file below `folder` with an audio extension, or with this one, sorted; hidden ones are left out."""
    found = []
    for here, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        folders[:] = [name for name in folders if name[0] != "." and not _returns(Path(here, name))]
        found += [Path(here, name) for name in names if is_audio(name, extension)]
    return sorted(found)


def is_audio(name: str | Path, extension: str | None = None) -> bool:
    """Whether a file's name looks like audio, or has this `extension`.

    What begins with a dot is some program's own, as ._song.wav is.
    """
    path = Path(name)
    wanted = {extension} if extension else audio.FORMATS.keys() | audio.FOREIGN
    return path.suffix.lower() in wanted and path.name[0] != "."


def extensions() -> str:
    return " ".join(sorted(audio.FORMATS.keys() | audio.FOREIGN))


def _returns(folder: Path) -> bool:
    """Whether a link leads back to a folder it is in, so that walking would never end."""
    return folder.is_symlink() and folder.resolve() in {parent.resolve() for parent in folder.absolute().parents}


def _refuse(error: OSError) -> None:
    raise InputError(f"{error.filename}: {error.strerror}") from None


def _relative(path: Path, manifest: Path) -> str:
    return Path(os.path.relpath(path, manifest.parent)).as_posix()


def _looked(paths: list[Path], workers: int, check: bool) -> Iterator[File | Unreadable]:
    """What each file is, in the order of `paths`; many at a time, since a disk far away makes each one wait."""
    groups = [paths[at : at + _GROUP] for at in range(0, len(paths), _GROUP)]
    pool = ThreadPoolExecutor(workers)
    try:
        for results in pool.map(lambda group: [_look(path, check) for path in group], groups):
            yield from results
    finally:
        pool.shutdown(cancel_futures=True)


def _look(path: Path, check: bool) -> File | Unreadable:
    try:
        header = audio.info(path)
        if check:
            for _ in audio.blocks(path):
                pass
    except InputError as error:
        return Unreadable(str(path), str(error).removeprefix(f"{path}: "))
    return File(path, header.rate, header.channels, header.frames)


def _parsed(line: str, manifest: Path, number: int) -> File:
    where = f"{manifest}, line {number}"
    try:
        row: Any = json.loads(line)
    except (ValueError, RecursionError):
        raise InputError(f"{where}: not valid JSON") from None
    wanted = set(File._fields)
    if not isinstance(row, dict) or row.keys() != wanted:
        found = ", ".join(sorted(row)) if isinstance(row, dict) else type(row).__name__
        raise InputError(f"{where}: expected {', '.join(File._fields)}, found {found[:200] or 'nothing'}")
    if not isinstance(row["path"], str) or not row["path"] or "\0" in row["path"]:
        raise InputError(f"{where}: path is no file name: {row['path']!r}")
    for key in ("rate", "channels", "frames"):
        if type(row[key]) is not int or row[key] < 1:  # not isinstance: True is an int
            raise InputError(f"{where}: {key} must be a whole number above 0, not {row[key]!r}")
    return File(manifest.parent / row["path"], row["rate"], row["channels"], row["frames"])
