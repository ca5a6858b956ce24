"""Augmentations of training samples. Each is a callable (samples (C, T), generator) -> samples (C, T).

All random numbers come from the generator, so an augmented sample can be repeated. Lengths and channels are kept.
`Sometimes(Polarity(), 0.5)` flips one sample in two; `Chain(a, b)` applies a, then b.

Aligned sources come as {name: samples}. `Only("noisy", Gain(-6, 6))` varies one of them, `Together(Gain(-6, 6))` all
with the same chance; both can stand in a `Chain` or a `Sometimes` beside callables (dict, generator) -> dict.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Generic, TypeVar

import numpy as np

from .. import audio
from ..files import InputError
from .segments import Augment

Generator = np.random.Generator
Samples = audio.Samples
T = TypeVar("T")  # samples, or aligned sources by name


class Chain(Generic[T]):
    """Applies augmentations one after another."""

    def __init__(self, *augments: Callable[[T, Generator], T]):
        self.augments = augments

    def __call__(self, samples: T, rng: Generator) -> T:
        for augment in self.augments:
            samples = augment(samples, rng)
        return samples


@dataclass(frozen=True)
class Sometimes(Generic[T]):
    augment: Callable[[T, Generator], T]
    probability: float

    def __call__(self, samples: T, rng: Generator) -> T:
        return self.augment(samples, rng) if rng.random() < self.probability else samples


@dataclass(frozen=True)
class Only:
    """Augments one of several aligned sources, chosen by name."""

    name: str
    augment: Augment

    def __call__(self, sources: dict[str, Samples], rng: Generator) -> dict[str, Samples]:
        return {**sources, self.name: self.augment(sources[self.name], rng)}


@dataclass(frozen=True)
class Together:
    """Augments all aligned sources alike: each gets a generator that draws the same numbers."""

    augment: Augment

    def __call__(self, sources: dict[str, Samples], rng: Generator) -> dict[str, Samples]:
        seed = int(rng.integers(1 << 62))
        return {name: self.augment(samples, np.random.default_rng(seed)) for name, samples in sources.items()}


@dataclass(frozen=True)
class Gain:
    """Louder or softer, uniform in decibels; nothing is clipped."""

    low_db: float
    high_db: float

    def __call__(self, samples: Samples, rng: Generator) -> Samples:
        return samples * np.float32(10 ** (rng.uniform(self.low_db, self.high_db) / 20))


@dataclass(frozen=True)
class Peak:
    """Normalises to a peak, with a gain of at most 40 dB, so that near silence stays soft; 0 leaves samples as they
    are."""

    peak: float

    def __call__(self, samples: Samples, rng: Generator) -> Samples:
        loudest = float(np.abs(samples).max(initial=0))
        return samples * np.float32(min(self.peak / loudest, 100.0)) if self.peak and loudest > 1e-9 else samples


class Polarity:
    """Inverts the sign of every sample."""

    def __call__(self, samples: Samples, rng: Generator) -> Samples:
        return -samples


class SwapChannels:
    """Reverses the order of the channels, so left and right change places."""

    def __call__(self, samples: Samples, rng: Generator) -> Samples:
        return samples[::-1].copy()


@dataclass(frozen=True)
class Mix:
    """Adds noise at a signal-to-noise ratio uniform in decibels; power is over all channels and the whole length.

    `source` holds (C, T) arrays or tensors: a list, or endless `Segments`. A longer noise is cut at random, a
    shorter one repeated. Where the samples or the noise are silent there is no ratio, and nothing is added.
    """

    source: Any
    low_db: float
    high_db: float

    def __call__(self, samples: Samples, rng: Generator) -> Samples:
        count = len(self.source) if hasattr(self.source, "__len__") else 1 << 32
        noise = np.asarray(self.source[int(rng.integers(count))], np.float32)
        start = int(rng.integers(max(0, noise.shape[1] - samples.shape[1]) + 1))
        at = (start + np.arange(samples.shape[1])) % noise.shape[1]
        noise = audio.convert_channels(noise, samples.shape[0], "noise")[:, at]
        ratio = 10 ** (rng.uniform(self.low_db, self.high_db) / 10)
        target, power = _power(samples) / ratio, _power(noise)
        return samples + noise * np.float32(np.sqrt(target / power)) if power else samples


def _power(samples: Samples) -> float:
    return float(np.mean(np.square(samples, dtype=np.float64)))


@dataclass(frozen=True)
class Shift:
    """Shifts by up to `most` samples either way. The gap holds the samples from the other end, or silence."""

    most: int
    circular: bool = True

    def __call__(self, samples: Samples, rng: Generator) -> Samples:
        by = int(rng.integers(-self.most, self.most + 1))
        shifted = np.roll(samples, by, -1)
        if not self.circular and by:
            shifted[:, slice(by) if by > 0 else slice(by, None)] = 0
        return shifted


@dataclass(frozen=True)
class Pitch:
    """Higher or lower at the same speed, uniform in semitones."""

    rate: int
    low: float
    high: float

    def __call__(self, samples: Samples, rng: Generator) -> Samples:
        steps = rng.uniform(self.low, self.high)
        return np.asarray(_effects().pitch_shift(samples, sr=self.rate, n_steps=steps), np.float32)


@dataclass(frozen=True)
class Tempo:
    """Faster or slower at the same pitch, a factor uniform in octaves; silence follows a shorter result."""

    low: float
    high: float

    def __call__(self, samples: Samples, rng: Generator) -> Samples:
        factor = 2 ** rng.uniform(np.log2(self.low), np.log2(self.high))
        stretched = np.asarray(_effects().time_stretch(samples, rate=factor), np.float32)[:, : samples.shape[1]]
        return np.pad(stretched, ((0, 0), (0, samples.shape[1] - stretched.shape[1])))


def _effects() -> ModuleType:
    try:
        import librosa
    except ImportError:
        raise InputError('pitch and tempo need librosa: pip install "audio-core[augment]"') from None
    return librosa.effects
