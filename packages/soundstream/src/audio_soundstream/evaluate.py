"""The quality of a codec at each bitrate, beside Opus at the same bitrates; and a page with players."""

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

LONGEST = 30.0  # seconds of a file that are measured
OPUS = (6.0, 256.0)  # the range of Opus for one channel, in kbit/s
MEASURES = {
    "si_sdr": "SI-SDR, dB",
    "snr": "SNR, dB",
    "mel": "mel distance",
    "stft": "log spectral distance, dB",
    "pesq": "PESQ",
    "stoi": "STOI",
}


@dataclass
class Bitrate:
    """The measures of a codec at one bitrate, for each file."""

    name: str
    kbps: float
    values: dict[str, list[float]] = field(default_factory=dict)

    def mean(self, measure: str) -> float:
        """Over the files that have this measure."""
        finite = [value for value in self.values.get(measure, []) if math.isfinite(value)]
        return sum(finite) / len(finite) if finite else math.nan


@dataclass
class Result:
    model: NeuralCodec
    bitrates: list[Bitrate]
    opus: list[Bitrate]
    """At those of the codec's bitrates that Opus has too, or else at its lowest."""
    entropy: list[float]  # bits, of each layer
    used: list[float]  # share of the entries that occur, of each layer
    frames: int
    files: int
    unreadable: int
    sounds: list[list[tuple[str, np.ndarray, int]]]
    """Of the first files: labels, samples and rates, the recording first."""

    def plain(self) -> dict[str, Any]:
        """For JSON."""

        def row(one: Bitrate) -> dict[str, Any]:
            means = {measure: one.mean(measure) for measure in MEASURES if measure in one.values}
            numbers = {name: round(value, 4) if math.isfinite(value) else None for name, value in means.items()}
            return {"name": one.name, "kbps": round(one.kbps, 4), **numbers}

        books = [
            {"entropy_bits": round(bits, 4), "used": round(share, 4)}
            for bits, share in zip(self.entropy, self.used, strict=True)
        ]
        return {
            "files": self.files,
            "unreadable": self.unreadable,
            "frames": self.frames,
            "bitrates": [row(one) for one in self.bitrates],
            "opus": [row(one) for one in self.opus],
            "codebooks": books,
            "nominal_kbps": bitrates(self.model.config)[-1],
            "entropy_kbps": round(sum(self.entropy) * self.model.sample_rate / self.model.hop / 1000, 4),
        }

    def table(self) -> str:
        """For people."""
        rows: list[tuple] = [("", "kbit/s", *(MEASURES[measure] for measure in self._measures))]
        for name, one in self._rows:
            rows.append((name, round(one.kbps, 3), *(round(one.mean(measure), 3) for measure in self._measures)))
        entropy = sum(self.entropy)
        whole = self.model.config.layers * bits(self.model.config)
        used = 100 * sum(self.used) / len(self.used)
        return (
            f"{columns(rows)}\n\n{self.files} files; codes hold {entropy:.1f} of {whole} bits a frame; "
            f"{used:.0f} % of the entries occur in {self.frames} frames"
        )

    @property
    def _measures(self) -> list[str]:
        return [measure for measure in MEASURES if measure in self.bitrates[0].values]

    @property
    def _rows(self) -> list[tuple[str, Bitrate]]:
        return [(type(self.model).__name__, one) for one in self.bitrates] + [("Opus", one) for one in self.opus]

    def page(self, report: Report, folder: Path) -> None:
        """Numbers, curves, codebooks and players; nothing else goes into the folder."""
        kind, config = type(self.model).__name__, self.model.config
        facts = cost.describe(self.model.config)
        seconds, frame = self.frames / facts["frames_per_second"], 1000 / facts["frames_per_second"]
        report.text(
            f"{facts['parameters']['total']:,} parameters; {facts['rate']} Hz, frames of {frame:.3g} ms, a delay of "
            f"{facts['latency_ms']:.3g} ms. Measured on {self.files} files, {seconds:.3g} s."
        )
        report.heading("Quality by bitrate")
        report.text(
            "Means over the files at the codec's rate; bitrates are without containers. Higher is better for SI-SDR, "
            "SNR, PESQ and STOI, lower for distances; PESQ and STOI are for speech. A codec that is trained with "
            "discriminators may have a low SI-SDR and still sound well: listen below."
        )
        header = ["", "kbit/s", *(MEASURES[measure] for measure in self._measures)]
        report.table(header, [[name, one.kbps, *map(one.mean, self._measures)] for name, one in self._rows])
        compared = [one for one in self.bitrates if one.kbps >= OPUS[0]]
        if len(compared) < 2:
            report.text(
                f"Opus begins at {OPUS[0]:g} kbit/s, where this codec has {len(compared) or 'none'} of the bitrates "
                "measured: it is in the table, and has no curve."
            )
        for measure in [each for each in ("si_sdr", "mel", "pesq") if each in self._measures]:
            lines = {kind: self.bitrates} | ({"Opus": self.opus} if len(compared) > 1 else {})
            points = {
                name: ([one.kbps for one in line], [one.mean(measure) for one in line]) for name, line in lines.items()
            }
            if len(self.bitrates) > 1:
                report.curve(MEASURES[measure], points, unit="kbit/s")
        report.heading("Codebooks")
        width, total = bits(config), sum(self.entropy)
        report.text(
            f"The codes of a frame have an entropy of {total:.1f} of {width * config.layers} bits. Entropy coding "
            f"saves the rest at most, in long files. Fewer than {10 * config.size} frames give too low an entropy; "
            f"these are {self.frames}."
        )
        books = zip(bitrates(config), self.entropy, self.used, strict=True)
        report.table(
            ["layer", "kbit/s up to it", f"entropy, of {width} bits", "entries that occur, %"],
            [[at, rate, entropy, 100 * share] for at, (rate, entropy, share) in enumerate(books, 1)],
        )
        if self.sounds:
            report.heading("To hear")
            for sounds in self.sounds:
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
    """Measure at each of `kbps`, by default four of the codec's bitrates, on at most `files` files.

    Of the first `listen` files the sounds are kept.
    """
    if files < 1:
        raise InputError(f"--files: expected at least 1, got {files}")
    counts = [layers_for(model.config, rate) for rate in kbps] if kbps else _few(model.config.layers)
    counts = sorted(set(counts))
    rates = [bitrates(model.config)[count - 1] for count in counts]
    own = [Bitrate(f"{rate:g} kbit/s", rate) for rate in rates]
    same = [rate for rate in rates if OPUS[0] <= rate <= OPUS[1]] or [OPUS[0]]
    opus = [Bitrate(f"Opus, {rate:g} kbit/s", rate) for rate in same]
    distance = MelLoss(model.sample_rate)
    codes: list[Tensor] = []
    kept: list[list[tuple[str, np.ndarray, int]]] = []
    unreadable = 0
    for path in tqdm(_chosen(data, files), "evaluate", unit="file", disable=quiet or None):
        try:
            samples = _read(path, model.sample_rate)
        except InputError as error:
            note(str(error))
            unreadable += 1
            continue
        layers = np.concatenate(list(encoded(model, audio.regroup([samples], model.sample_rate))), 1)
        codes.append(torch.from_numpy(layers))
        sounds = [(f"{path.name}, as recorded", samples, model.sample_rate)]
        for one, count in zip(own, counts, strict=True):
            estimate = np.clip(reconstruct(model, layers[:count], samples.shape[1]), -1, 1)
            _measure(one, estimate, samples, model.sample_rate, distance)
            sounds.append((one.name, estimate, model.sample_rate))
        for one, rate in zip(opus, same, strict=True):
            estimate, real_rate = _opus(samples, model.sample_rate, rate)
            one.values.setdefault("kbps", []).append(real_rate)
            _measure(one, estimate, samples, model.sample_rate, distance)
            sounds.append((one.name, estimate, model.sample_rate))
        kept += [sounds] if len(kept) < listen else []
    if not codes:
        raise InputError("none of the files could be measured")
    for one in opus:
        one.kbps = one.mean("kbps")
    together = torch.cat(codes, -1)
    entropy, used = usage(together[None], model.config.size)
    counted = (len(codes), unreadable)
    return Result(model, own, opus, entropy.tolist(), used.tolist(), together.shape[-1], *counted, kept)


