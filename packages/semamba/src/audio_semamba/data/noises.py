"""Noises made in code: each is a function (samples, rate, generator) -> (samples,) of an RMS about 1.

They stand in for recordings of noise, or beside them, so that a model meets more kinds of noise than files are there.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Generator = np.random.Generator
Voice = Callable[[Generator], np.ndarray]  # a random piece (samples,) of clean speech


def noise(kind: str, samples: int, rate: int, rng: Generator, voice: Voice) -> np.ndarray:
    """(1, samples) of one kind of noise; `voice` gives the speech of which babble is made."""
    x = babble(voice, rng) if kind == "babble" else _MADE[kind](samples, rate, rng)
    return _levelled(x)[None]


def coloured(samples: int, rate: int, rng: Generator) -> np.ndarray:
    """Gaussian noise: white, pink, brown or between, with random resonances; half of it swells and fades."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    frequency = np.linspace(0, 1, len(spectrum))
    octaves = np.log2(np.maximum(frequency * rate / 2, 20.0) / 20.0)
    slope_db = rng.uniform(-6.0, 1.0)  # per octave: -6 brown, -3 pink, 0 white
    bumps_db = np.interp(octaves, np.linspace(0, octaves[-1], 8), rng.normal(0, 5.0, 8))
    x = np.fft.irfft(spectrum * 10 ** ((slope_db * octaves + bumps_db) / 20), samples)
    return x * _swell(samples, rate, rng) if rng.random() < 0.5 else x


def babble(voice: Voice, rng: Generator) -> np.ndarray:
    """Three to eight voices at once, of slightly different levels."""
    voices = [_levelled(voice(rng)) * 10 ** (rng.uniform(-6, 6) / 20) for _ in range(rng.integers(3, 9))]
    return np.sum(voices, 0)


def hum(samples: int, rate: int, rng: Generator) -> np.ndarray:
    """The harmonics of 50 or 60 Hz, as from transformers and lamps, over a soft hiss."""
    ground = rng.choice([50.0, 60.0]) * rng.uniform(0.998, 1.002)
    time = np.arange(samples) / rate
    x = 0.02 * rng.standard_normal(samples)
    for harmonic in range(1, 1 + int(rng.integers(4, 24))):
        if harmonic * ground < rate / 2:
            level = rng.uniform(0.1, 1) * harmonic ** -rng.uniform(0.3, 1.5)
            x += level * np.sin(2 * np.pi * (harmonic * ground * time + rng.random()))
    return x


def clicks(samples: int, rate: int, rng: Generator) -> np.ndarray:
    """Short decaying knocks at random times, as of keys, dishes and steps, over a soft hiss."""
    x = 0.01 * rng.standard_normal(samples)
    count = 1 + rng.poisson(rng.uniform(1, 15) * samples / rate)
    for start in rng.integers(0, samples, count):
        decay = 10 ** rng.uniform(-3, -1.3)  # 1 to 50 ms
        time = np.arange(min(samples - start, int(8 * decay * rate))) / rate
        tone = np.sin(2 * np.pi * 10 ** rng.uniform(2.2, 3.7) * time)
        body = (tone + rng.uniform(0, 2) * rng.standard_normal(len(time))) * np.exp(-time / decay)
        x[start : start + len(time)] += 10 ** rng.uniform(-1, 0) * body
    return x


def music(samples: int, rate: int, rng: Generator) -> np.ndarray:
    """Random notes of a scale with decaying harmonics, two to four at once."""
    x = np.zeros(samples)
    root, scale = 110 * 2 ** rng.uniform(0, 1), np.array([0, 2, 4, 5, 7, 9, 11])
    beat = rng.uniform(0.15, 0.6)
    for _ in range(int(rng.integers(2, 5))):
        octave, start, richness = int(rng.integers(0, 3)), -rng.uniform(0, beat), rng.uniform(0.6, 2)
        while start < samples / rate:
            begin = max(0, int(start * rate))
            time = np.arange(min(samples - begin, int(2 * beat * rate))) / rate
            pitch = root * 2 ** (octave + rng.choice(scale) / 12)
            attack = np.minimum(1, time / 0.01) * np.exp(-time / (0.7 * beat))
            for harmonic in range(1, 7):
                if harmonic * pitch < rate / 2:
                    phase = 2 * np.pi * (harmonic * pitch * time + rng.random())
                    x[begin : begin + len(time)] += harmonic**-richness * attack * np.sin(phase)
            start += beat * rng.choice([1, 1, 2])
    return x


def _swell(samples: int, rate: int, rng: Generator) -> np.ndarray:
    """A smooth random envelope over 20 dB, with two turns a second."""
    turns = 2 + 2 * samples // rate
    return 10 ** (np.interp(np.arange(samples), np.linspace(0, samples, turns), rng.uniform(-20, 0, turns)) / 20)


def _levelled(x: np.ndarray) -> np.ndarray:
    level = np.sqrt(np.mean(np.square(x, dtype=np.float64)))
    return (x / level if level > 1e-8 else x).astype(np.float32)


_MADE = {"coloured": coloured, "hum": hum, "clicks": clicks, "music": music}
