"""Sounds made in code, for the demonstration to work on."""

import numpy as np

RATE = 16_000


def tune(seed: int, seconds: float, rate: int = RATE) -> np.ndarray:
    """Plucked notes of a pentatonic scale, each with eight harmonics, in stereo (2, T)."""
    rng = np.random.default_rng(seed)
    out = np.zeros((2, round(seconds * rate)), np.float32)
    for start in np.arange(0, seconds - 0.2, 0.2):
        if rng.uniform() < 0.25:
            continue
        pitch = 110 * 2 ** (rng.choice([0, 2, 4, 7, 9, 12, 14, 16, 19, 21, 24]) / 12)
        t = np.arange(round(min(1.2, seconds - start) * rate)) / rate
        note_ = sum(np.sin(2 * np.pi * pitch * k * t) * np.exp(-t * (2 + 1.5 * k)) / k for k in range(1, 9))
        side = rng.uniform(0.2, 0.8)
        at = round(start * rate)
        out[:, at : at + len(t)] += 0.15 * np.array([[side], [1 - side]]) * note_
    return out


def voice(seed: int, seconds: float) -> np.ndarray:
    """Something like a voice that says vowels, (T,): pulses whose pitch glides, through resonances."""
    rng, time = np.random.default_rng(seed), np.arange(round(seconds * RATE)) / RATE
    pitch = 120 * 2 ** (0.25 * np.sin(2 * np.pi * 0.4 * time) + 0.1 * np.sin(2 * np.pi * 1.3 * time))
    turns, out = np.cumsum(pitch) / RATE, np.zeros(len(time))
    formants = np.array([[730, 1090, 2440], [270, 2290, 3010], [570, 840, 2410], [530, 1840, 2480]])
    syllables = formants[rng.integers(0, 4, int(seconds * 4) + 1)][np.minimum((time * 4).astype(int), int(seconds * 4))]
    for harmonic in range(1, 40):
        frequency = harmonic * pitch
        envelope = sum(1 / (1 + ((frequency - syllables[:, k]) / (60 + 40 * k)) ** 2) / (k + 1) for k in range(3))
        out += envelope * np.sin(2 * np.pi * harmonic * turns)
    return (0.2 * out * np.maximum(0, np.sin(np.pi * 4 * time)) ** 0.5).astype(np.float32)


def drums(seed: int, seconds: float, rate: int) -> np.ndarray:
    """A bass drum and a rattle in turn, four in a second, (T,)."""
    rng, out = np.random.default_rng(seed), np.zeros(round(seconds * rate), np.float32)
    time = np.arange(rate // 5) / rate
    kick = np.sin(2 * np.pi * (45 * time + 4 * (1 - np.exp(-25 * time)))) * np.exp(-18 * time)
    for beat in range(int(4 * seconds)):
        sound = rng.standard_normal(len(time)) * np.exp(-40 * time) * 0.2 if beat % 2 else kick
        at = beat * rate // 4
        out[at : at + len(sound)] += 0.4 * sound[: len(out) - at]
    return out
