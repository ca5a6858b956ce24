"""What an autoencoder keeps of recordings, and what its latents are like; and a page with players."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from audio_core import audio, batch, metrics
from audio_core import latents as stored
from audio_core.codec import bitrates
from audio_core.command import columns
from audio_core.data.manifest import Manifest
from audio_core.files import InputError, note
from audio_core.loss.spectral import MelLoss
from audio_core.nn.quantize import usage
from audio_core.report import Report
from torch import Tensor, nn
from tqdm import tqdm

from .loss import PhaseLoss, divergence
from .measures import coherence_difference
from .models.autoencoder import Autoencoder
from .recipe import Spectral
from .spectral import SpectralLoss

LONGEST = 30.0  # seconds of a file that are measured
SHORTEST = 2048  # samples: the longest window
KL_SECONDS = 5.0  # of each file, for the rate of the latents
BARS = 128  # as many as one can look at
Sound = tuple[str, np.ndarray, int]
MEASURES = {
    "si_sdr": "SI-SDR, dB",
    "si_sdr_left": "left, dB",
    "si_sdr_right": "right, dB",
    "si_sdr_mid": "mid, dB",
    "si_sdr_side": "side, dB",
    "coherence": "coherence difference",
    "stft": "STFT distance",
    "mel": "mel distance",
    "phase": "phase distance",
    "pesq": "PESQ",
}


@dataclass
class LatentStatistics:
    """Over all frames of all files."""

    frames: int
    mean: float
    deviation: float
    deviations: list[float]
    """Of each channel."""
    kl_rate: float | None
    """Bits a second that a Gaussian's latents can hold at most; None of other latents."""
    entropy: list[float] = field(default_factory=list)
    """Bits, of the codes of each codebook."""
    used: list[float] = field(default_factory=list)
    """The share of the entries that occur, of each codebook."""


@dataclass
class Result:
    model: Autoencoder
    names: list[str]
    values: dict[str, list[float]]
    """By measure, for each file; NaN where a measure is not defined."""
    latents: LatentStatistics
    unreadable: int
    sounds: list[list[Sound]]
    """Of the first files: recording and reconstruction."""

    def mean(self, measure: str) -> float:
        """Over the files that have this measure."""
        finite = [value for value in self.values[measure] if math.isfinite(value)]
        return sum(finite) / len(finite) if finite else math.nan

    @property
    def frame_rate(self) -> float:
        return self.model.sample_rate / self.model.hop

    @property
    def kbps(self) -> float | None:
        """The bitrate of all codebooks; None where there are none."""
        books = self.model.codebooks
        return bitrates(books, self.model.sample_rate, self.model.hop)[-1] if books else None

    @property
    def entropy_kbps(self) -> float:
        return sum(self.latents.entropy) * self.frame_rate / 1000

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        latents = self.latents
        facts: dict[str, Any] = {
            "files": len(self.names),
            "unreadable": self.unreadable,
            "measures": {measure: _rounded(self.mean(measure)) for measure in self.values},
            "frames": latents.frames,
            "frames_per_second": _rounded(self.frame_rate),
            "latents": {
                "width": self.model.width,
                "mean": _rounded(latents.mean),
                "deviation": _rounded(latents.deviation),
                "deviations": [_rounded(each) for each in latents.deviations],
            },
        }
        if latents.kl_rate is not None:
            facts["latents"]["kl_bits_per_second"] = _rounded(latents.kl_rate)
        if self.kbps is not None:
            facts["kbps"], facts["entropy_kbps"] = _rounded(self.kbps), _rounded(self.entropy_kbps)
            books = zip(latents.entropy, latents.used, strict=True)
            facts["codebooks"] = [{"entropy_bits": _rounded(bits), "used": _rounded(share)} for bits, share in books]
        return facts

    def table(self) -> str:
        """For people."""
        rows: list[tuple] = [(MEASURES[measure], round(self.mean(measure), 3)) for measure in self.values]
        return f"{columns([*rows, *self._facts()])}\n\nmeans over {len(self.names)} files"

    def _facts(self) -> list[tuple[str, float]]:
        latents = self.latents
        rows = [("latents' mean", round(latents.mean, 4)), ("latents' deviation", round(latents.deviation, 4))]
        if latents.kl_rate is not None:
            rows.append(("KL rate, bit/s", round(latents.kl_rate, 1)))
        if self.kbps is not None:
            rows += [("bitrate, kbit/s", self.kbps), ("entropy of the codes, kbit/s", round(self.entropy_kbps, 4))]
        return rows

    def page(self, report: Report, folder: Path) -> None:
        """Numbers, latents and players; nothing else goes into the folder."""
        model, latents = self.model, self.latents
        count = sum(parameter.numel() for parameter in model.parameters())
        seconds = latents.frames / self.frame_rate
        report.text(
            f"{count:,} parameters; {model.channels} channels at {model.sample_rate} Hz, {model.width} latents "
            f"{self.frame_rate:.4g} times a second. Measured on {len(self.names)} files, {seconds:.3g} s."
        )
        report.heading("Quality")
        report.text(
            "Higher is better for SI-SDR (left, right, mid and side too) and PESQ, lower for all others. STFT and mel "
            "distance are those of stable-audio-tools' losses, without weighting; phase is 0.6 for two noises; "
            "coherence tells how far the likeness of left and right is from the recording's, from 0 to 1."
        )
        means = [["mean", *map(self.mean, self.values)]]
        each = [[name, *row] for name, *row in zip(self.names, *self.values.values(), strict=True)]
        report.table(["file", *(MEASURES[measure] for measure in self.values)], means + each)
        report.heading("Latents")
        if latents.kl_rate is not None:
            report.text(
                "The KL rate is the frame rate times the divergence of the latents from a normal distribution, in "
                "bits: what they can tell at most. Compare autoencoders of different KL weights by it and the quality. "
                f"It is measured on the first {KL_SECONDS:g} s of each file."
            )
        report.table(["", "value"], self._facts())
        if model.width <= BARS:
            report.bars("Deviation of each latent", {str(at): each for at, each in enumerate(latents.deviations)})
        if model.codebooks:
            rows = zip(model.codebooks, latents.entropy, latents.used, strict=True)
            lines = [[at, size, entropy, 100 * share] for at, (size, entropy, share) in enumerate(rows, 1)]
            report.table(["codebook", "entries", "entropy, bits", "entries that occur, %"], lines)
        if self.sounds:
            report.heading("To hear")
            for sounds in self.sounds:
                report.row(sounds)


