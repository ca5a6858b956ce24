"""Crops for calibration, which measures how large the values inside a model become to scale its integers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from audio_core.export.calibrate import coloured_noise, select
from torch import Tensor

from ..config import ACDNetConfig
from ..crops import crops as cut
from ..data.clips import read_clip

COUNT = 128
_TOGETHER = 16


def sounds(config: ACDNetConfig) -> list[Tensor]:
    """Batches of synthetic crops (B, 1, T), the same every time: noises, harmonic glides, clicks and bursts.

    They stand for recordings where there are none. Their spectra, envelopes and levels, down to -30 dB and some behind
    silence, are of as many kinds as a model meets.
    """
    rng = np.random.default_rng(0)
    kinds = (_noise, _glide, _clicks, _burst)
    crops = []
    for number in range(COUNT):
        sound = kinds[number % len(kinds)](rng, config.samples, config.rate)
        sound *= 10 ** (rng.uniform(-30, 0) / 20) / np.abs(sound).max()
        if number % 3 == 0:
            sound[: int(rng.uniform(0, 0.5) * config.samples)] = 0
        crops.append(sound.astype(np.float32))
    return _batches(crops, config)


def recordings(config: ACDNetConfig, inputs: Sequence[str]) -> list[Tensor]:
    """Batches of crops of audio files, folders or patterns: as many of each file, spread over it."""
    files, each = select(inputs, COUNT)
    crops = [crop for file in files for crop in cut(read_clip(file, config.rate), config.samples, each)]
    return _batches(crops, config)


def _batches(crops: list[np.ndarray], config: ACDNetConfig) -> list[Tensor]:
    stacked = torch.from_numpy(np.stack(crops))[:, None] * config.gain
    return list(stacked.split(_TOGETHER))


def _noise(rng: np.random.Generator, samples: int, rate: int) -> np.ndarray:
    """From white to a fall of 9 dB an octave, its level swaying up to thirty times a second."""
    coloured = coloured_noise(rng, samples, 1.5)
    sway = np.sin(2 * np.pi * rng.uniform(1, 30) * np.arange(samples) / rate)
    return coloured * (1 + rng.uniform(0, 1) * sway)


def _glide(rng: np.random.Generator, samples: int, rate: int) -> np.ndarray:
    """Up to seven harmonics, at a pitch that moves by up to half of itself in a second."""
    time = np.arange(samples) / rate
    pitch, turn, fall = rng.uniform(80, 1500), rng.uniform(-0.5, 0.5), rng.uniform(0.3, 1.5)
    phase = 2 * np.pi * pitch * (time + turn * time**2 / 2)
    harmonics = [h for h in range(1, 8) if h == 1 or h * pitch * (1 + abs(turn) * time[-1]) < rate / 2]
    return sum(np.sin(h * phase) / h**fall for h in harmonics)


def _clicks(rng: np.random.Generator, samples: int, rate: int) -> np.ndarray:
    """Two to fifty a second, each a short noise that dies away."""
    at = np.zeros(samples)
    at[:: max(1, int(rng.uniform(0.02, 0.6) * rate))] = 1
    length = min(samples, rate // 50)
    click = np.exp(-np.arange(length) / (rng.uniform(0.0003, 0.004) * rate)) * rng.standard_normal(length)
    return np.convolve(at, click)[:samples]


def _burst(rng: np.random.Generator, samples: int, rate: int) -> np.ndarray:
    """White noise that swells and fades once, within 20 to 300 ms."""
    time = np.arange(samples) / rate
    return rng.standard_normal(samples) * np.exp(-(((time - rng.uniform(0, time[-1])) / rng.uniform(0.02, 0.3)) ** 2))
