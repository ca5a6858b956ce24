"""The published protocol: PESQ, composite measures, STOI and SI-SDR of each file, before and after enhancement."""

from __future__ import annotations

import importlib.util
import math
import os
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from audio_core import audio, metrics
from audio_core.command import columns
from audio_core.files import InputError, note
from audio_core.report import Report
from tqdm import tqdm

from .data.pairs import Pair, paired, read_pair
from .enhance import Options, enhance
from .measures import RATE, composite, ssnr
from .model import SEMamba
from .scores import pesq, workers

MEASURES = {
    "pesq": "PESQ",
    "csig": "CSIG",
    "cbak": "CBAK",
    "covl": "COVL",
    "ssnr": "SSNR, dB",
    "stoi": "STOI",
    "si_sdr": "SI-SDR, dB",
}
EXTRAS = {"pesq": ("pesq", "csig", "cbak", "covl"), "pystoi": ("stoi",)}  # what needs which library
_FEW = 16  # files that are measured sooner than worker processes start
Values = dict[str, float]


class Measured(NamedTuple):
    """The measures of one file."""

    name: str
    seconds: float
    noisy: Values
    enhanced: Values


@dataclass
class Result:
    files: list[Measured]
    unreadable: int
    sounds: list[list[tuple[str, np.ndarray, int]]]
    """Of the first files: clean, noisy and enhanced, with labels and rate."""
    options: Options = field(default_factory=Options)

    @property
    def measures(self) -> list[str]:
        return [name for name in MEASURES if name in self.files[0].noisy]

    def mean(self, side: str, measure: str) -> float:
        """Over the files that have this measure; `side` is noisy or enhanced."""
        values = [getattr(file, side)[measure] for file in self.files]
        finite = [value for value in values if math.isfinite(value)]
        return sum(finite) / len(finite) if finite else math.nan

    def means(self, side: str) -> Values:
        return {name: self.mean(side, name) for name in self.measures}

    def plain(self) -> dict[str, Any]:
        """For JSON; measures that are not defined for a file are null."""
        return {
            "files": len(self.files),
            "unreadable": self.unreadable,
            "seconds": round(sum(file.seconds for file in self.files), 3),
            **asdict(self.options),
            "scale": "float",  # of WSS, in CSIG, CBAK and COVL
            "noisy": _plain(self.means("noisy")),
            "enhanced": _plain(self.means("enhanced")),
            "per_file": [
                {"name": file.name, "noisy": _plain(file.noisy), "enhanced": _plain(file.enhanced)}
                for file in self.files
            ],
        }

    def table(self) -> str:
        """For people."""
        rows: list[tuple] = [("", *(MEASURES[name] for name in self.measures))]
        for side in ("noisy", "enhanced"):
            rows.append((side, *(round(value, 3) for value in self.means(side).values())))
        gains = zip(self.means("enhanced").values(), self.means("noisy").values(), strict=True)
        rows.append(("gain", *(f"{after - before:+.3f}" for after, before in gains)))
        return f"{columns(rows)}\n\n{len(self.files)} files, {sum(file.seconds for file in self.files):.4g} s"

    def page(self, report: Report, folder: Path) -> None:
        """Means, players of the first files and all numbers; nothing else goes into the folder."""
        seconds = sum(file.seconds for file in self.files)
        stretched = ", with perceptual contrast stretching" if self.options.pcs else ""
        report.text(f"Measured on {len(self.files)} files, {seconds:.4g} s, at 16 kHz{stretched}. Higher is better.")
        names = self.measures
        rows = [[side, *self.means(side).values()] for side in ("noisy", "enhanced")]
        report.table(["mean", *(MEASURES[name] for name in names)], rows)
        report.text(
            "PESQ is wide-band (ITU-T P.862.2). CSIG, CBAK and COVL are computed from samples of full scale 1, as "
            "published numbers are; from 16-bit integers they are 0.02 to 0.16 lower."
        )
        if self.sounds:
            report.heading("To hear")
            for sounds in self.sounds:
                report.row(sounds)
        report.heading("Files")
        header = ["file", "s", *(text for name in names for text in (f"{MEASURES[name]}: noisy", "enhanced"))]
        lines = [
            [file.name, file.seconds, *(side[name] for name in names for side in (file.noisy, file.enhanced))]
            for file in self.files
        ]
        report.table(header, lines)


def _plain(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: round(value, 5) if math.isfinite(value) else None for name, value in values.items()}


