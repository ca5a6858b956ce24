"""What the tests of audio files share."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from audio_core import audio

RATE = 48000  # which every format knows, Opus too
ALL = [(extension, encoding) for extension, (_, encodings) in audio.FORMATS.items() for encoding in encodings]
EXACT = {"PCM_16": 2.0**-16, "PCM_24": 2.0**-24, "FLOAT": 0.0}  # the largest error


def names(folder: str | Path) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def music(frames: int, channels: int = 2, rate: int = RATE) -> np.ndarray:
    """Tones that lossy codecs keep, no two channels alike."""
    time = np.arange(frames) / rate
    tones = [0.4 * np.sin(2 * np.pi * 300 * (at + 1) * time) + 0.1 * np.sin(6000 * time) for at in range(channels)]
    return np.array(tones, np.float32)


def in_a_child(code: str, *arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)
