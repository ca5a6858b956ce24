"""The published protocol: SDR of each song as museval measures it, and further measures, of the mixture and after."""

from __future__ import annotations

import importlib.util
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from audio_core import audio, metrics
from audio_core.audio import Samples
from audio_core.command import columns
from audio_core.data.manifest import find_audio
from audio_core.files import InputError, note
from audio_core.report import Report, Sound
from tqdm import tqdm

from .data import pack
from .measures import segmental_sdr, track_sdr
from .models.separator import SpectrogramSeparator
from .separate import Separator

MEASURES = {"sdr": "SDR, dB", "clip_sdr": "SDR of the clip, dB", "si_sdr": "SI-SDR, dB", "pesq": "PESQ"}
MEDIAN = {"sdr"}  # over the songs; of the others the mean
SPEECH = ("speech", "voice")  # sources that have PESQ
HEARD_SECONDS = 10
_PESQ_RATE = 16000

Values = dict[str, float]


class Sides(NamedTuple):
    """The measures of one source, with the mixture as its estimate, and with the model's."""

    mixture: Values
    estimate: Values


class Measured(NamedTuple):
    """The measures of one song, by source."""

    name: str
    seconds: float
    sources: dict[str, Sides]


@dataclass
class Result:
    songs: list[Measured]
    unreadable: int
    sounds: list[list[Sound]]
    """Of the first songs: the mixture, and each source with its estimate."""
    options: dict[str, Any]
    """Of the separator."""

    def values(self, side: str, source: str, measure: str) -> list[float]:
        """Of all songs where this measure is defined; `side` is mixture or estimate."""
        measured = [song.sources[source] for song in self.songs if source in song.sources]
        values = [getattr(sides, side).get(measure, math.nan) for sides in measured]
        return [value for value in values if not math.isnan(value)]

    def total(self, side: str, source: str, measure: str) -> float:
        values = self.values(side, source, measure)
        if not values:
            return math.nan
        return statistics.median(values) if measure in MEDIAN else sum(values) / len(values)

    @property
    def sources(self) -> list[str]:
        return list(dict.fromkeys(source for song in self.songs for source in song.sources))

    @property
    def measures(self) -> list[str]:
        estimates = [sides.estimate for song in self.songs for sides in song.sources.values()]
        return [name for name in MEASURES if any(name in values for values in estimates)]

    def totals(self, side: str, source: str) -> Values:
        return {name: self.total(side, source, name) for name in self.measures}

    def plain(self) -> dict[str, Any]:
        """For JSON; measures that are not defined are null."""
        names = Sides._fields
        return {
            "songs": len(self.songs),
            "unreadable": self.unreadable,
            "seconds": round(sum(song.seconds for song in self.songs), 3),
            "options": self.options,
            "sources": {source: {side: _plain(self.totals(side, source)) for side in names} for source in self.sources},
            "per_song": [
                {
                    "name": song.name,
                    "seconds": round(song.seconds, 3),
                    "sources": {
                        source: {side: _plain(getattr(sides, side)) for side in names}
                        for source, sides in song.sources.items()
                    },
                }
                for song in self.songs
            ],
        }

    def table(self) -> str:
        """For people."""
        rows: list[tuple] = [("", *(MEASURES[name] for name in self.measures))]
        for source in self.sources:
            before, after = self.totals("mixture", source), self.totals("estimate", source)
            rows.append((source, *(round(value, 2) for value in after.values())))
            rows.append(("  mixture", *(round(value, 2) for value in before.values())))
            rows.append(("  gain", *(f"{after[name] - before[name]:+.2f}" for name in after)))
        return f"{columns(rows)}\n\n{len(self.songs)} songs, {sum(song.seconds for song in self.songs):.4g} s"

    def page(self, report: Report, folder: Path) -> None:
        """Totals, players of the first songs and all numbers; nothing else goes into the folder."""
        seconds = sum(song.seconds for song in self.songs)
        options = "".join(f", {name} {value}" for name, value in self.options.items())
        report.text(f"Measured on {len(self.songs)} songs, {seconds:.4g} s{options}. Higher is better.")
        names = self.measures
        rows = [
            [source, side, *self.totals(side, source).values()] for source in self.sources for side in Sides._fields
        ]
        report.table(["source", "of the", *(MEASURES[name] for name in names)], rows)
        report.text(
            "SDR is BSSEval v4's: of each second, of both channels together, without seconds that are silent; then the "
            "median over a song, and the median over the songs. The other numbers are of whole clips, and means."
        )
        if self.sounds:
            report.heading("To hear")
            for sounds in self.sounds:
                report.row(sounds)
        report.heading("Songs")
        header = [
            "song",
            "s",
            "source",
            *(text for name in names for text in (f"{MEASURES[name]}: mixture", "estimate")),
        ]
        lines = [
            [song.name, song.seconds, source, *(side.get(name) for name in names for side in sides)]
            for song in self.songs
            for source, sides in song.sources.items()
        ]
        report.table(header, lines)


def _plain(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: round(value, 5) if math.isfinite(value) else None for name, value in values.items()}


# --- measuring -------------------------------------------------------------------------------------------


