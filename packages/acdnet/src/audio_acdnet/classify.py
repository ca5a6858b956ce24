"""What is heard in a recording: the classes of a short clip, a timeline of events of a long one, in flat memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from audio_core import audio
from audio_core.files import InputError
from torch import nn

from .data.clips import trimmed
from .evaluate import probabilities

CLIP_SECONDS = 10.0
"""Up to here a recording is one clip, heard in ten crops as in the evaluation; beyond, windows slide over it."""
SILENCE = 10 ** (-70 / 20)  # a window whose peak is below -70 dB holds nothing to be heard


class Window(NamedTuple):
    """One crop of a recording, in seconds; `probabilities` (K,) is None where it is silent."""

    start: float
    end: float
    probabilities: np.ndarray | None


class Event(NamedTuple):
    """A class heard from `start` to `end`, in seconds, with the mean of its probabilities."""

    start: float
    end: float
    label: str
    score: float


def classify(model: nn.Module, samples: np.ndarray, rate: int, top: int = 3) -> list[tuple[str, float]]:
    """The `top` classes of a clip (T,) or (C, T), the likeliest first; none where it is silent."""
    mono = audio.convert_channels(np.atleast_2d(np.asarray(samples, np.float32)), 1)
    clip = audio.to_int16(audio.resample(mono, rate, model.config.rate)[0])
    if not clip.any():
        return []
    return best(model, probabilities(model, [trimmed(clip, "clip")])[0], top)


def best(model: nn.Module, scores: np.ndarray, top: int) -> list[tuple[str, float]]:
    """The `top` labels by probability."""
    order = np.argsort(-scores, kind="stable")[:top]
    return [(model.config.labels[number], float(scores[number])) for number in order]


def windows(model: nn.Module, path: str | Path, batch: int = 16) -> Iterator[Window]:
    """Crops of the model's length, every half of it, over a file of any length; the end is padded with zeros."""
    rate, length = model.config.rate, model.config.samples
    hop = length // 2
    total = -(-audio.info(path).frames * rate // audio.info(path).rate)
    held, begin, group = np.zeros(0, np.float32), 0, []
    for block in audio.blocks(path, frames=hop, rate=rate, channels=1):
        held = np.concatenate([held, block[0]])
        while held.size >= length:
            group.append((begin, held[:length]))
            held, begin = held[hop:], begin + hop
        if len(group) >= batch:
            yield from _heard(model, group, total)
            group = []
    if begin == 0 or held.size > length - hop:  # what no window holds yet
        group.append((begin, np.pad(held, (0, length - held.size))))
    yield from _heard(model, group, total)


@torch.inference_mode()
def _heard(model: nn.Module, group: list[tuple[int, np.ndarray]], total: int) -> Iterator[Window]:
    rate, length = model.config.rate, model.config.samples
    loud = [np.abs(crop).max() > SILENCE for _, crop in group]
    scores: Iterator[np.ndarray] = iter(())
    if any(loud):
        crops = np.stack([crop for (_, crop), keep in zip(group, loud, strict=True) if keep])
        device = next(model.parameters()).device
        audio_in = torch.from_numpy(crops)[:, None].to(device) * model.config.gain
        scores = iter(model.probabilities(audio_in).cpu().numpy())
    for (begin, _), keep in zip(group, loud, strict=True):
        end = min(begin + length, total) / rate
        yield Window(begin / rate, end, next(scores) if keep else None)


def events(model: nn.Module, heard: Iterable[Window], threshold: float = 0.5) -> Iterator[Event]:
    """Windows that meet, with one likeliest class of at least `threshold`, joined; each as soon as it is over."""
    current: tuple[float, float, int, list[float]] | None = None
    for start, end, scores in heard:
        label = int(scores.argmax()) if scores is not None and scores.max() >= threshold else None
        if current and (start > current[1] or label not in (None, current[2])):
            yield _event(model, *current)
            current = None
        if label is not None and scores is not None:
            values = [*(current[3] if current else []), float(scores[label])]
            current = (current[0] if current else start, end, label, values)
    if current:
        yield _event(model, *current)


def _event(model: nn.Module, start: float, end: float, label: int, scores: list[float]) -> Event:
    return Event(round(start, 3), round(end, 3), model.config.labels[label], round(sum(scores) / len(scores), 4))


def check(top: int, threshold: float) -> None:
    if top < 1:
        raise InputError(f"top: expected at least 1, got {top}")
    if not 0 < threshold <= 1:
        raise InputError(f"threshold: expected above 0 and at most 1, got {threshold}")


def classify_file(model: nn.Module, path: str | Path, top: int = 3, threshold: float = 0.5) -> dict[str, Any]:
    """The classes of a file and, when it is longer than a clip, its events; plain values for JSON."""
    check(top, threshold)
    seconds = audio.info(path).seconds
    if seconds <= CLIP_SECONDS:
        samples, rate = audio.read(path)
        found = classify(model, samples, rate, top)
        return {"file": str(path), "seconds": round(seconds, 3), "top": _plain(found)}
    total, count = np.zeros(len(model.config.labels)), 0

    def counted() -> Iterator[Window]:
        nonlocal total, count
        for window in windows(model, path):
            if window.probabilities is not None:
                total, count = total + window.probabilities, count + 1
            yield window

    timeline = [event._asdict() for event in events(model, counted(), threshold)]
    found = best(model, total / count, top) if count else []
    return {"file": str(path), "seconds": round(seconds, 3), "top": _plain(found), "events": timeline}


def _plain(found: list[tuple[str, float]]) -> list[dict[str, Any]]:
    return [{"label": label, "score": round(score, 4)} for label, score in found]
