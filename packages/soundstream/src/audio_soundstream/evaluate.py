"""How good a codec is, bitrate by bitrate, beside Opus; and a page to hear it."""

from __future__ import annotations

import importlib.util
import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from audio_core import audio, batch, metrics
from audio_core.command import columns
from audio_core.data.manifest import Manifest
from audio_core.files import InputError, note
from audio_core.loss.spectral import MelLoss
from audio_core.nn.quantize import usage
from audio_core.report import Report
from torch import Tensor
from tqdm import tqdm

from . import cost
from .codec import encoded, reconstruct
from .config import bitrates, bits, layers_for
from .model import NeuralCodec

LONGEST = 30.0  # seconds of a file that are looked at
OPUS = (6.0, 12.0)  # kbit/s beside the codec's own; 6 is the least that Opus has
MEASURES = {
    "si_sdr": "SI-SDR, dB",
    "snr": "SNR, dB",
    "mel": "mel distance",
    "stft": "log spectral distance, dB",
    "pesq": "PESQ",
    "stoi": "STOI",
}


@dataclass
class Rung:
    """One bitrate, or a codec to compare with: means over the files."""

    name: str
    kbps: float
    values: dict[str, list[float]] = field(default_factory=dict)

    def mean(self, measure: str) -> float:
        found = [value for value in self.values.get(measure, []) if math.isfinite(value)]
        return sum(found) / len(found) if found else math.nan


@dataclass
class Result:
    model: NeuralCodec
    rungs: list[Rung]
    opus: list[Rung]
    entropy: list[float]  # bits, of each layer
    used: list[float]  # share of the entries that occur, of each layer
    frames: int
    files: int
    unreadable: int
    heard: list[list[tuple[str, np.ndarray, int]]]
    """Of the first files: labels, samples and rates, the recording first."""

    def plain(self) -> dict[str, Any]:
        def row(rung: Rung) -> dict[str, Any]:
            means = {measure: rung.mean(measure) for measure in MEASURES if measure in rung.values}
            numbers = {name: round(value, 4) if math.isfinite(value) else None for name, value in means.items()}
            return {"name": rung.name, "kbps": round(rung.kbps, 4), **numbers}

        books = [
            {"entropy_bits": round(bits, 4), "used": round(share, 4)}
            for bits, share in zip(self.entropy, self.used, strict=True)
        ]
        return {
            "files": self.files,
            "unreadable": self.unreadable,
            "frames": self.frames,
            "bitrates": [row(rung) for rung in self.rungs],
            "opus": [row(rung) for rung in self.opus],
            "codebooks": books,
            "nominal_kbps": bitrates(self.model.config)[-1],
            "entropy_kbps": round(sum(self.entropy) * self.model.sample_rate / self.model.hop / 1000, 4),
        }

    def table(self) -> str:
        """For people."""
        measures = [measure for measure in MEASURES if measure in self.rungs[0].values]
        rows: list[tuple] = [("", "kbit/s", *(MEASURES[measure] for measure in measures))]
        for rung in [*self.rungs, *self.opus]:
            name = "Opus" if rung in self.opus else type(self.model).__name__
            rows.append((name, round(rung.kbps, 3), *(round(rung.mean(measure), 3) for measure in measures)))
        entropy = sum(self.entropy)
        whole = self.model.config.layers * bits(self.model.config)
        used = 100 * sum(self.used) / len(self.used)
        return (
            f"{columns(rows)}\n\n{self.files} files; codes hold {entropy:.1f} of {whole} bits a frame; "
            f"{used:.0f} % of the entries occur in {self.frames} frames"
        )

    def page(self, report: Report, folder: Path | None = None) -> None:
        """Numbers, curves, codebooks and players."""
        kind, config = type(self.model).__name__, self.model.config
        facts = cost.describe(self.model.config)
        seconds, frame = self.frames / facts["frames_per_second"], 1000 / facts["frames_per_second"]
        report.text(
            f"{facts['parameters']['total']:,} parameters; {facts['rate']} Hz, frames of {frame:.3g} ms, a delay of "
            f"{facts['latency_ms']:.3g} ms. Measured on {self.files} files, {seconds:.3g} s."
        )
        report.heading("Quality by bitrate")
        report.text(
            "Means over the files at the codec's rate; bitrates are without containers. More is better of SI-SDR, SNR, "
            "PESQ and STOI, less of distances; PESQ and STOI are for speech. What is trained to sound right may have "
            "a low SI-SDR and yet sound well: listen below."
        )
        measures = [measure for measure in MEASURES if measure in self.rungs[0].values]
        header = ["", "kbit/s", *(MEASURES[measure] for measure in measures)]
        rows = [(kind, rung) for rung in self.rungs] + [("Opus", rung) for rung in self.opus]
        report.table(header, [[codec, rung.kbps, *map(rung.mean, measures)] for codec, rung in rows])
        for measure in ("si_sdr", "mel", "pesq"):
            if measure in measures and len(self.rungs) > 1:
                lines = {
                    label: ([rung.kbps for rung in rungs], [rung.mean(measure) for rung in rungs])
                    for label, rungs in ((kind, self.rungs), ("Opus", self.opus))
                }
                report.curve(MEASURES[measure], lines, unit="kbit/s")
        report.heading("Codebooks")
        width, total = bits(config), sum(self.entropy)
        report.text(
            f"The codes of a frame hold {total:.1f} of {width * config.layers} bits; the rest is what entropy coding "
            "saves at most, in long files. "
            f"Fewer than {10 * config.size} frames make it look less than it is; here are {self.frames}."
        )
        books = zip(bitrates(config), self.entropy, self.used, strict=True)
        report.table(
            ["layer", "kbit/s up to it", f"entropy, of {width} bits", "entries that occur, %"],
            [[at, rate, entropy, 100 * share] for at, (rate, entropy, share) in enumerate(books, 1)],
        )
        if self.heard:
            report.heading("To hear")
            for sounds in self.heard:
                report.row(sounds)


