"""Data sets: their clips and labels, in the layouts that data sets come in. No clip is decoded."""

from __future__ import annotations

import csv
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from audio_core import audio, config
from audio_core.files import InputError, read_text

from ..labels import ESC50
from ..recipe import Data, Recipe

EXTENSIONS = {*audio.FORMATS, *audio.FOREIGN}
LAYOUTS = """ESC-50 (meta/esc50.csv and audio/), UrbanSound8K (metadata/UrbanSound8K.csv and audio/), ESC-10 of 2015
 (folders like `001 - Dog bark`), a folder for each class (inside fold1, fold2, ... or train and test, if there are
 folds), or a .csv file with the columns filename, label and fold""".replace("\n", "")

# Words of the first release that ESC-50 changed; the others it only writes with underscores.
_FIRST_RELEASE = {
    "dog_bark": "dog",
    "baby_cry": "crying_baby",
    "person_sneeze": "sneezing",
    "fire_crackling": "crackling_fire",
}


class Entry(NamedTuple):
    path: Path
    label: str
    fold: int
    """From 1 on; 0 where the data set has no folds."""
    row: str = ""
    """The table and the line that name the clip, where it was found in a table."""


@dataclass(frozen=True)
class Listing:
    """The clips of a data set, none of them opened yet; `labels` in the order of the data set's own numbers."""

    root: Path
    labels: tuple[str, ...]
    entries: tuple[Entry, ...]
    divide: int = 0
    """Into how many folds the clips were divided by file name; 0: the folds are the data set's own."""

    @property
    def name(self) -> str:
        return self.root.resolve().name

    def digest(self) -> str:
        """Eight digits that stand for these clips wherever they lie: for labels, file names and a part of each file."""
        clips = [(entry.label, entry.path.name, _part(entry.path)) for entry in self.entries]
        return f"{zlib.crc32(repr(sorted(clips)).encode()):08x}"

    @property
    def folds(self) -> tuple[int, ...]:
        return tuple(sorted({entry.fold for entry in self.entries} - {0}))

    def of_labels(self, labels: Sequence[str]) -> Listing:
        """Only the classes `labels`, in that order."""
        for label in labels:
            if label not in self.labels:
                raise InputError(
                    f"{self.root}: has no class {label!r}; it has {_some(self.labels)}; name those to learn with "
                    f"data.labels=[{','.join(self.labels[:2])}], or train all of them: data.labels=[], recipe own-micro"
                )
        entries = tuple(entry for entry in self.entries if entry.label in labels)
        return replace(self, labels=tuple(labels), entries=entries)

    def of_folds(self, folds: Iterable[int]) -> Listing:
        wanted = set(folds)
        if missing := wanted - set(self.folds):
            there = f"it has the folds {', '.join(map(str, self.folds))}" if self.folds else NO_FOLDS
            raise InputError(f"{self.root}: has no fold {min(missing)}; {there}")
        return replace(self, entries=tuple(entry for entry in self.entries if entry.fold in wanted))

    def divided(self, folds: int) -> Listing:
        """The same clips in `folds` folds: those of each class are dealt out in the order of their file names."""
        ordered = sorted(self.entries, key=lambda entry: (entry.label, entry.path))
        dealt: dict[str, int] = {}
        entries = []
        for entry in ordered:
            dealt[entry.label] = dealt.get(entry.label, -1) + 1
            entries.append(entry._replace(fold=dealt[entry.label] % folds + 1))
        return replace(self, entries=tuple(entries), divide=folds)


NO_FOLDS = (
    "it has no folds: no column fold in its .csv, no folders fold1, fold2, ... or train, test; "
    "data.divide=5 makes five (clips cut from one recording then part, and results are too good)"
)


def listed(data: Data) -> Listing:
    """The clips that the settings of a recipe choose. A data set that has folds keeps them."""
    listing = find(data.root)
    if data.labels:
        listing = listing.of_labels(data.labels)
    return listing.divided(data.divide) if data.divide and not listing.folds else listing


def chosen(root: str | Path, settings: Sequence[str]) -> Listing:
    """The clips below `root` that settings such as `data.divide=5` choose, as in a training."""
    if others := [text for text in settings if not text.startswith("data.") or text.startswith("data.root")]:
        raise InputError(f"{others[0]}: an evaluation takes the settings data.labels and data.divide only")
    return listed(config.build(Recipe, {"data": {"root": str(root)}}, settings).data)


# --- finding ---------------------------------------------------------------------------------------------


def find(root: str | Path) -> Listing:
    """The clips below `root`, whichever of the known layouts it has."""
    root = Path(root)
    if root.suffix.lower() == ".csv":
        return _from_csv(root)
    if not root.is_dir():
        raise InputError(f"{root}: there is no such folder; expected {LAYOUTS}")
    for table, reader in _TABLES.items():
        if (root / table).is_file():
            return reader(root, root / table)
        if (root / Path(table).name).is_file():  # the folder meta instead of the one around it
            raise InputError(f"{root}: is the {root.name} folder of a data set; give the folder around it")
    if any(re.fullmatch(r"\d{3} - .+", path.name) for path in _folders(root)):
        return _first_release(root)
    return _from_folders(root)


def _esc50(root: Path, table: Path) -> Listing:
    rows = list(_rows(table, ("filename", "fold", "target", "category")))
    numbers: dict[str, int] = {}
    for line, row in rows:
        number = _number(table, line, row, "target")
        if numbers.setdefault(row["category"], number) != number:
            raise InputError(
                f"{table}: line {line}: target {number}, but {row['category']} was {numbers[row['category']]}"
            )
    entries = [_entry(table, line, row, root / "audio" / row["filename"], row["category"]) for line, row in rows]
    return _listing(root, entries, sorted(numbers, key=numbers.__getitem__))


