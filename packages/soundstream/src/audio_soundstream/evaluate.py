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

from . import layout
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
            "nominal_kbps": self.rungs[-1].kbps,
            "entropy_kbps": round(sum(self.entropy) * self.model.sample_rate / self.model.hop / 1000, 4),
        }


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
    counts = [layout.layers_for(model.config, rate) for rate in kbps] if kbps else _few(model.config.layers)
    counts = sorted(set(counts))
    rates = layout.bitrates(model.config)
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
        wanted = torch.from_numpy(samples)[None]
        found = model.codes(wanted.to(next(model.parameters()).device))
        codes.append(found[0].cpu())
        sounds = [("as recorded", samples, model.sample_rate)]
        for rung, count in zip(rungs, counts, strict=True):
            made = model.decode(model.from_codes(found[:, :count]))[..., : wanted.shape[-1]].cpu()
            _measure(rung, made, wanted, model.sample_rate, distance)
            sounds.append((rung.name, made[0].clamp(-1, 1).numpy(), model.sample_rate))
        for rung in opus:
            made, rate = _opus(samples, model.sample_rate, rung.kbps)
            rung.values.setdefault("kbps", []).append(rate)
            _measure(rung, torch.from_numpy(made)[None], wanted, model.sample_rate, distance)
            sounds.append((rung.name, np.clip(made, -1, 1), model.sample_rate))
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


def _measure(rung: Rung, made: Tensor, wanted: Tensor, rate: int, distance: MelLoss) -> None:
    """Of audio (1, 1, T)."""
    found = {
        "si_sdr": metrics.si_sdr(made, wanted),
        "snr": metrics.snr(made, wanted),
        "mel": distance(made, wanted),
        "stft": metrics.log_spectral_distance(made, wanted),
    }
    if not wanted.any():  # silence has spectra, but no ratios
        found |= {"si_sdr": torch.tensor(math.nan), "snr": torch.tensor(math.nan)}
    if rate in (8000, 16000) and importlib.util.find_spec("pesq") and wanted.shape[-1] >= rate // 4:
        found["pesq"] = metrics.pesq(made, wanted, rate)
    if importlib.util.find_spec("pystoi") and wanted.shape[-1] >= rate and wanted.any():
        found["stoi"] = metrics.stoi(made, wanted, rate)
    for name, value in found.items():
        rung.values.setdefault(name, []).append(float(value.mean()))


def _opus(samples: np.ndarray, rate: int, kbps: float) -> tuple[np.ndarray, float]:
    """What Opus makes of (1, T), and at how many kbit/s really, its container included."""
    allowed = next((known for known in (8000, 12000, 16000, 24000, 48000) if known >= rate), 48000)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sound.opus"
        audio.write(path, np.clip(audio.resample(samples, rate, allowed), -1, 1), allowed, bitrate=kbps)
        size = path.stat().st_size
        back = audio.read(path, rate=rate).samples[:, : samples.shape[1]]
    made = np.pad(back, ((0, 0), (0, samples.shape[1] - back.shape[1])))
    return made, size * 8 / (samples.shape[1] / rate) / 1000


def table(result: Result) -> str:
    measures = [measure for measure in MEASURES if measure in result.rungs[0].values]
    rows: list[tuple] = [("", "kbit/s", *(MEASURES[measure] for measure in measures))]
    for rung in [*result.rungs, *result.opus]:
        name = "Opus" if rung in result.opus else type(result.model).__name__
        rows.append((name, round(rung.kbps, 3), *(round(rung.mean(measure), 3) for measure in measures)))
    bits = sum(result.entropy)
    whole = result.model.config.layers * layout.bits(result.model.config)
    used = 100 * sum(result.used) / len(result.used)
    return (
        f"{columns(rows)}\n\n{result.files} files; codes hold {bits:.1f} of {whole} bits a frame; "
        f"{used:.0f} % of the entries occur in {result.frames} frames"
    )


def report(result: Result, path: str | Path, name: str) -> None:
    page = Report(f"{type(result.model).__name__} {name}: {result.files} files")
    measures = [measure for measure in MEASURES if measure in result.rungs[0].values]
    page.heading("Quality by bitrate")
    page.text(
        "Means over the files, at the codec's rate. Opus's bitrate is what its files take, container included; "
        "a codec that is trained to sound right may have a low SI-SDR and yet sound well."
    )
    header = ["", "kbit/s", *(MEASURES[measure] for measure in measures)]
    everything = [*result.rungs, *result.opus]
    page.table(header, [[r.name, r.kbps, *(r.mean(measure) for measure in measures)] for r in everything])
    for measure in ("si_sdr", "mel", "pesq"):
        if measure in measures:
            lines = {
                type(result.model).__name__: ([r.kbps for r in result.rungs], [r.mean(measure) for r in result.rungs]),
                "Opus": ([r.kbps for r in result.opus], [r.mean(measure) for r in result.opus]),
            }
            page.curve(MEASURES[measure], lines, unit="kbit/s")
    page.heading("Codebooks")
    bits = layout.bits(result.model.config)
    page.text(
        f"Of {bits} bits a layer could carry; {sum(result.entropy):.1f} of {bits * len(result.entropy)} in a frame. "
        f"The rest is what entropy coding saves."
    )
    page.bars("Entropy by layer, bits", {f"layer {at}": value for at, value in enumerate(result.entropy, 1)})
    page.bars("Entries that occur, %", {f"layer {at}": 100 * value for at, value in enumerate(result.used, 1)})
    if result.heard:
        page.heading("To hear")
        for sounds in result.heard:
            page.row(sounds)
    page.save(path)
