"""The integer model as a .tflite file, for the interpreter for microcontrollers.

Weights, scales and zero points are written as the integer model has them, without a converter, so that what runs on a
device is what was tested here. The operators are those of the authors' published file.
"""

from __future__ import annotations

from math import prod

import numpy as np
from audio_core.export.tflite import Graph, Placed

from ..__about__ import __version__
from .quantise import IntegerLayer, IntegerModel, average_window

PROBABILITY = (1 / 256, -128)
"""Scale and zero of the output; the softmax of TensorFlow Lite knows no others."""
# By operator: the version that takes int8, and the table with its options.
_OPERATORS = {
    "AVERAGE_POOL_2D": (2, "Pool2DOptions"),
    "CONV_2D": (3, "Conv2DOptions"),
    "FULLY_CONNECTED": (4, "FullyConnectedOptions"),
    "MAX_POOL_2D": (2, "Pool2DOptions"),
    "RESHAPE": (1, "ReshapeOptions"),
    "SOFTMAX": (2, "SoftmaxOptions"),
    "TRANSPOSE": (2, "TransposeOptions"),
}


def to_bytes(model: IntegerModel) -> bytes:
    """A .tflite file: int8 audio (1, 1, T, 1), in real numbers within -1 to 1, to int8 probabilities (1, classes).

    Its convolutions are those of `model`, but averages and logits have 8 bits, where `model` takes sums and gives 16.
    The labels are in it, one a line, as metadata of that name.
    """
    config = model.config
    if (model.input_type, model.map_type) != ("int8", "int8"):
        raise ValueError(f".tflite: expected int8 input and int8 maps, got {model.input_type} and {model.map_type}")
    graph, window = Graph(_OPERATORS), average_window(config)
    *convolutions, output = model.layers
    audio = maps = graph.tensor("audio", (1, 1, config.samples, 1), model.input_scale / config.gain, model.input_zero)
    for layer in convolutions:
        maps = _convolved(graph, layer, _picture(graph, maps) if layer.name == "conv3" else maps)
        maps = _pooled(graph, "MAX_POOL_2D", layer.pool, maps, f"{layer.name}/pool")
    maps = _pooled(graph, "AVERAGE_POOL_2D", window, maps, "average")
    probabilities = _classified(graph, output, maps, prod(window))
    description = f"audio-acdnet {__version__}: {config.samples} samples at {config.rate} Hz"
    return graph.file(audio, probabilities, description, config.labels)


# --- the network -------------------------------------------------------------------------------------------


def _convolved(graph: Graph, layer: IntegerLayer, maps: Placed) -> Placed:
    scales, weight, bias = _parameters(layer, maps.scale)
    (_, height, width, _), (out, _, tall, wide) = maps.shape, weight.shape
    around = 2 * layer.padding
    shape = (1, height + around - tall + 1, (width + around - wide) // layer.stride + 1, out)
    output = graph.tensor(layer.name, shape, layer.output_scale, layer.output_zero)
    graph.operator(
        "CONV_2D",
        [
            maps.place,
            *graph.weights(layer.name, weight.transpose(0, 2, 3, 1), bias, scales, maps.scale),
        ],
        output,
        Padding=graph.schema.Padding.SAME if layer.padding else graph.schema.Padding.VALID,
        StrideH=1,
        StrideW=layer.stride,
        FusedActivationFunction=graph.schema.ActivationFunctionType.RELU,
    )
    return output


def _parameters(layer: IntegerLayer, source: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scales, weights and biases of the channels, of a layer whose input has the scale `source`.

    The multipliers are the product of that scale and the weights' scales, divided by the output's.
    """
    scales = layer.multiplier / 2.0**layer.shift * layer.output_scale / source
    alive = layer.multiplier > 0
    # A channel whose multiplier is 0 is always 0. No scale may be 0 in the file, so the channel's sum is 0 instead.
    return (
        np.where(alive, scales, 1.0),
        layer.weight * alive[:, None, None, None],
        (layer.bias * alive).astype(np.int32),
    )


def _pooled(graph: Graph, code: str, window: tuple[int, int], maps: Placed, name: str) -> Placed:
    """Values at the end that fill no window are dropped; a window of a single point needs no operator."""
    if window == (1, 1):
        return maps
    (tall, wide), (_, height, width, channels) = window, maps.shape
    pooled = graph.tensor(name, (1, height // tall, width // wide, channels), maps.scale, maps.zero)
    sizes = {"FilterHeight": tall, "FilterWidth": wide, "StrideH": tall, "StrideW": wide}
    graph.operator(code, [maps.place], pooled, Padding=graph.schema.Padding.VALID, **sizes)
    return pooled


def _picture(graph: Graph, maps: Placed) -> Placed:
    """(1, 1, frames, c2) -> (1, c2, frames, 1)."""
    order = np.array((0, 3, 2, 1), np.int32)
    picture = graph.tensor("picture", [maps.shape[axis] for axis in order], maps.scale, maps.zero)
    graph.operator("TRANSPOSE", [maps.place, graph.constant("picture/order", order)], picture)
    return picture


def _classified(graph: Graph, output: IntegerLayer, maps: Placed, count: int) -> Placed:
    """Averages of `count` values (1, 1, 1, c12) -> probabilities (1, classes).

    All weights share one scale: a scale for each class gains nothing, and older interpreters would ignore it.
    """
    scales, weight, bias = _parameters(output, maps.scale)
    weight, bias = weight[:, :, 0, 0] * scales[:, None] * count, bias * scales
    scale = max(np.abs(weight).max() / 127, np.abs(bias).max() / 2**30) or 1.0  # no bias needs more than 32 bits
    weight, bias = np.rint(weight / scale), np.rint(bias / scale)
    flat = graph.tensor("flat", (1, maps.shape[-1]), maps.scale, maps.zero)
    shape = graph.constant("flat/shape", np.array(flat.shape, np.int32))
    graph.operator("RESHAPE", [maps.place, shape], flat)
    unit = max(output.output_scale * 32767 / 127, 1e-5)  # 8 bits for the span of 16; no less, or the softmax aborts
    logits = graph.tensor("logits", (1, len(weight)), unit, 0)
    inputs = [flat.place, *graph.weights("output", weight, bias.astype(np.int32), np.array([scale]), flat.scale)]
    graph.operator("FULLY_CONNECTED", inputs, logits)
    probabilities = graph.tensor("probabilities", logits.shape, *PROBABILITY)
    graph.operator("SOFTMAX", [logits.place], probabilities, Beta=1.0)
    return probabilities
