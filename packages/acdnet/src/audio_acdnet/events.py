"""Events of a long recording: windows of one class joined, and written as text, CSV or Audacity labels.

They stand beside the verb since they know no model's inside: what they need is labels and probabilities.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from audio_core.files import InputError, write_text

COLUMNS = ("file", "start", "end", "label", "score")


class Window(NamedTuple):
    """One crop of a recording, in seconds; `probabilities` (K,) is None where the crop is silent."""

    start: float
    end: float
    probabilities: np.ndarray | None


class Event(NamedTuple):
    """A class from `start` to `end`, in seconds, with the mean of its probabilities as score."""

    start: float
    end: float
    label: str
    score: float

    def __str__(self) -> str:
        return f"{self.start:9.2f} to {self.end:9.2f} s  {self.label} {100 * self.score:.0f} %"


def joined(labels: Sequence[str], windows: Iterable[Window], threshold: float = 0.5) -> Iterator[Event]:
    """The events of windows in their order; each comes as soon as it is over.

    Windows belong to one event when they overlap or meet and agree on the likeliest class. A window whose likeliest
    class stays below `threshold` neither makes an event nor ends one.
    """
    current: tuple[float, float, int, list[float]] | None = None
    for start, end, probabilities in windows:
        best = None
        if probabilities is not None and probabilities.max() >= threshold:
            best = int(probabilities.argmax())
        if current and (start > current[1] or best not in (None, current[2])):
            yield _event(labels, *current)
            current = None
        if best is not None and probabilities is not None:
            scores = [*(current[3] if current else []), float(probabilities[best])]
            current = (current[0] if current else start, end, best, scores)
    if current:
        yield _event(labels, *current)


def _event(labels: Sequence[str], start: float, end: float, best: int, scores: list[float]) -> Event:
    return Event(round(start, 3), round(end, 3), labels[best], round(sum(scores) / len(scores), 4))


# --- files -------------------------------------------------------------------------------------------------


def check_target(path: Path, files: Sequence[str], force: bool) -> None:
    """What would stop `write` at the end stops it before the work."""
    if path.suffix.lower() not in (".csv", ".txt"):
        raise InputError(f"{path}: events are written as .csv, or as .txt with labels for Audacity")
    if path.suffix.lower() == ".txt" and len(files) > 1:
        raise InputError(f"{path}: labels for Audacity belong to one recording, but there are {len(files)}; use .csv")
    if path.is_dir():
        raise InputError(f"{path}: is a folder, and a file was to be written")
    if path.exists() and not force:
        raise InputError(f"{path}: exists already; give --force to overwrite it")


def write(path: Path, rows: Iterable[tuple[str, Event]]) -> None:
    """(file, event) of each row as a table, or as labels that Audacity imports (File, Import, Labels)."""
    if path.suffix.lower() == ".txt":
        lines = (f"{event.start:.3f}\t{event.end:.3f}\t{event.label} {100 * event.score:.0f} %" for _, event in rows)
        write_text(path, "".join(line + "\n" for line in lines))
        return
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows((file, *event) for file, event in rows)
    write_text(path, text.getvalue())
