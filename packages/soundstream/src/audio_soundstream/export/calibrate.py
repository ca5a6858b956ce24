"""Sounds for calibration, which measures how large the values inside an encoder become to scale its integers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from audio_core import audio
from audio_core.export.calibrate import coloured_noise, select
from torch import Tensor

from ..config import CodecConfig

COUNT = 24
"""Sounds, or pieces of recordings."""
_SECONDS = 1.0


def sounds(config: CodecConfig) -> list[Tensor]:
    """Synthetic audio (1, 1, T), the same every time: noises, voices, clicks, from full level down to -40 dB.

    It stands for recordings where there are none. Its spectra and envelopes are of as many kinds as a codec meets, up
    to the loudest that a microphone can deliver.
    """
    rng = np.random.default_rng(0)
    kinds = (_noise, _voice, _clicks)
    time = np.arange(int(_SECONDS * config.rate)) / config.rate
    synthetic = []
    for number in range(COUNT):
        sound = kinds[number % len(kinds)](rng, time)
        loudest = 10 ** (-40 * (number // len(kinds)) / (COUNT // len(kinds)) / 20)
        synthetic.append(_tensor(sound * (loudest / np.abs(sound).max())))
    return synthetic


def recordings(config: CodecConfig, inputs: Sequence[str]) -> list[Tensor]:
    """Pieces (1, 1, T) of audio files, folders or patterns: as many of each file, spread over it."""
    files, each = select(inputs, COUNT)
    pieces = []
    for file in files:
        header = audio.info(file)
        length, piece = header.frames, min(header.frames, int(_SECONDS * header.rate))
        for start in np.unique(np.linspace(0, length - piece, each).astype(int)):
            samples, _ = audio.read(file, int(start), piece, config.rate, 1)
            pieces.append(_tensor(samples[0]))
    return pieces


def _tensor(samples: np.ndarray) -> Tensor:
    return torch.from_numpy(samples.astype(np.float32))[None, None]


def _noise(rng: np.random.Generator, time: np.ndarray) -> np.ndarray:
    """From white to a fall of 12 dB an octave."""
    return coloured_noise(rng, len(time), 2)


def _voice(rng: np.random.Generator, time: np.ndarray) -> np.ndarray:
    """Harmonics of a pitch that glides, in syllables."""
    pitch, glide, fall = rng.uniform(80, 800), rng.uniform(-0.3, 0.3), rng.uniform(0.3, 1.5)
    phase = 2 * np.pi * pitch * (time + glide * time**2 / 2)
    harmonics = [harmonic for harmonic in range(1, 40) if 1.3 * harmonic * pitch < 0.5 / time[1]]
    tone = sum(np.sin(harmonic * phase) / harmonic**fall for harmonic in harmonics)
    return tone * np.sin(np.pi * rng.uniform(2, 6) * time) ** 2


def _clicks(rng: np.random.Generator, time: np.ndarray) -> np.ndarray:
    """Two to thirty a second, each a noise that dies away within 0.3 to 30 ms."""
    age = time % rng.uniform(0.03, 0.5)
    return rng.standard_normal(len(time)) * np.exp(-age / 10 ** rng.uniform(-3.5, -1.5))
