"""Tables that describe items: a .csv or .jsonl with a column `file`, and a column for each key."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audio_core.files import InputError, read_text

_LARGEST = 1 << 30


class Table:
    """What a table says of a file, which it names with folders and ending, or without."""

    def __init__(self, path: Path):
        self.path = path
        rows = _rows(path)
        self.rows: dict[str, Mapping[str, Any]] = {}
        for number, row in enumerate(rows, 1):
            name = row.get("file")
            if not isinstance(name, str) or not name:
                raise InputError(f"{path}: row {number} names no file; a column `file` is needed")
            key = _key(name)
            if key in self.rows:
                raise InputError(f"{path}: row {number} describes {name} once more")
            self.rows[key] = {key: value for key, value in row.items() if key != "file"}
        self.names = {Path(key).name: key for key in self.rows}

    def of(self, name: str) -> Mapping[str, Any]:
        """The facts of the file `name`, a path below its folder."""
        key = _key(name)
        found = self.rows.get(key, self.rows.get(self.names.get(Path(key).name, "")))
        if found is None:
            raise InputError(f"{name}: {self.path} does not describe it")
        return found


def _key(name: str) -> str:
    return Path(name).with_suffix("").as_posix() if Path(name).suffix else name


def _rows(path: Path) -> list[dict[str, Any]]:
    text = read_text(path, _LARGEST)
    if path.suffix.lower() == ".csv":
        try:
            return [{key: value for key, value in row.items() if key} for row in csv.DictReader(text.splitlines())]
        except csv.Error as error:
            raise InputError(f"{path}: is no table: {error}") from None
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                rows.append(json.loads(line))
            except (ValueError, RecursionError):
                raise InputError(f"{path}: line {number} is no JSON") from None
            if not isinstance(rows[-1], dict):
                raise InputError(f"{path}: line {number} is no JSON object")
    return rows
