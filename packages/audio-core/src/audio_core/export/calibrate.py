"""Sounds for calibration, which measures the range of values inside a model to set the scales of its integers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .. import batch


def select(inputs: Sequence[str], count: int) -> tuple[list[Path], int]:
    """At most `count` audio files from `inputs` (files, folders or patterns), spread evenly, and the crops for each.

    The crops of all files together are `count` or a few more.
    """
    files = [item.file for item in batch.find(inputs)]
    files = [files[at] for at in np.unique(np.linspace(0, len(files) - 1, count).astype(int))]
    return files, -(-count // len(files))


def coloured_noise(rng: np.random.Generator, samples: int, steepest: float) -> np.ndarray:
    """Noise (T,) whose magnitudes fall with frequency**-s, s from 0, which is white, to `steepest`."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    return np.fft.irfft(spectrum * np.arange(1, len(spectrum) + 1) ** -rng.uniform(0, steepest), samples)
