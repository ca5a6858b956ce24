"""Sound classification: the classes of a clip, and a timeline of events of a longer recording, in flat memory.

Arrays, files and pipes take one way: up to ten seconds a recording is one clip and is classified in ten crops, as in
the evaluation; beyond, windows of the model's length slide over it by half of that.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from audio_core import audio
from audio_core.chunk import pieces
from audio_core.files import InputError
from numpy.typing import ArrayLike
from torch import Tensor, nn
from tqdm import tqdm

from .crops import crops as cut
from .crops import trimmed
from .events import Event, Window, joined
from .model import clip_probabilities

CLIP_SECONDS = 10.0
SILENCE = 10 ** (-70 / 20)
"""A window whose peak is below -70 dB is silent: no class is named for it."""
PIPE = "-"
"""The name of standard input."""


class Recording(NamedTuple):
    """Audio as it comes: blocks (C, any) at `rate`."""

    blocks: Iterator[np.ndarray]
    rate: int


@dataclass(frozen=True)
class Prediction:
    """The classes of a recording."""

    seconds: float
    top: list[tuple[str, float]]
    """(label, probability), the likeliest first; none where the recording is silent."""
    events: list[Event] | None = None
    """The timeline of a recording that is longer than a clip; None for a clip."""

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        top = [{"label": label, "score": round(score, 4)} for label, score in self.top]
        timeline = {} if self.events is None else {"events": [event._asdict() for event in self.events]}
        return {"seconds": round(self.seconds, 3), "top": top, **timeline}

    def rows(self) -> list[Event]:
        """The timeline; of a clip its likeliest class, from its start to its end."""
        if self.events is not None:
            return self.events
        return [Event(0.0, round(self.seconds, 3), label, round(score, 4)) for label, score in self.top[:1]]


# --- the verb ----------------------------------------------------------------------------------------------


def classify(model: nn.Module, samples: ArrayLike | Tensor, rate: int, top: int = 3) -> list[tuple[str, float]]:
    """The `top` classes of a recording (T,) or (C, T) of any length, the likeliest first; none where it is silent."""
    return predict(model, samples, rate, top).top


def predict(
    model: nn.Module, samples: ArrayLike | Tensor, rate: int, top: int = 3, threshold: float = 0.5
) -> Prediction:
    """The classes of a recording (T,) or (C, T) of floats at `rate` and, if it is longer than a clip, its events.

    An event is a class whose windows have a probability of at least `threshold`.
    """
    return _predict(model, Recording(iter([audio.samples(samples, "samples")]), rate), top, threshold)


def predict_file(model: nn.Module, path: str | Path, top: int = 3, threshold: float = 0.5) -> Prediction:
    """As `predict`, for a file of any length, or for a WAV file on standard input, whose name is `-`."""
    return _predict(model, recording(path), top, threshold)


def stream(model: nn.Module, path: str | Path, threshold: float = 0.5) -> Iterator[Event]:
    """The events of a file, or of standard input (`-`), each as soon as it is over."""
    return joined(model.config.labels, windows(model, recording(path), 1 if path == PIPE else 16), threshold)


def recording(path: str | Path) -> Recording:
    """A file, or the WAV file on standard input, block by block."""
    if path == PIPE:
        rate, _, blocks = audio.piped(sys.stdin.buffer)
        return Recording(blocks, rate)
    return Recording(audio.blocks(path), audio.info(path).rate)


def check(top: int, threshold: float) -> None:
    if top < 1:
        raise InputError(f"top: expected at least 1, got {top}")
    if not 0 < threshold <= 1:
        raise InputError(f"threshold: expected above 0 and at most 1, got {threshold}")


def _predict(model: nn.Module, source: Recording, top: int, threshold: float) -> Prediction:
    check(top, threshold)
    start: list[np.ndarray] = []
    frames = 0

    def counted() -> Iterator[np.ndarray]:
        nonlocal frames
        for block in source.blocks:
            frames += block.shape[1]
            yield block

    blocks = counted()
    for block in blocks:
        start.append(block)
        if frames > CLIP_SECONDS * source.rate:
            break
    else:
        clip = start[0] if len(start) == 1 else np.concatenate(start, 1)
        return Prediction(frames / source.rate, _best(model, _clip(model, clip, source.rate), top))
    total, count = np.zeros(len(model.config.labels)), 0

    def summed() -> Iterator[Window]:
        nonlocal total, count
        for window in windows(model, Recording(chain(start, blocks), source.rate)):
            if window.probabilities is not None:
                total, count = total + window.probabilities, count + 1
            yield window

    events = list(joined(model.config.labels, summed(), threshold))
    mean = total / count if count else None
    return Prediction(frames / source.rate, _best(model, mean, top), events)


def _best(model: nn.Module, probabilities: np.ndarray | None, top: int) -> list[tuple[str, float]]:
    """The `top` labels of probabilities (K,); none of silence."""
    if probabilities is None:
        return []
    order = np.argsort(-probabilities, kind="stable")[:top]
    return [(model.config.labels[number], float(probabilities[number])) for number in order]


# --- clips -------------------------------------------------------------------------------------------------


def _clip(model: nn.Module, samples: np.ndarray, rate: int) -> np.ndarray | None:
    """Probabilities (K,) of a clip (C, T), None where it is silent."""
    mono = audio.resample(audio.convert_channels(samples, 1), rate, model.config.rate)
    clip = audio.to_int16(mono[0])
    return probabilities(model, [trimmed(clip, "clip")])[0] if clip.any() else None


@torch.no_grad()
def probabilities(
    model: nn.Module, clips: Sequence[np.ndarray], crops: int = 10, gain_db: float = 0.0, batch: int = 8
) -> np.ndarray:
    """(N, K) of int16 clips at the model's rate, means over `crops` crops, after `gain_db`.

    Only the crops of `batch` clips are in memory at a time.
    """
    training, device = model.training, next(model.parameters(), torch.empty(0)).device
    model.eval()
    gain = model.config.gain * 10 ** (gain_db / 20)
    results = []
    quiet = len(clips) <= batch or not sys.stderr.isatty()
    for at in tqdm(range(0, len(clips), batch), "testing", unit="batch", leave=False, disable=quiet):
        audio_in = np.stack([cut(clip, model.config.samples, crops) for clip in clips[at : at + batch]])
        results.append(clip_probabilities(model, torch.from_numpy(audio_in).to(device) * gain).cpu())
    model.train(training)
    return torch.cat(results).numpy()


# --- windows -----------------------------------------------------------------------------------------------


def windows(model: nn.Module, source: Recording, batch: int = 16) -> Iterator[Window]:
    """Crops of the model's length, every half of it, over a recording of any length; the last is padded with zeros.

    `batch` crops go through the model together.
    """
    rate, length = model.config.rate, model.config.samples
    mono = (audio.convert_channels(block, 1) for block in source.blocks)
    if source.rate != rate:
        mono = audio.resampled(mono, source.rate, rate, 1)
    group: list[tuple[int, Tensor]] = []
    for start, samples, last in pieces((torch.from_numpy(block[0]) for block in mono), length, length // 2):
        group.append((start, samples))
        if last or len(group) == batch:
            yield from _classified(model, group)
            group = []


@torch.inference_mode()
def _classified(model: nn.Module, group: Sequence[tuple[int, Tensor]]) -> list[Window]:
    rate, length = model.config.rate, model.config.samples
    loud = [bool(samples.abs().max() > SILENCE) for _, samples in group]
    scores: Iterator[np.ndarray] = iter(())
    if any(loud):
        padded = [nn.functional.pad(samples, (0, length - len(samples))) for _, samples in group]
        crops = torch.stack([crop for crop, keep in zip(padded, loud, strict=True) if keep])[:, None]  # (B, 1, T)
        device = next(model.parameters()).device
        scores = iter(model.probabilities(crops.to(device) * model.config.gain).cpu().numpy())
    return [
        Window(start / rate, (start + len(samples)) / rate, next(scores) if keep else None)
        for (start, samples), keep in zip(group, loud, strict=True)
    ]
