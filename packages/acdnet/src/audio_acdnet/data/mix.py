"""Between-class learning: every training item is a mix of two clips of different classes, and so is its label.

How an item is drawn, cut, mixed and amplified follows the authors to the bit. `Mixes[index]` is a function of
(seed, index); `Mixes.draw` also takes any other random stream, such as the one Python stream of the authors' generator.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from ..crops import crop, stretched_length

_FLOOR = 1e-8  # of the power of a window: -80 dB


class Draws(Protocol):
    """The methods that mixing calls on a random stream; `random.Random` of Python has all of them."""

    def randint(self, low: int, high: int) -> int: ...  # `high` included
    def uniform(self, low: float, high: float) -> float: ...
    def random(self) -> float: ...


class SampleDraws:
    """The draws of one sample: a stream that depends on `numbers` alone."""

    def __init__(self, *numbers: int):
        self.rng = np.random.default_rng(numbers)

    def randint(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high + 1))

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * self.rng.random()

    def random(self) -> float:
        return self.rng.random()


# --- level and mix ---------------------------------------------------------------------------------------


def window_size(rate: int) -> int:
    """Samples in a window of the level: about 0.1 s at the authors' rates, and at others the nearer of their two."""
    return 2048 if rate <= 32000 else 4096


@functools.cache
def a_weighting_db(rate: int) -> np.ndarray:
    """The weight of each frequency bin of a window in dB, not below -80; rounded constants as the authors have them."""
    square = np.linspace(0, rate // 2, window_size(rate) // 2 + 1) ** 2
    square[0] = 1.0
    rising = 2 * np.log10(12194.0) + 2 * np.log10(square)
    falling = np.log10(square + 12194.0**2) + np.log10(square + 20.6**2)
    bends = 0.5 * np.log10(square + 107.7**2) + 0.5 * np.log10(square + 737.9**2)
    return np.maximum(2.0 + 20.0 * (rising - falling - bends), -80.0)


@functools.cache
def _weights(rate: int) -> tuple[Tensor, Tensor]:
    """The periodic Hann window, and the A-weighting as a factor on the power of real and imaginary parts in turn."""
    hann = np.hanning(window_size(rate) + 1)[:-1]
    return torch.from_numpy(hann), torch.from_numpy(np.repeat(10 ** (a_weighting_db(rate) / 10), 2))


def levels(x: np.ndarray, rate: int) -> np.ndarray:
    """A-weighted power in dB of the windows of `x` (..., T) that overlap by half, the full ones: (..., windows).

    Half of the cost of an item is here; PyTorch's transform takes two thirds of the time of numpy's.
    """
    size = window_size(rate)
    if x.shape[-1] < size:  # too short for one window: silence follows
        x = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, size - x.shape[-1])])
    hann, weights = _weights(rate)
    windows = torch.from_numpy(x).double().unfold(-1, size, size // 2) * hann
    parts = torch.view_as_real(torch.fft.rfft(windows)).flatten(-2)  # (..., windows, bins * 2)
    return 10 * np.log10((parts.square_() @ weights).numpy().clip(_FLOOR))


def mix(first: np.ndarray, second: np.ndarray, ratio: float, rate: int) -> np.ndarray:
    """Both crops (T,) added so that the first has the share `ratio` of the level, whatever their own levels are."""
    one, other = levels(np.stack([first, second]), rate).max(-1)
    t = 1.0 / (1 + np.power(10, (one - other) / 20.0) * (1 - ratio) / ratio)
    return (first * t + second * (1 - t)) / np.sqrt(t**2 + (1 - t) ** 2)


# --- training items ---------------------------------------------------------------------------------------


def amplify(x: np.ndarray, gain_db: float) -> np.ndarray:
    """In float64 whatever `x` is: a product in float32 would round otherwise than the authors'."""
    return x * np.float64(np.power(10, gain_db / 20.0))


class Part(NamedTuple):
    """What is taken of one clip: its number, how much longer it becomes, and where the crop begins after that."""

    clip: int
    factor: float
    start: int


class Draw(NamedTuple):
    """The random values of one training item."""

    first: Part
    second: Part
    ratio: float
    gain_db: float


class Mixes:
    """Endless training items: x (1, samples) and the mixed label y (classes,), both float32.

    `sounds` are int16 clips with their class numbers in `labels`. Each clip of a mix gets up to `speed` times longer
    or shorter (1: not at all), the mix a gain between the two of `gain_db`.
    """

    def __init__(
        self,
        sounds: Sequence[np.ndarray],
        labels: Sequence[int],
        classes: int,
        rate: int,
        samples: int,
        speed: float = 1.25,
        gain_db: tuple[float, float] = (-6.0, 6.0),
        seed: int = 0,
    ):
        if len(set(labels)) < 2:
            raise ValueError(f"mixes need clips of two classes or more, got {len(sounds)} of {len(set(labels))}")
        self.sounds, self.labels, self.classes = sounds, labels, classes
        self.rate, self.samples, self.speed, self.gain_db, self.seed = rate, samples, speed, gain_db, seed

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x, y = self.render(self.drawn(index))
        return torch.from_numpy(x)[None], torch.from_numpy(y)

    def drawn(self, index: int) -> Draw:
        """What chance decides about item `index`."""
        return self.draw(SampleDraws(self.seed, index))

    def draw(self, draws: Draws) -> Draw:
        """The order of the draws is the authors'."""
        last = len(self.sounds) - 1
        while True:
            first, second = draws.randint(0, last), draws.randint(0, last)
            if self.labels[first] != self.labels[second]:
                break
        parts = self._part(first, draws), self._part(second, draws)
        ratio = draws.random() or 1e-16  # never 0, by which the mix divides
        return Draw(*parts, ratio, draws.uniform(*self.gain_db))

    def _part(self, clip: int, draws: Draws) -> Part:
        length, factor = len(self.sounds[clip]), 1.0
        if self.speed != 1:
            factor = float(np.power(self.speed, draws.uniform(-1, 1)))
            length = stretched_length(length, factor)
        return Part(clip, factor, draws.randint(0, length + 2 * (self.samples // 2) - self.samples))

    def render(self, drawn: Draw) -> tuple[np.ndarray, np.ndarray]:
        """x (samples,) and y (classes,); the label holds the share as it was drawn, without regard to levels."""
        one, other = (crop(self.sounds[clip], start, self.samples, factor) for clip, factor, start in drawn[:2])
        mixed = mix(one, other, drawn.ratio, self.rate).astype(np.float32)
        y = np.zeros(self.classes, np.float32)
        y[self.labels[drawn.first.clip]] = drawn.ratio
        y[self.labels[drawn.second.clip]] = 1 - drawn.ratio
        return amplify(mixed, drawn.gain_db).astype(np.float32), y