def _few(layers: int) -> list[int]:
    """A quarter, half, three quarters and all of the layers."""
    return sorted({max(1, round(layers * part / 4)) for part in (1, 2, 3, 4)})


def _chosen(data: Sequence[str], most: int) -> list[Path]:
    """At most so many of the files, spread evenly over them."""
    paths: list[Path] = []
    for name in data:
        if name.endswith(".jsonl"):
            paths += [item.path for item in Manifest.load(name).items]
        else:
            paths += [item.file for item in batch.find(name)]
    return [paths[at * len(paths) // most] for at in range(most)] if len(paths) > most else paths


def _read(path: Path, rate: int) -> np.ndarray:
    """(1, T) at `rate`, of a long file the beginning."""
    info = audio.info(path)
    samples = audio.read(path, frames=min(info.frames, int(LONGEST * info.rate)), rate=rate, channels=1).samples
    if samples.shape[1] < 2048:
        raise InputError(f"{path}: {samples.shape[1]} samples at {rate} Hz are too few to measure anything on")
    return samples


def _measure(one: Bitrate, estimate: np.ndarray, recording: np.ndarray, rate: int, distance: MelLoss) -> None:
    """Add the measures of one file; audio is (1, T)."""
    x, y = torch.from_numpy(estimate), torch.from_numpy(recording)
    values = {"mel": distance(x[None], y[None]), "stft": metrics.log_spectral_distance(x, y)}
    silent, seconds = not recording.any(), recording.shape[1] / rate
    missing = torch.tensor(math.nan)  # silence has spectra, but no ratios
    values["si_sdr"], values["snr"] = (missing, missing) if silent else (metrics.si_sdr(x, y), metrics.snr(x, y))
    if importlib.util.find_spec("pesq") and seconds >= 0.25:
        known = 8000 if rate == 8000 else 16000
        both = [torch.from_numpy(audio.resample(samples, rate, known)) for samples in (estimate, recording)]
        values["pesq"] = metrics.pesq(*both, known)
    if importlib.util.find_spec("pystoi") and seconds >= 1 and not silent:
        values["stoi"] = metrics.stoi(x, y, rate)
    for name, value in values.items():
        one.values.setdefault(name, []).append(float(value.mean()))


def _opus(samples: np.ndarray, rate: int, kbps: float) -> tuple[np.ndarray, float]:
    """The reconstruction of (1, T) by Opus, and its real bitrate in kbit/s."""
    allowed = next((known for known in (8000, 12000, 16000, 24000, 48000) if known >= rate), 48000)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sound.opus"
        audio.write(path, np.clip(audio.resample(samples, rate, allowed), -1, 1), allowed, bitrate=kbps)
        size = ogg_payload(path.read_bytes())
        back = audio.read(path, rate=rate).samples[:, : samples.shape[1]]
    estimate = np.pad(back, ((0, 0), (0, samples.shape[1] - back.shape[1])))
    return np.clip(estimate, -1, 1), size * 8 / (samples.shape[1] / rate) / 1000


def ogg_payload(data: bytes) -> int:
    """Bytes of audio in an Ogg file: all that its pages hold, but for the two with header and tags, a kilobyte."""
    sizes, at = [], 0
    while at < len(data):
        lengths = data[at + 27 : at + 27 + data[at + 26]]
        sizes.append(sum(lengths))
        at += 27 + len(lengths) + sizes[-1]
    return sum(sizes[2:])