@torch.no_grad()
def evaluate(
    model: NeuralCodec,
    data: Sequence[str],
    kbps: Sequence[float] | None = None,
    files: int = 50,
    listen: int = 0,
    quiet: bool = False,
) -> Result:
    """Measure at each of `kbps`, by default four of the codec's bitrates."""
    if files < 1:
        raise InputError(f"--files: expected at least 1, got {files}")
    counts = [layers_for(model.config, rate) for rate in kbps] if kbps else _few(model.config.layers)
    counts = sorted(set(counts))
    rates = bitrates(model.config)
    rungs = [Rung(f"{rates[count - 1]:g} kbit/s", rates[count - 1]) for count in counts]
    opus = [Rung(f"Opus, {rate:g} kbit/s", rate) for rate in OPUS]
    distance = MelLoss(model.sample_rate)
    paths = _chosen(data, files)
    codes: list[Tensor] = []
    heard: list[list[tuple[str, np.ndarray, int]]] = []
    unreadable = 0
    for path in tqdm(paths, "evaluate", unit="file", disable=quiet or None):
        try:
            samples = _read(path, model.sample_rate)
        except InputError as error:
            note(str(error))
            unreadable += 1
            continue
        found = np.concatenate(list(encoded(model, audio.regroup([samples], model.sample_rate))), 1)
        codes.append(torch.from_numpy(found))
        sounds = [("as recorded", samples, model.sample_rate)]
        for rung, count in zip(rungs, counts, strict=True):
            made = np.clip(reconstruct(model, found[:count], samples.shape[1]), -1, 1)
            _measure(rung, made, samples, model.sample_rate, distance)
            sounds.append((rung.name, made, model.sample_rate))
        for rung in opus:
            made, rate = _opus(samples, model.sample_rate, rung.kbps)
            rung.values.setdefault("kbps", []).append(rate)
            _measure(rung, made, samples, model.sample_rate, distance)
            sounds.append((rung.name, made, model.sample_rate))
        if len(heard) < listen:
            heard.append(
                [(f"{path.name}, {label}" if label == "as recorded" else label, x, r) for label, x, r in sounds]
            )
    if not codes:
        raise InputError("none of the files could be measured")
    for rung in opus:
        rung.kbps = rung.mean("kbps")
    together = torch.cat(codes, -1)
    entropy, used = usage(together[None], model.config.size)
    counted = (len(codes), unreadable)
    return Result(model, rungs, opus, entropy.tolist(), used.tolist(), together.shape[-1], *counted, heard)