# --- measuring -------------------------------------------------------------------------------------------


class Job(NamedTuple):
    """A file to measure: audio is (T,) at the rate of the model."""

    name: str
    rate: int
    clean: np.ndarray
    noisy: np.ndarray
    enhanced: np.ndarray


def evaluate(
    model: SEMamba,
    clean: str | Path,
    noisy: str | Path | None = None,
    options: Options = Options(),  # noqa: B008 (frozen)
    files: int = 0,
    listen: int = 0,
    quiet: bool = False,
) -> Result:
    """Measure noisy and enhanced files against the clean ones, mixed down to one channel, at the rate of the model.

    `clean` and `noisy` are folders or .json lists, matched by name, or `clean` is a manifest of pairs. At most `files`
    of them are measured, if given. Of the first `listen` files the sounds are kept.
    """
    pairs, problems = paired(Path(clean), None if noisy is None else Path(noisy), quiet=quiet)
    for name, cause in problems:
        note(f"left out: {name}: {cause}")
    for library, names in EXTRAS.items():
        if importlib.util.find_spec(library) is None and not quiet:
            wanted = ", ".join(MEASURES[name] for name in names)
            note(f'{library} is not installed, so {wanted} are left out: pip install "audio-semamba[metrics]"')
    pairs = pairs[:files] if files else pairs
    result = Result([], len(problems), [], options)
    with tqdm(total=len(pairs), desc="evaluate", unit="file", disable=quiet or None) as bar:
        for measured in _measured(_jobs(model, pairs, result, listen), len(pairs)):
            result.files.append(measured)
            bar.update()
    if not result.files:
        raise InputError("none of the files could be measured")
    return result


def _jobs(model: SEMamba, pairs: Sequence[Pair], result: Result, listen: int) -> Iterator[Job]:
    """The enhanced files, one after another; those that cannot be read are named and counted."""
    rate = model.config.rate
    counts = Counter(pair.noisy.name for pair in pairs)
    for pair in pairs:
        name = pair.noisy.name if counts[pair.noisy.name] == 1 else pair.noisy.as_posix()  # of subfolders
        try:
            clean, noisy = read_pair(pair, rate)
            enhanced = enhance(model, noisy, rate, **asdict(result.options))
        except InputError as error:
            text = str(error)
            note(text if text.startswith((str(pair.clean), str(pair.noisy))) else f"{pair.noisy}: {text}")
            result.unreadable += 1
            continue
        sounds = {"clean": clean, "noisy": noisy, "enhanced": enhanced}
        if len(result.sounds) < listen:
            result.sounds.append([(f"{name}, {label}", x, rate) for label, x in sounds.items()])
        yield Job(name, rate, clean[0], noisy[0], enhanced[0])


def _measured(jobs: Iterator[Job], count: int) -> Iterator[Measured]:
    """The measures of each job in order; of many files, worker processes measure while the next are enhanced."""
    if count <= _FEW:
        yield from map(measure, jobs)
        return
    size = min(4, count, os.cpu_count() or 1)
    with workers(size) as pool:
        pending: deque = deque()
        for job in jobs:
            pending.append(pool.submit(measure, job))
            if len(pending) > 4 * size:  # else a slow pool would hold the audio of all files
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def measure(job: Job) -> Measured:
    """All measures, of both sides."""
    clean, *sides = (
        audio.resample(x[None], job.rate, RATE)[0].astype(np.float32) for x in (job.clean, job.noisy, job.enhanced)
    )
    noisy, enhanced = (values(side, clean) for side in sides)
    return Measured(job.name, len(clean) / RATE, noisy, enhanced)


def values(estimate: np.ndarray, clean: np.ndarray) -> Values:
    """By name, of (T,) at 16 kHz; NaN where a measure is not defined, as for silence."""
    result: Values = {}
    x, y = torch.from_numpy(estimate), torch.from_numpy(clean)
    if importlib.util.find_spec("pesq"):
        result["pesq"] = pesq(estimate, clean, RATE)
        result |= composite(estimate, clean, result["pesq"])._asdict()
    else:
        result["ssnr"] = ssnr(estimate, clean)
    if importlib.util.find_spec("pystoi"):
        result["stoi"] = float(metrics.stoi(x, y, RATE)) if y.any() else math.nan
    result["si_sdr"] = float(metrics.si_sdr(x, y)) if y.any() else math.nan
    return result
