"""Sounds that show how large the values inside an encoder become: what its integer form is scaled by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from audio_core import audio, batch
from torch import Tensor

from ..config import CodecConfig

COUNT = 24
"""Sounds, or pieces of recordings."""
_SECONDS = 1.0


def sounds(config: CodecConfig) -> list[Tensor]:
    """Audio (1, 1, T) made here, the same every time: noises, voices, clicks, from full level down to -40 dB.

    They stand for recordings where there are none: what decides is that all kinds of spectra and envelopes occur, and
    the loudest that a microphone can deliver.
    """
    rng = np.random.default_rng(0)
    kinds = (_noise, _voice, _clicks)
    time = np.arange(int(_SECONDS * config.rate)) / config.rate
    found = []
    for number in range(COUNT):
        sound = kinds[number % len(kinds)](rng, time)
        loudest = 10 ** (-40 * (number // len(kinds)) / (COUNT // len(kinds)) / 20)
        found.append(_tensor(sound * (loudest / np.abs(sound).max())))
    return found


def recordings(config: CodecConfig, inputs: Sequence[str]) -> list[Tensor]:
    """Pieces (1, 1, T) of audio files, folders or patterns: as many of each file, spread over it."""
    files = [found.file for found in batch.find(inputs)]
    files = [files[at] for at in np.unique(np.linspace(0, len(files) - 1, COUNT).astype(int))]
    each = -(-COUNT // len(files))
    found = []
    for file in files:
        header = audio.info(file)
        length, piece = header.frames, min(header.frames, int(_SECONDS * header.rate))
        for start in np.unique(np.linspace(0, length - piece, each).astype(int)):
            samples, _ = audio.read(file, int(start), piece, config.rate, 1)
            found.append(_tensor(samples[0]))
    return found


def _tensor(samples: np.ndarray) -> Tensor:
    return torch.from_numpy(samples.astype(np.float32))[None, None]


def _noise(rng: np.random.Generator, time: np.ndarray) -> np.ndarray:
    """From white to a fall of 12 dB an octave."""
    spectrum = np.fft.rfft(rng.standard_normal(len(time)))
    return np.fft.irfft(spectrum * np.arange(1, len(spectrum) + 1) ** -rng.uniform(0, 2), len(time))


def _voice(rng: np.random.Generator, time: np.ndarray) -> np.ndarray:
    """Harmonics of a pitch that glides, in syllables."""
    pitch, glide, fall = rng.uniform(80, 800), rng.uniform(-0.3, 0.3), rng.uniform(0.3, 1.5)
    phase = 2 * np.pi * pitch * (time + glide * time**2 / 2)
    heard = [harmonic for harmonic in range(1, 40) if 1.3 * harmonic * pitch < 0.5 / time[1]]
    tone = sum(np.sin(harmonic * phase) / harmonic**fall for harmonic in heard)
    return tone * np.sin(np.pi * rng.uniform(2, 6) * time) ** 2


def _clicks(rng: np.random.Generator, time: np.ndarray) -> np.ndarray:
    """Two to thirty a second, each a noise that dies away within 0.3 to 30 ms."""
    age = time % rng.uniform(0.03, 0.5)
    return rng.standard_normal(len(time)) * np.exp(-age / 10 ** rng.uniform(-3.5, -1.5))
