"""Audio files -> training samples and clips to evaluate on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from audio_core.audio import Samples
from audio_core.data.augment import Chain, Gain
from audio_core.data.combine import Mixture
from audio_core.data.headers import scan_cached
from audio_core.data.manifest import File, Manifest
from audio_core.data.seeds import mix
from audio_core.data.segments import Augment, Fixed, Segments
from audio_core.files import InputError, note
from torch import Tensor

from .recipe import Data


class Peak:
    """Normalises to `peak`, with a gain of at most 40 dB, so that near silence stays soft."""

    def __init__(self, peak: float):
        self.peak = np.float32(peak)

    def __call__(self, samples: Samples, rng: np.random.Generator) -> Samples:
        loudest = np.abs(samples).max(initial=0)
        return samples * min(self.peak / loudest, np.float32(100)) if loudest > 1e-9 else samples


def corpora(data: Data, cache: Path, quiet: bool = False) -> list[tuple[list[File], list[File]]]:
    """Of each root the files to train on and the files held out; `cache` remembers the headers of folders."""
    return [divided(files(root, cache, quiet), data.held_out) for root in (data.root, *data.more)]


def files(root: Path, cache: Path, quiet: bool = False) -> list[File]:
    """The readable audio files of a folder or of a manifest; of a folder, those that cannot be read are named."""
    if root.suffix == ".jsonl":
        return Manifest.load(root).items
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; data.root is a folder with audio, or a .jsonl that `scan` wrote")
    items, unreadable = scan_cached(root, cache, progress=not quiet)
    for name, cause in [] if quiet else unreadable:
        note(f"left out: {name}: {cause}")
    if not items:
        raise InputError(f"{root}: holds no audio that can be read")
    return items


def divided(items: list[File], held_out: int) -> tuple[list[File], list[File]]:
    """The files to train on; and every `held_out`-th by path, from the first on, which is held out."""
    items = sorted(items, key=lambda file: file.path.as_posix())
    if not held_out:
        return items, []
    rest = [file for at, file in enumerate(items) if at % held_out]
    if not rest:
        raise InputError(f"{items[0].name}: is the only file, and is held out; data.held_out=0 trains on it")
    return rest, items[::held_out]


def samples(data: Data, trained: list[list[File]], rate: int, seed: int) -> Mixture:
    steps: list[Augment] = [Peak(data.peak)] if data.peak else []
    if data.gain_db != (0.0, 0.0):
        steps.append(Gain(*data.gain_db))
    augment = Chain(*steps) if steps else None
    return Mixture(
        [
            Segments(items, seconds=data.seconds, rate=rate, channels=1, seed=mix(seed, at), augment=augment)
            for at, items in enumerate(trained)
        ]
    )


class Held(Fixed):
    """One clip (1, T) from the middle of each file held out, as loud as in training."""

    def __init__(self, data: Data, items: list[File], rate: int):
        super().__init__(items, seconds=data.seconds, rate=rate, channels=1, take="centre")
        self.peak = Peak(data.peak) if data.peak else None

    def __getitem__(self, index: int) -> Tensor:
        clip = super().__getitem__(index)
        return clip if self.peak is None else torch.from_numpy(self.peak(clip.numpy(), np.random.default_rng(0)))
