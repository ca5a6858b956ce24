"""What an ACDNet is built from: its settings, and how its pools are planned from them. Reading it needs no torch.

Twelve convolutions, conv1 to conv12. The paper's spectral feature extraction block (SFEB) is two strided convolutions
along time and a max-pool that leaves one column every 10 ms. Its temporal feature extraction block (TFEB) takes these
columns as a picture of height c2 and width `frames` and looks at it as an image network does. How its pools shrink the
picture to one point is planned here, from the configuration.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal, NamedTuple

from .labels import ESC50

ACDNET = (8, 64, 32, 64, 64, 128, 128, 256, 256, 512, 512, 50)
"""Output channels of c1 to c12 in ACDNet; the twelfth is the number of classes."""
MICRO = (7, 20, 10, 14, 22, 31, 35, 41, 51, 67, 69, 48)
"""Output channels of Micro-ACDNet; the twelfth is 48 for any number of classes."""

CONVOLUTIONS = tuple(f"conv{i}" for i in range(1, 13))
FIRST_BLOCK, SECOND_BLOCK = CONVOLUTIONS[:2], CONVOLUTIONS[2:]
# (kernel, stride) of the two convolutions along time; none of their inputs is padded.
FIRST_KERNELS = ((9, 2), (5, 2))
# After which convolution of the second block a max-pool follows.
POOL_AFTER = {"conv3": "pool1", "conv5": "pool2", "conv7": "pool3", "conv9": "pool4", "conv11": "pool5"}


@dataclass(frozen=True)
class ACDNetConfig:
    """What a model is built from and what must be known to use it."""

    rate: int = 20000
    """Samples per second of the audio that the model takes; it sets the first pool (10 ms)."""
    samples: int = 30225
    """Length of one crop; with the rate it sets the pools of the second block."""
    channels: tuple[int, ...] = ACDNET
    """Output channels of the twelve convolutions."""
    labels: tuple[str, ...] = ESC50
    """Names of the classes, in the order of the outputs."""
    normalisation: Literal["full_scale", "full_scale_twice"] = "full_scale"
    """The level it was trained at: audio within -1 to 1, or that divided by 32768 once more, by a mistake of uverd."""
    folds: tuple[int, ...] = ()
    """Folds it was trained on: testing on one of them says nothing."""
    eps: float = 1e-5
    """Of the batch normalisation; 1e-3 in models that come from Keras."""
    first_pool: int | None = None
    """Length of the pool of the first block; null: 10 ms. Models of uverd have 49 where 50 is 10 ms."""
    last_pool: Literal["planned", "global"] = "planned"
    """The average pool: a kernel of the planned size, or over all that is left."""
    divide: int = 0
    """Into how many folds its data set was divided by file name; 0: the folds are the data set's own."""
    trained_on: str = ""
    """The data set it was trained on, by its name and a digest of its clips."""

    def __post_init__(self) -> None:
        if len(self.channels) != len(CONVOLUTIONS) or min(self.channels) < 1:
            raise ValueError(f"channels: expected 12 positive numbers, got {list(self.channels)}")
        if not self.labels or len(set(self.labels)) != len(self.labels):
            raise ValueError("labels: expected at least one name, and each only once")
        if not all(label.isprintable() for label in self.labels):
            raise ValueError("labels: expected letters, digits and signs that can be printed")
        if self.rate < 400 or self.eps <= 0 or (self.first_pool is not None and self.first_pool < 1):
            raise ValueError("rate: expected at least 400, eps above 0 and first_pool above 0")
        shortest, longest = accepted(self)
        if self.samples < shortest or (longest is not None and self.samples > longest):
            allowed = f"{shortest} to {longest}" if longest else f"{shortest} or more"
            raise ValueError(
                f"samples: the pools for {self.samples} samples at {self.rate} Hz need {allowed}; choose another length"
            )

    @property
    def gain(self) -> float:
        """What audio within -1 to 1 is multiplied by for the model."""
        return 1.0 if self.normalisation == "full_scale" else 1 / 32768


# --- pools -------------------------------------------------------------------------------------------------


class Pools(NamedTuple):
    """Kernels, each also the stride; (1, 1) is a pool that is left out."""

    first: int
    """Along time, after conv2."""
    maxima: tuple[tuple[int, int], ...]
    """(height, width) of pool1 to pool5."""
    average: tuple[int, int] | None
    """(height, width) of the last pool; None: over all that is left."""


def halvings(length: int) -> tuple[int, ...]:
    """Six kernels that shrink `length` to 1: halves while there are two or more, then all that is left at once."""
    kernels = []
    for stage in range(6):
        kernels.append(1 if length < 2 else length if stage == 5 else 2)
        length = length // kernels[-1]
    return tuple(kernels)


def pools(config: ACDNetConfig) -> Pools:
    """The pools planned for the configured length; the order of the divisions decides what they truncate to."""
    first = config.first_pool or int((config.rate / 1000 * 10) / 4)  # 10 ms, the convolutions having a stride of 4
    frames = int(((config.samples / config.rate) * 1000) / 10)
    stages = tuple(zip(halvings(config.channels[1]), halvings(frames), strict=True))
    return Pools(first, stages[:5], stages[5] if config.last_pool == "planned" else None)


def frames(config: ACDNetConfig, samples: int | None = None) -> int:
    """Width of the picture that the second block sees for `samples` of audio."""
    length = config.samples if samples is None else samples
    for kernel, stride in FIRST_KERNELS:
        length = (length - kernel) // stride + 1
    return max(0, length) // pools(config).first


def accepted(config: ACDNetConfig) -> tuple[int, int | None]:
    """The shortest and the longest input (None: any) that the planned pools shrink to one point."""
    plan = pools(config)
    least = prod(width for _, width in plan.maxima) * (plan.average[1] if plan.average else 1)
    longest = _samples_for(2 * least, plan.first) - 1 if plan.average else None
    return _samples_for(least, plan.first), longest


def _samples_for(columns: int, pool: int) -> int:
    """The least number of samples that gives so many columns."""
    length = columns * pool
    for kernel, stride in reversed(FIRST_KERNELS):
        length = (length - 1) * stride + kernel
    return length
