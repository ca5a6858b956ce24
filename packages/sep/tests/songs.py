"""Songs of a second that the tests make."""

from pathlib import Path

import numpy as np
from audio_core import audio

RATE = 8000
STEMS = ("vocals", "bass", "drums", "other")


def sound(seed: int, frames: int = RATE, channels: int = 2, low: float = 80.0, high: float = 900.0) -> np.ndarray:
    """A chord of tones from `low` to `high` Hz that swells and fades, (C, T)."""
    rng = np.random.default_rng(seed)
    time = np.arange(frames) / RATE
    tones = np.sin(2 * np.pi * rng.uniform(low, high, (4, 1)) * time + rng.uniform(0, 6, (channels, 4, 1))).mean(1)
    return (0.4 * tones * (1 + np.sin(2 * np.pi * rng.uniform(1, 4) * time))).astype(np.float32) / 2


def write_song(folder: Path, seed: int, stems: tuple[str, ...] = STEMS, short: int = 0) -> dict[str, np.ndarray]:
    """A folder with a file for each stem, vocals higher than all others; `short` is what the last lacks at its end."""
    sounds = {}
    for at, stem in enumerate(stems):
        frames = RATE - (short if at == len(stems) - 1 else 0)
        range_hz = (1500, 3500) if stem == "vocals" else (80, 900)
        sounds[stem] = sound(10 * seed + at, frames, 2, *range_hz)
        audio.write(folder / f"{stem}.wav", sounds[stem], RATE, "FLOAT")
    return sounds