def evaluate(
    model: SpectrogramSeparator,
    folder: str | Path,
    songs: int = 0,
    listen: int = 0,
    quiet: bool = False,
    **options: Any,
) -> Result:
    """Measure the stems of the songs below a folder, at the model's rate and in its channels.

    The folder is MUSDB18 or MUSDB18-HQ (whose test part is taken), other folders of songs with a file for each stem,
    folders of sources with a file for each song (mixture/1.wav, vocals/1.wav), or VoiceBank-DEMAND. At most `songs` of
    them are measured, if given. Of the first `listen` songs sounds are kept. `options` are those of `Separator`;
    a residual is measured against the stem of its name. A song is held in memory.
    """
    separator = Separator(model, **options)
    if not quiet and importlib.util.find_spec("pesq") is None and {*SPEECH} & {*separator.names}:
        note('pesq is not installed, so PESQ is left out: pip install "audio-sep[metrics]"')
    song_by_path = tracks(Path(folder), pack.PackSettings(model.config.rate, model.config.channels, ""))
    chosen = [*song_by_path.items()][: songs or None]
    result = Result([], 0, [], options)
    for path, song in tqdm(chosen, desc="evaluate", unit="song", disable=quiet or None):
        try:
            stems = _read(song, str(path), separator.names, quiet)
            estimates = separator(stems["mixture"], separator.rate)
        except InputError as error:
            text = str(error)
            note(text if text.startswith(str(path.parent)) else f"{path}: {text}")
            result.unreadable += 1
            continue
        sources = {
            name: Sides(*(values(x, stems[name], separator.rate, name) for x in (stems["mixture"], estimate)))
            for name, estimate in estimates.items()
        }
        name = song.relative.as_posix()
        result.songs.append(Measured(name, stems["mixture"].shape[1] / separator.rate, sources))
        if len(result.sounds) < listen:
            result.sounds.append(_sounds(name, stems, estimates, separator.rate))
    if not result.songs:
        raise InputError(f"{folder}: none of the songs could be measured")
    return result


def values(estimate: Samples, target: Samples, rate: int, source: str) -> Values:
    """By name, of (C, T); NaN where a measure is not defined, as for silence."""
    x, y = torch.from_numpy(estimate), torch.from_numpy(target)
    result = {
        "sdr": float(track_sdr(segmental_sdr(x, y, rate))),
        "clip_sdr": float(metrics.sdr(x, y)),
        "si_sdr": float(metrics.si_sdr(x, y).mean()) if y.any() else math.nan,
    }
    if source in SPEECH and importlib.util.find_spec("pesq"):
        result["pesq"] = _pesq(estimate, target, rate)
    return result


def _pesq(estimate: Samples, target: Samples, rate: int) -> float:
    """Wide-band PESQ of the mean of the channels; NaN where it is not defined."""
    x, y = (
        torch.from_numpy(audio.resample(samples.mean(0, keepdims=True), rate, _PESQ_RATE)[0])
        for samples in (estimate, target)
    )
    try:
        return float(metrics.pesq(x, y, _PESQ_RATE))
    except (InputError, ValueError, RuntimeError):  # too short, or one of the library's own errors
        return math.nan


# --- songs -----------------------------------------------------------------------------------------------


def tracks(folder: Path, settings: pack.PackSettings) -> dict[Path, pack.Song]:
    """The songs to measure, of whichever kind the folder is."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    if any(folder.glob("clean_*")):
        pairs = pack.voicebank_demand(folder, settings)
        tests = {path: song for path, song in pairs.items() if song.relative.parts[0] == "test"}
        return tests or pairs
    if (folder / "test").is_dir():
        folder = folder / "test"
    return _by_source(folder, settings) if (folder / pack.MIXTURE).is_dir() else pack.musdb18(folder, settings)


def _by_source(folder: Path, settings: pack.PackSettings) -> dict[Path, pack.Song]:
    """Folders mixture, vocals and so on, with files of the same names."""
    songs = {}
    for path in find_audio(folder / pack.MIXTURE):
        relative = path.relative_to(folder / pack.MIXTURE)
        files = [source / relative for source in sorted(folder.iterdir()) if (source / relative).is_file()]
        readers = {file.relative_to(folder).parts[0]: settings.reader(file) for file in files}
        songs[path] = pack.Song(relative.with_suffix(""), readers, pack.with_sums)
    return songs


def _read(song: pack.Song, name: str, sources: tuple[str, ...], quiet: bool) -> dict[str, Samples]:
    """The mixture and these sources."""
    parts: dict[str, list[Samples]] = {}
    for block in pack.blocks(song, name, quiet):
        if pack.MIXTURE not in block:
            block = {**block, pack.MIXTURE: np.sum([*block.values()], 0)}
        for source in (pack.MIXTURE, *sources):
            if source not in block:
                raise InputError(f"has no {source}, only {', '.join(block)}")
            parts.setdefault(source, []).append(block[source])
    return {source: np.concatenate(blocks, 1) for source, blocks in parts.items()}


def _sounds(name: str, stems: Mapping[str, Samples], estimates: Mapping[str, Samples], rate: int) -> list[Sound]:
    """The middle of a song."""
    length = stems[pack.MIXTURE].shape[1]
    start = max(0, length - HEARD_SECONDS * rate) // 2
    part = slice(start, start + HEARD_SECONDS * rate)
    sounds = [(f"{name}, mixture", stems[pack.MIXTURE][:, part], rate)]
    for source, estimate in estimates.items():
        sounds += [(f"{source}", stems[source][:, part], rate), (f"{source}, estimate", estimate[:, part], rate)]
    return sounds