def _few(layers: int) -> list[int]:
    """A quarter, half, three quarters and all of the layers."""
    return sorted({max(1, round(layers * part / 4)) for part in (1, 2, 3, 4)})


def _chosen(data: Sequence[str], most: int) -> list[Path]:
    """At most so many files, spread evenly over what was given."""
    found: list[Path] = []
    for given in data:
        if given.endswith(".jsonl"):
            found += [item.path for item in Manifest.load(given).items]
        else:
            found += [item.file for item in batch.find(given)]
    return [found[at * len(found) // most] for at in range(most)] if len(found) > most else found


def _read(path: Path, rate: int) -> np.ndarray:
    """(1, T) at `rate`, of a long file the beginning."""
    info = audio.info(path)
    samples = audio.read(path, frames=min(info.frames, int(LONGEST * info.rate)), rate=rate, channels=1).samples
    if samples.shape[1] < 2048:
        raise InputError(f"{path}: {samples.shape[1]} samples at {rate} Hz are too few to measure anything on")
    return samples


def _measure(rung: Rung, made: np.ndarray, wanted: np.ndarray, rate: int, distance: MelLoss) -> None:
    """Of audio (1, T)."""
    x, y = torch.from_numpy(made), torch.from_numpy(wanted)
    found = {"mel": distance(x[None], y[None]), "stft": metrics.log_spectral_distance(x, y)}
    sounds, seconds = bool(wanted.any()), wanted.shape[1] / rate
    nothing = torch.tensor(math.nan)  # silence has spectra, but no ratios
    found["si_sdr"], found["snr"] = (metrics.si_sdr(x, y), metrics.snr(x, y)) if sounds else (nothing, nothing)
    if importlib.util.find_spec("pesq") and seconds >= 0.25:
        known = 8000 if rate == 8000 else 16000
        heard = [torch.from_numpy(audio.resample(one, rate, known)) for one in (made, wanted)]
        found["pesq"] = metrics.pesq(heard[0], heard[1], known)
    if importlib.util.find_spec("pystoi") and seconds >= 1 and sounds:
        found["stoi"] = metrics.stoi(x, y, rate)
    for name, value in found.items():
        rung.values.setdefault(name, []).append(float(value.mean()))


def _opus(samples: np.ndarray, rate: int, kbps: float) -> tuple[np.ndarray, float]:
    """What Opus makes of (1, T), and at how many kbit/s really."""
    allowed = next((known for known in (8000, 12000, 16000, 24000, 48000) if known >= rate), 48000)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sound.opus"
        audio.write(path, np.clip(audio.resample(samples, rate, allowed), -1, 1), allowed, bitrate=kbps)
        size = ogg_payload(path.read_bytes())
        back = audio.read(path, rate=rate).samples[:, : samples.shape[1]]
    made = np.pad(back, ((0, 0), (0, samples.shape[1] - back.shape[1])))
    return np.clip(made, -1, 1), size * 8 / (samples.shape[1] / rate) / 1000


def ogg_payload(data: bytes) -> int:
    """Bytes of sound in an Ogg file: all that its pages hold but the two with heads and tags, a kilobyte."""
    found, at = [], 0
    while at < len(data):
        lengths = data[at + 27 : at + 27 + data[at + 26]]
        found.append(sum(lengths))
        at += 27 + len(lengths) + found[-1]
    return sum(found[2:])