def _urbansound8k(root: Path, table: Path) -> Listing:
    rows = list(_rows(table, ("slice_file_name", "fold", "classID", "class")))
    numbers = {row["class"]: _number(table, line, row, "classID") for line, row in rows}
    entries = [
        _entry(table, line, row, root / "audio" / f"fold{row['fold']}" / row["slice_file_name"], row["class"])
        for line, row in rows
    ]
    return _listing(root, entries, sorted(numbers, key=numbers.__getitem__))


_TABLES: dict[str, Callable[[Path, Path], Listing]] = {
    "meta/esc50.csv": _esc50,
    "metadata/UrbanSound8K.csv": _urbansound8k,
}


def _first_release(root: Path) -> Listing:
    """Folders such as `001 - Dog bark`; files begin with their fold. Labels are those of ESC-50."""
    entries = []
    for folder in _folders(root):
        if not (match := re.fullmatch(r"\d{3} - (.+)", folder.name)):
            continue
        word = match[1].lower().replace(" ", "_")
        for path in _sounds(folder):
            fold = re.match(r"(\d+)-", path.name)
            if not fold:
                raise InputError(f"{path}: the name does not begin with a fold, as in 1-17092-A.ogg")
            entries.append(Entry(path, _FIRST_RELEASE.get(word, word), int(fold[1])))
    labels = list(dict.fromkeys(entry.label for entry in entries))
    return _listing(root, entries, [*(n for n in ESC50 if n in labels), *(n for n in labels if n not in ESC50)])


def _from_folders(root: Path) -> Listing:
    """class/file, fold3/class/file, or train/class/file (fold 1) and test/class/file (fold 2)."""
    named = {folder: _fold_of(folder.name) for folder in _folders(root)}
    folds: list[tuple[Path, int]] = [(folder, fold) for folder, fold in named.items() if fold]
    if folds and len(folds) < len(named):
        other = next(folder.name for folder, fold in named.items() if not fold)
        raise InputError(f"{root}: {other} is no fold, while {folds[0][0].name} is one; expected only folds, or none")
    entries = [
        Entry(path, folder.name, fold)
        for place, fold in folds or [(root, 0)]
        for folder in _folders(place)
        for path in _sounds(folder)
    ]
    if not entries:
        raise InputError(f"{root}: no labelled clips found; it holds {_contents(root)}; expected {LAYOUTS}")
    return _listing(root, entries, sorted({entry.label for entry in entries}))


def _from_csv(table: Path) -> Listing:
    """Paths are relative to the table; without a column fold, no clip has one."""
    rows = _rows(table, ("filename", "label"))
    entries = [_entry(table, line, row, table.parent / row["filename"], row["label"]) for line, row in rows]
    return _listing(table, entries, sorted({entry.label for entry in entries}))


def _listing(root: Path, entries: list[Entry], labels: Sequence[str]) -> Listing:
    """Sorted by name, as the authors read them: the order decides what an index means."""
    if not entries:
        raise InputError(f"{root}: holds no clips")
    return Listing(root, tuple(labels), tuple(sorted(entries, key=lambda entry: (entry.fold, entry.path.name))))


def _rows(table: Path, needed: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, row) of a CSV file with at least the columns `needed`."""
    reader = csv.DictReader(read_text(table).splitlines())
    columns = reader.fieldnames or []
    for name in needed:
        if name not in columns:
            raise InputError(f"{table}: has no column {name}; expected {', '.join(needed)}, found {_some(columns)}")
    for row in reader:
        if None in row or None in row.values():
            raise InputError(f"{table}: line {reader.line_num}: has not the {len(columns)} columns of the first line")
        yield reader.line_num, row


def _number(table: Path, line: int, row: dict[str, str], column: str) -> int:
    try:
        return int(row[column])
    except ValueError:
        raise InputError(f"{table}: line {line}: {column} is {row[column]!r}, not a number") from None


def _entry(table: Path, line: int, row: dict[str, str], path: Path, label: str) -> Entry:
    fold = _fold(table, line, row["fold"]) if "fold" in row else 0
    return Entry(path, label, fold, f"{table}: line {line}")


def _fold(table: Path, line: int, text: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise InputError(f"{table}: line {line}: fold is {text!r}; expected a number from 1 on")
    return int(text)


def _fold_of(name: str) -> int:
    match = re.fullmatch(r"fold[ _-]?(\d+)", name.lower())
    return int(match[1]) if match else {"train": 1, "test": 2}.get(name.lower(), 0)


def _folders(place: Path) -> list[Path]:
    return sorted(path for path in place.iterdir() if path.is_dir() and not path.name.startswith("."))


def _sounds(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS)


def _part(path: Path, count: int = 4096) -> tuple[int, int]:
    """The size of a file and a checksum of its middle: cut clips often have one name and one size."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - count) // 2)
            return size, zlib.crc32(file.read(count))
    except OSError:
        return -1, 0


def _contents(folder: Path) -> str:
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir() if not path.name.startswith("."))
    return _some(names) if names else "nothing"


def _some(names: Sequence[object], count: int = 6) -> str:
    shown = ", ".join(map(str, names[:count]))
    return shown + (f" and {len(names) - count} more" if len(names) > count else "")
