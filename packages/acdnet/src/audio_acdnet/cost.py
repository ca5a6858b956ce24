"""What a model costs, counted from its configuration: the size of every layer, parameters, multiply-adds, memory."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

from audio_core.command import columns

from .config import CONVOLUTIONS, FIRST_KERNELS, POOL_AFTER, SECOND_BLOCK, ACDNetConfig, frames, pools


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


# --- all of it ---------------------------------------------------------------------------------------------


def describe(config: ACDNetConfig) -> dict[str, Any]:
    """The facts as plain values."""
    device, whole = device_memory(config), layer_memory(config)
    return {
        "rate": config.rate,
        "samples": config.samples,
        "classes": len(config.labels),
        "labels": list(config.labels),
        "channels": list(config.channels),
        "parameters": parameters(config),
        "flops": flops(config),
        "macs": macs(config),
        "int8_memory_bytes": {"device": sum(device.values()), "layers": max(whole.values())},
        "layers": [layer._asdict() for layer in layers(config)],
    }


def table(facts: dict[str, Any]) -> str:
    """The facts as text for people."""
    rows = [
        (row["name"], " x ".join(map(str, row["shape"])), row["parameters"], row["flops"]) for row in facts["layers"]
    ]
    labels, memory = facts["labels"], facts["int8_memory_bytes"]
    few = ", ".join(labels[:10]) + (", ..." if len(labels) > 10 else "")
    return "\n".join(
        [
            columns([("layer", "output", "parameters", "FLOPs"), *rows]),
            "",
            f"{facts['samples'] / facts['rate']:.2f} s at {facts['rate']} Hz, {len(labels)} classes: {few}",
            f"{facts['parameters']:,} parameters, {facts['flops']:,} FLOPs, {facts['macs']:,} multiply-adds",
            f"int8 memory: {memory['device']:,} bytes in the C export, {memory['layers']:,} layer by layer",
        ]
    )
