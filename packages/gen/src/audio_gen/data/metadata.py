"""Tables that describe items: a .csv or .jsonl with a column `file`, and a column for each key."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audio_core.data.manifest import is_audio
from audio_core.files import InputError, read_text

_LARGEST = 1 << 30


class Table:
    """What a table says of a file, which it names with or without folders, and with or without ending."""

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

    def of(self, name: str, *others: Any) -> Mapping[str, Any]:
        """The facts of the file `name`, a path below its folder, or of others of its names, such as its recording's."""
        for each in (name, *others):
            if isinstance(each, str):
                key = _key(each)
                row = self.rows.get(key, self.rows.get(Path(key).name))
                if row is not None:
                    return row
        raise InputError(f"{name}: {self.path} does not describe it")


def _key(name: str) -> str:
    """Without the ending of audio or latents. Other dots belong to the name."""
    path = Path(name)
    return (
        path.with_suffix("").as_posix() if is_audio(path) or path.suffix.lower() in (".safetensors", ".npy") else name
    )


def _rows(path: Path) -> list[dict[str, Any]]:
    text = read_text(path, _LARGEST)
    if path.suffix.lower() == ".csv":
        try:
            return [
                {key: value for key, value in row.items() if key}
                for row in csv.DictReader(io.StringIO(text, newline=""))
            ]
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
