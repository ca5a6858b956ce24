"""The frame of an export: choose the format, write the file or folder completely or not at all, list the sizes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from ..command import columns
from ..files import InputError, replacing


class Format(NamedTuple):
    write: Callable[[Any, Path, list[Tensor]], dict[str, Any]]
    """Writes a model to a path with the calibration sounds, and returns facts about the result."""
    integers: bool = False
    """Whether the format has integers, whose scales come from calibration."""
    files: Collection[str] = ()
    """The names of all files that the folder may hold, if the format is a folder."""


def export(
    model: Any,
    out: str | Path,
    format: str,
    formats: Mapping[str, Format],
    sounds: Callable[[], list[Tensor]],
    calibration: list[Tensor] | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Write `model` to `out` in one of `formats` and return its facts.

    `calibration` sets the scales of integers; where it is None, `sounds` returns synthetic sounds for it.
    """
    out, chosen = Path(out), formats.get(format)
    if chosen is None:
        raise InputError(f"format: expected {', '.join(formats)}, got {format!r}")
    if calibration is not None and not chosen.integers:
        raise InputError(f"calibration sets the scales of integers, and --format {format} has none")
    if out.is_dir() and chosen.files:
        _refuse_other_files(out, chosen.files)
    if calibration is None:
        calibration = sounds() if chosen.integers else []
    with replacing(out, force) as temporary:
        facts = chosen.write(model, temporary, calibration)
    paths = sorted(out.iterdir()) if out.is_dir() else [out]
    return {"format": format, "path": str(out), "files": {path.name: path.stat().st_size for path in paths}, **facts}


def _refuse_other_files(folder: Path, files: Collection[str]) -> None:
    """Refuse a folder with other files than an earlier export's, since replacing a folder deletes all of it."""
    if others := sorted({path.name for path in folder.iterdir()} - set(files)):
        raise InputError(f"{folder}: holds {others[0]}, which no export does; choose another folder")


def sizes(facts: Mapping[str, Any]) -> str:
    """A table in bytes: the files of an export, and its constants and memory on a device, with their parts."""
    rows: list[tuple[object, ...]] = [("", "bytes"), *facts["files"].items()]
    for title, size in (
        ("constants in flash", facts.get("flash_bytes")),
        ("memory", facts.get("memory") or facts.get("memory_bytes")),
        ("arena of TensorFlow Lite Micro", facts.get("arena_bytes")),
    ):
        parts = size if isinstance(size, Mapping) else {}
        if size:
            rows += [(title, sum(parts.values()) if parts else size)]
            rows += [(f"  {name}", part) for name, part in parts.items()]
    return columns(rows)