def _rounded(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


@torch.no_grad()
def evaluate(
    model: Autoencoder,
    data: Sequence[str],
    voice: bool = False,
    files: int = 50,
    listen: int = 0,
    quiet: bool = False,
) -> Result:
    """Measure on at most `files` files what comes back of them. Of the first `listen` files the sounds are kept.

    `voice` adds PESQ, which is made for speech. Latents are means, not drawn.
    """
    if files < 1:
        raise InputError(f"--files: expected at least 1, got {files}")
    measure = _Measures(model, voice)
    statistics, names, sounds, unreadable = _Statistics(model), [], [], 0
    values: dict[str, list[float]] = {}
    for path in tqdm(_chosen(data, files), "evaluate", unit="file", disable=quiet or None):
        try:
            samples = _read(path, model)
        except InputError as error:
            note(str(error))
            unreadable += 1
            continue
        encoded = stored.encode(model, samples, model.sample_rate, codes=bool(model.codebooks))
        estimate = np.clip(stored.decode(model, encoded), -1, 1)
        statistics.add(encoded, samples)
        for name, value in measure(torch.from_numpy(estimate), torch.from_numpy(samples)).items():
            values.setdefault(name, []).append(float(value))
        names.append(path.name)
        if len(sounds) < listen:
            rate = model.sample_rate
            sounds.append([(f"{path.name}, as recorded", samples, rate), ("reconstructed", estimate, rate)])
    if not names:
        raise InputError("none of the files could be measured")
    return Result(model, names, values, statistics.result(), unreadable, sounds)


class _Statistics:
    def __init__(self, model: Autoencoder):
        self.model = model
        self.latents: list[Tensor] = []  # (W, F) of each file
        self.codes: list[Tensor] = []  # (K, F)
        self.divergences: list[float] = []

    def add(self, encoded: stored.Latents, samples: np.ndarray) -> None:
        model, device = self.model, next(self.model.parameters()).device
        values = torch.from_numpy(encoded.values)
        if encoded.is_codes:
            self.codes.append(values)
            values = model.from_codes(values[None].to(device))[0].cpu()
        self.latents.append(values)
        whole = min(samples.shape[1], int(KL_SECONDS * model.sample_rate)) // model.hop * model.hop
        if whole:
            beginning = torch.from_numpy(samples[None, :, :whole]).to(device)
            losses = model.bottleneck.encode(model.encoder(model.pretransform.encode(beginning))).losses
            if "kl" in losses:
                self.divergences.append(float(divergence(losses["kl"], model.bottleneck, "sum_over_channels")))

    def result(self) -> LatentStatistics:
        latents, model, rate = torch.cat(self.latents, -1), self.model, None
        if self.divergences:
            # The divergence in this convention is twice that in nats.
            mean = sum(self.divergences) / len(self.divergences)
            rate = model.sample_rate / model.hop * mean / (2 * math.log(2))
        deviations = latents.std(1, correction=0).tolist()
        spread = float(latents.mean()), float(latents.std(correction=0))
        together = torch.cat(self.codes, -1)[None] if self.codes else torch.zeros(1, 0, 0)  # (1, K, F)
        books = [usage(together[:, at : at + 1], size) for at, size in enumerate(model.codebooks)]
        entropy, used = ([float(book[side]) for book in books] for side in (0, 1))
        return LatentStatistics(latents.shape[1], *spread, deviations, rate, entropy, used)


class _Measures:
    """All measures of one file; audio is (C, T)."""

    def __init__(self, model: Autoencoder, voice: bool):
        self.rate, self.voice = model.sample_rate, voice
        self.distances: dict[str, nn.Module] = {
            "stft": SpectralLoss(Spectral(weighting="none", divide_by="target"), model.sample_rate),
            "mel": MelLoss(model.sample_rate),
            "phase": PhaseLoss((2048, 512)),
        }

    def __call__(self, estimate: Tensor, recording: Tensor) -> dict[str, Any]:
        sides = _ratios(estimate, recording)
        values: dict[str, Any] = {"si_sdr": sides.nanmean()}
        if len(recording) == 2:
            values |= zip(("si_sdr_left", "si_sdr_right"), sides, strict=True)
            matrix = torch.tensor([[0.5, 0.5], [0.5, -0.5]])
            values |= zip(("si_sdr_mid", "si_sdr_side"), _ratios(matrix @ estimate, matrix @ recording), strict=True)
            values["coherence"] = coherence_difference(estimate, recording)
        values |= {name: each(estimate[None], recording[None]) for name, each in self.distances.items()}
        if self.voice:
            values["pesq"] = self._pesq(estimate, recording)
        return values

    def _pesq(self, estimate: Tensor, recording: Tensor) -> Tensor | float:
        known = 8000 if self.rate == 8000 else 16000
        both = [audio.resample(each.mean(0, keepdim=True).numpy(), self.rate, known) for each in (estimate, recording)]
        if both[0].shape[1] < known // 4:
            return math.nan
        return metrics.pesq(*map(torch.from_numpy, both), known)[0]


def _ratios(estimate: Tensor, recording: Tensor) -> Tensor:
    """SI-SDR of each channel (C,); silence has none."""
    return metrics.si_sdr(estimate, recording).where(recording.any(-1), torch.tensor(math.nan))


def _chosen(data: Sequence[str], most: int) -> list[Path]:
    """At most so many of the files, spread evenly over them."""
    paths: list[Path] = []
    for name in data:
        known = Manifest.load(name).items if name.endswith(".jsonl") else None
        paths += [item.path for item in known] if known else [item.file for item in batch.find(name)]
    return [paths[at * len(paths) // most] for at in range(most)] if len(paths) > most else paths


def _read(path: Path, model: Autoencoder) -> np.ndarray:
    """(C, T) as the autoencoder takes it, of a long file the beginning."""
    info, rate = audio.info(path), model.sample_rate
    frames = min(info.frames, int(LONGEST * info.rate))
    samples = audio.read(path, frames=frames, rate=rate, channels=model.channels).samples
    if samples.shape[1] < max(SHORTEST, model.hop):
        raise InputError(f"{path}: {samples.shape[1]} samples at {rate} Hz are too few to measure anything on")
    return samples
