"""The network on paper: what can be set, the size of every layer, and what it costs in parameters, sums and memory.

Twelve convolutions c1 ... c12. The first block hears: two strided convolutions along time and a max-pool that leaves
one column every 10 ms. The second block takes these columns as a picture of height c2 and width `frames` and looks at
it as an image network does. How its pools shrink the picture to one point is planned here, from the configuration.
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
    """Samples per second of the audio the model was made for; it sets the first pool (10 ms)."""
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
        """What audio within -1 to 1 is multiplied by before the model hears it."""
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


# --- layers ------------------------------------------------------------------------------------------------


class Layer(NamedTuple):
    """One row of the layer table; a convolution includes its normalisation and its ReLU."""

    name: str
    kernel: tuple[int, int]
    shape: tuple[int, int, int]
    """Channels, height and width of its output."""
    parameters: int
    macs: int
    """Multiplications with a weight that are added up."""
    flops: int
    """As the authors count: a multiply-add is one, normalisation none, a pool its window, ReLU and softmax elements."""

    @property
    def size(self) -> int:
        return prod(self.shape)


def layers(config: ACDNetConfig) -> list[Layer]:
    """All layers at the configured length, in the order they run."""
    plan, table = pools(config), []
    channels, height, width = 1, 1, config.samples

    def convolve(name: str, out: int, kernel: tuple[int, int]) -> None:
        nonlocal channels
        weights = out * channels * kernel[0] * kernel[1]
        macs = weights * height * width
        channels = out
        table.append(Layer(name, kernel, (out, height, width), weights + 2 * out, macs, macs + out * height * width))

    def pool(name: str, kernel: tuple[int, int]) -> None:
        nonlocal height, width
        height, width = height // kernel[0], width // kernel[1]
        if kernel != (1, 1):
            shape = (channels, height, width)
            table.append(Layer(name, kernel, shape, 0, 0, prod(shape) * prod(kernel)))

    for at, (kernel, stride) in enumerate(FIRST_KERNELS):
        width = (width - kernel) // stride + 1
        convolve(CONVOLUTIONS[at], config.channels[at], (1, kernel))
    pool("pool", (1, plan.first))
    height, channels = channels, 1  # the filters become the height of a picture
    for name, out in zip(SECOND_BLOCK, config.channels[2:], strict=True):
        convolve(name, out, (1, 1) if name == "conv12" else (3, 3))
        if name in POOL_AFTER:
            pool(POOL_AFTER[name], plan.maxima[int(POOL_AFTER[name][-1]) - 1])
    pool("average", plan.average or (height, width))
    classes = len(config.labels)
    weights = channels * classes
    table.append(Layer("output", (1, 1), (classes, 1, 1), weights + classes, weights, weights + 2 * classes))
    return table


def parameters(config: ACDNetConfig) -> int:
    return sum(layer.parameters for layer in layers(config))


def macs(config: ACDNetConfig) -> int:
    return sum(layer.macs for layer in layers(config))


def flops(config: ACDNetConfig) -> int:
    """As the authors count them; the softmax is in the last layer."""
    return sum(layer.flops for layer in layers(config))


# --- memory ------------------------------------------------------------------------------------------------


def layer_memory(config: ACDNetConfig) -> dict[str, int]:
    """Bytes of int8 input and output of each layer that runs on a whole crop; the largest is what such a runtime needs.

    Pools work in place.
    """
    needs, source = {}, config.samples
    for layer in layers(config):
        needs[layer.name] = source + (0 if layer.name.startswith(("pool", "average")) else layer.size)
        source = layer.size
    return needs


def device_memory(config: ACDNetConfig, wide: int = 1) -> dict[str, int]:
    """Bytes of each part of the C export's memory, its values `wide` bytes each and the audio 2.

    The first block makes one column every 10 ms from the last few samples, so the crop is never whole, and neither is
    a map before its pool: each output of the other layers is made of the lines that its pool sees.
    """
    table = {layer.name: layer for layer in layers(config)}
    pooled = [table.get(POOL_AFTER.get(name, ""), table[name]).size for name in SECOND_BLOCK]
    lines, width = [len(config.labels)], frames(config)
    for name in SECOND_BLOCK:
        pool = table.get(POOL_AFTER.get(name, ""))
        lines.append(width * (pool.kernel[0] if pool else 1))
        width = pool.shape[2] if pool else width
    (first, _), (second, _) = FIRST_KERNELS
    return {
        "counts": 4 * 4,
        "last samples": 2 * first,
        "last values of conv1": wide * config.channels[0] * second,
        "maxima of conv2": 4 * config.channels[1],
        "columns": wide * config.channels[1] * frames(config),
        "even maps": wide * max(pooled[::2]),
        "odd maps": wide * max(pooled[1::2]),
        "lines of sums": 4 * max(lines),
    }
