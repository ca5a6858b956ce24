"""From prompts and audio files to audio files: many at once, resumable, each named after its prompt or source."""

from __future__ import annotations

import csv
import dataclasses
import difflib
import io
import itertools
import math
import re
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from audio_core import audio
from audio_core.batch import Job
from audio_core.files import InputError, read_text

from .diffusion import Step

LISTS = (".txt", ".csv")
_MOST = 1 << 26  # bytes of a list
_LONGEST_NAME = 48
_OWN = ("negative", "seconds", "seed", "name")
_COLUMNS = ("prompt", *_OWN)


@dataclass(frozen=True)
class Prompt:
    """One result that is wanted. What is None is as for all."""

    values: Mapping[str, Any]
    """By the keys of the model's conditioners."""
    negative: str | None = None
    seconds: float | None = None
    seed: int | None = None
    name: str = ""

    @property
    def stem(self) -> str:
        """Words of the prompt; where it has none, a number that stands for it."""
        text = self.name or str(self.values.get("prompt", ""))
        words = re.sub(r"[^\w]+", "-", text.lower()).strip("-_")[:_LONGEST_NAME].strip("-_")
        return words or (f"audio-{zlib.crc32(text.encode(errors='replace')):08x}" if text else "audio")


def prompts_of(texts: Sequence[str], more: Mapping[str, Any] | None = None) -> list[Prompt]:
    """Texts, and the lines of .txt and rows of .csv files among them; `more` are values that all have."""
    prompts: list[Prompt] = []
    for text in texts:
        if text.lower().endswith(LISTS) and "\n" not in text:
            path = Path(text)  # reading it says so where there is none
            rows = _rows(path) if path.suffix.lower() == ".csv" else _lines(path)
            prompts += [_with(row, more) for row in rows]
        else:
            prompts.append(Prompt({**(more or {}), "prompt": text}))
    return prompts


def repeated(prompts: Sequence[Prompt], count: int) -> list[Prompt]:
    """Each of them so many times; seeds of their own count up."""
    return [
        prompt if prompt.seed is None else dataclasses.replace(prompt, seed=prompt.seed + number)
        for prompt in prompts
        for number in range(count)
    ]


def _with(prompt: Prompt, more: Mapping[str, Any] | None) -> Prompt:
    return Prompt({**(more or {}), **prompt.values}, prompt.negative, prompt.seconds, prompt.seed, prompt.name)


def _lines(path: Path) -> list[Prompt]:
    lines = [line.strip() for line in read_text(path, _MOST).splitlines()]
    if not any(lines):
        raise InputError(f"{path}: holds no prompts, one in a line")
    return [Prompt({"prompt": line}) for line in lines if line]


def _rows(path: Path) -> list[Prompt]:
    """Columns: prompt; and if wanted negative, seconds, seed, name, and keys of conditioners."""
    reader = csv.DictReader(io.StringIO(read_text(path, _MOST), newline=""))
    if "prompt" not in (reader.fieldnames or ()):
        raise InputError(f"{path}: needs a column `prompt`; it has {', '.join(reader.fieldnames or ()) or 'none'}")
    for name in reader.fieldnames or ():
        close = difflib.get_close_matches(name, _COLUMNS, 1, 0.8)
        if name not in _COLUMNS and close:
            raise InputError(f"{path}: unknown column {name}; did you mean {close[0]}?")
    prompts = []
    for number, row in enumerate(reader, 1):
        if None in row or None in row.values():
            raise InputError(f"{path}: row {number} has not as many cells as the head")
        own = {key: row.pop(key, "").strip() for key in _OWN}
        seconds, seed = (
            _number(own[key], kind, path, number, key) for key, kind in (("seconds", float), ("seed", int))
        )
        if seed is not None and seed < 0:
            raise InputError(f"{path}: row {number}: seed: expected a number from 0 on, got {seed}")
        prompts.append(Prompt(row, own["negative"] or None, seconds, seed, own["name"]))
    if not prompts:
        raise InputError(f"{path}: holds no prompts, one in a row")
    return prompts


def _number(text: str, kind: Callable[[str], Any], path: Path, row: int, key: str) -> Any:
    try:
        value = kind(text) if text else None
    except ValueError:
        value = math.nan
    if value is not None and not math.isfinite(value):
        raise InputError(f"{path}: row {row}: {key}: expected a number, got {text[:20]!r}")
    return value


def jobs(prompts: Sequence[Prompt], out: Path, ending: str) -> list[tuple[Job, Prompt]]:
    """Where each result goes: below the folder `out`, or for one result to the file `out` itself."""
    if out.suffix.lower() in audio.FORMATS and not out.is_dir():
        if len(prompts) > 1:
            raise InputError(f"{out}: is one file, but {len(prompts)} results are wanted; give a folder")
        return [(Job(Path(prompts[0].stem), out), prompts[0])]
    taken: set[str] = set()
    result = []
    for prompt in prompts:
        names = itertools.chain([prompt.stem], (f"{prompt.stem}-{count}" for count in itertools.count(2)))
        name = next(each for each in names if each not in taken)
        taken.add(name)
        result.append((Job(Path(name), out / f"{name}{ending}"), prompt))
    return result


def write(path: Path, samples: np.ndarray, rate: int, encoding: str | None = None, force: bool = True) -> None:
    """Write (C, T), limited to full scale."""
    with audio.Writer(path, rate, len(samples), encoding, samples.shape[1], force) as writer:
        writer.write(np.clip(samples, -1, 1))


@contextmanager
def steps_shown(quiet: bool) -> Iterator[Callable[[Step], None]]:
    """A bar of sampling steps on standard error; gives the callback that moves it."""
    from tqdm import tqdm

    with tqdm(unit="step", leave=False, disable=quiet or not sys.stderr.isatty()) as bar:

        def show(step: Step) -> None:
            bar.total = step.steps
            bar.update()

        yield show
