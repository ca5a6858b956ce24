"""The integer model as a .tflite file, and what the interpreter for microcontrollers makes of that file.

Weights, scales and zeros are written as the integer model has them, so that no converter stands between what was tested
here and what runs on a device. The operators are those of the authors' published file.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
from audio_core.files import InputError

from .__about__ import __version__
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
_ALIGNMENT = 16  # bytes, of constants in the file and of tensors in the arena
_PLENTY = 1 << 26  # bytes of arena to measure in


def to_bytes(model: IntegerModel) -> bytes:
    """A .tflite file: int8 audio (1, 1, T, 1), in real numbers within -1 to 1, to int8 probabilities (1, classes).

    Its convolutions are those of `model`, but averages and logits have 8 bits, where `model` takes sums and gives 16.
    The labels are in it, one a line, as metadata of that name.
    """
    config = model.config
    if (model.input_type, model.map_type) != ("int8", "int8"):
        raise ValueError(f".tflite: expected int8 input and int8 maps, got {model.input_type} and {model.map_type}")
    graph, window = _Graph(), average_window(config)
    *convolutions, output = model.layers
    audio = maps = graph.tensor("audio", (1, 1, config.samples, 1), model.input_scale / config.gain, model.input_zero)
    for layer in convolutions:
        maps = _convolved(graph, layer, _picture(graph, maps) if layer.name == "conv3" else maps)
        maps = _pooled(graph, "MAX_POOL_2D", layer.pool, maps, f"{layer.name}/pool")
    maps = _pooled(graph, "AVERAGE_POOL_2D", window, maps, "average")
    found = _classified(graph, output, maps, prod(window))
    told = f"audio-acdnet {__version__}: {config.samples} samples at {config.rate} Hz"
    return graph.file(audio, found, told, config.labels)


def arena(data: bytes) -> int | None:
    """Bytes of memory that a file takes in TensorFlow Lite for Microcontrollers; None where that cannot be found out.

    They are its own count, with its reference kernels. Shorter pointers save some kB of it on a device; the kernels of
    a chip's maker may want some for themselves.
    """
    try:
        from tflite_micro import runtime
    except ImportError:
        return None
    try:
        interpreter = runtime.Interpreter.from_bytes(data, arena_size=_PLENTY)
    except RuntimeError:  # more than there is
        return None
    told = _standard_error(interpreter.print_allocations)  # the only place where it tells
    used = re.search(r"Arena allocation total (\d+) bytes", told)
    return -(-int(used[1]) // _ALIGNMENT) * _ALIGNMENT if used else None  # what is kept at its end is aligned as well


def _standard_error(action: Callable[[], None]) -> str:
    """What `action` writes there, from C++ too."""
    with tempfile.TemporaryFile() as file:
        screen = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            action()
        finally:
            os.dup2(screen, 2)
            os.close(screen)
        file.seek(0)
        return file.read().decode(errors="replace")


# --- the network -------------------------------------------------------------------------------------------


class _Tensor(NamedTuple):
    index: int
    shape: tuple[int, ...]
    """Batch, height, width and channels, or batch and channels."""
    scale: float
    zero: int


def _convolved(graph: _Graph, layer: IntegerLayer, maps: _Tensor) -> _Tensor:
    scales, weight, bias = _parameters(layer, maps.scale)
    (_, height, width, _), (out, _, tall, wide) = maps.shape, weight.shape
    around = 2 * layer.padding
    shape = (1, height + around - tall + 1, (width + around - wide) // layer.stride + 1, out)
    made = graph.tensor(layer.name, shape, layer.output_scale, layer.output_zero)
    graph.operator(
        "CONV_2D",
        [maps.index, *graph.weights(layer.name, weight.transpose(0, 2, 3, 1), bias, scales, maps.scale)],
        made,
        Padding=graph.schema.Padding.SAME if layer.padding else graph.schema.Padding.VALID,
        StrideH=1,
        StrideW=layer.stride,
        FusedActivationFunction=graph.schema.ActivationFunctionType.RELU,
    )
    return made


def _parameters(layer: IntegerLayer, source: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scales, weights and biases of the channels, of a layer whose input has the scale `source`.

    The multipliers were made of that scale, of the weights' own and of the output's.
    """
    scales = layer.multiplier / 2.0**layer.shift * layer.output_scale / source
    alive = layer.multiplier > 0
    # A multiplier of 0 makes its channel 0 whatever the sum is. No scale may be 0, so here the sum is.
    return np.where(alive, scales, 1.0), layer.weight * alive[:, None, None, None], layer.bias * alive


def _pooled(graph: _Graph, code: str, window: tuple[int, int], maps: _Tensor, name: str) -> _Tensor:
    """What is left at the end and fills no window is not seen; a window of a single point needs no operator."""
    if window == (1, 1):
        return maps
    (tall, wide), (_, height, width, channels) = window, maps.shape
    made = graph.tensor(name, (1, height // tall, width // wide, channels), maps.scale, maps.zero)
    sizes = {"FilterHeight": tall, "FilterWidth": wide, "StrideH": tall, "StrideW": wide}
    graph.operator(code, [maps.index], made, Padding=graph.schema.Padding.VALID, **sizes)
    return made


def _picture(graph: _Graph, maps: _Tensor) -> _Tensor:
    """(1, 1, frames, c2) -> (1, c2, frames, 1)."""
    order = np.array((0, 3, 2, 1), np.int32)
    made = graph.tensor("picture", [maps.shape[axis] for axis in order], maps.scale, maps.zero)
    graph.operator("TRANSPOSE", [maps.index, graph.constant("picture/order", order)], made)
    return made


def _classified(graph: _Graph, output: IntegerLayer, maps: _Tensor, count: int) -> _Tensor:
    """Averages of `count` values (1, 1, 1, c12) -> probabilities (1, classes).

    All weights share one scale: a scale for each class gains nothing, and older interpreters would ignore it.
    """
    scales, weight, bias = _parameters(output, maps.scale)
    weight, bias = weight[:, :, 0, 0] * scales[:, None] * count, bias * scales
    scale = max(np.abs(weight).max() / 127, np.abs(bias).max() / 2**30) or 1.0  # no bias needs more than 32 bits
    weight, bias = np.rint(weight / scale), np.rint(bias / scale)
    flat = graph.tensor("flat", (1, maps.shape[-1]), maps.scale, maps.zero)
    shape = graph.constant("flat/shape", np.array(flat.shape, np.int32))
    graph.operator("RESHAPE", [maps.index, shape], flat)
    unit = max(output.output_scale * 32767 / 127, 1e-5)  # 8 bits for the span of 16; no less, or the softmax aborts
    logits = graph.tensor("logits", (1, len(weight)), unit, 0)
    inputs = [flat.index, *graph.weights("output", weight, bias, np.array([scale]), flat.scale)]
    graph.operator("FULLY_CONNECTED", inputs, logits)
    found = graph.tensor("probabilities", logits.shape, *PROBABILITY)
    graph.operator("SOFTMAX", [logits.index], found, Beta=1.0)
    return found


# --- the file ----------------------------------------------------------------------------------------------


class _Graph:
    """What a .tflite file is made of. A FlatBuffer is written from its leaves on: a table comes after its parts."""

    def __init__(self) -> None:
        try:
            import flatbuffers
            import tflite
        except ImportError:
            raise InputError('.tflite files need tflite: pip install "audio-acdnet[tflite]"') from None
        self.schema, self.builder = tflite, flatbuffers.Builder(1 << 18)
        self.buffers = [self.table("Buffer")]  # the first one is empty, for all tensors that are computed
        self.tensors: list[int] = []
        self.operators: list[int] = []
        self.codes: list[str] = []

    def tensor(self, name: str, shape: Sequence[int], scale: float, zero: int) -> _Tensor:
        """An int8 tensor that is computed."""
        return _Tensor(self._tensor(name, shape, "INT8", 0, [scale], zero), tuple(shape), scale, zero)

    def constant(self, name: str, values: np.ndarray, scales: Sequence[float] | np.ndarray = ()) -> int:
        """The index of a tensor that is known; `scales` are of its slices along the first axis, or one of all."""
        buffer = self.buffer(values.tobytes())
        return self._tensor(name, values.shape, values.dtype.name.upper(), buffer, scales, 0)

    def weights(self, name: str, weight: np.ndarray, bias: np.ndarray, scales: np.ndarray, source: float) -> list[int]:
        """The indices of weights and biases for an input with the scale `source`."""
        return [
            self.constant(f"{name}/weight", weight.astype(np.int8), scales),
            self.constant(f"{name}/bias", bias.astype(np.int32), source * scales),
        ]

    def _tensor(self, name: str, shape: Sequence[int], kind: str, buffer: int, scales: Any, zero: int) -> int:
        fields = {"Name": self.builder.CreateString(name), "Shape": self.numbers(shape)}
        if len(scales):
            zeros = self.numbers(np.full(len(scales), zero), np.int64)
            scale = self.numbers(scales, np.float32)
            fields["Quantization"] = self.table("QuantizationParameters", Scale=scale, ZeroPoint=zeros)
        number = getattr(self.schema.TensorType, kind)
        self.tensors.append(self.table("Tensor", **fields, Type=number, Buffer=buffer))
        return len(self.tensors) - 1

    def operator(self, code: str, inputs: Sequence[int], output: _Tensor, **options: Any) -> None:
        if code not in self.codes:
            self.codes.append(code)
        _, kind = _OPERATORS[code]
        operator = self.table(
            "Operator",
            OpcodeIndex=self.codes.index(code),
            Inputs=self.numbers(inputs),
            Outputs=self.numbers([output.index]),
            BuiltinOptionsType=getattr(self.schema.BuiltinOptions, kind),
            BuiltinOptions=self.table(kind, **options),
        )
        self.operators.append(operator)

    def file(self, source: _Tensor, found: _Tensor, description: str, labels: Sequence[str]) -> bytes:
        """All of it, which takes the tensor `source` and gives the tensor `found`."""
        lines = self.buffer("\n".join(labels).encode())
        metadata = self.table("Metadata", Name=self.builder.CreateString("labels"), Buffer=lines)
        codes = []
        for code in self.codes:
            number, (version, _) = getattr(self.schema.BuiltinOperator, code), _OPERATORS[code]
            # Interpreters from before 2021 read the deprecated field alone.
            codes.append(self.table("OperatorCode", BuiltinCode=number, DeprecatedBuiltinCode=number, Version=version))
        subgraph = self.table(
            "SubGraph",
            Tensors=self.tables(self.tensors),
            Inputs=self.numbers([source.index]),
            Outputs=self.numbers([found.index]),
            Operators=self.tables(self.operators),
            Name=self.builder.CreateString("main"),
        )
        model = self.table(
            "Model",
            Version=3,
            OperatorCodes=self.tables(codes),
            Subgraphs=self.tables([subgraph]),
            Description=self.builder.CreateString(description),
            Buffers=self.tables(self.buffers),
            Metadata=self.tables([metadata]),
        )
        self.builder.Finish(model, file_identifier=b"TFL3")
        return bytes(self.builder.Output())

    def buffer(self, content: bytes) -> int:
        """The number of a new buffer."""
        self.builder.Prep(_ALIGNMENT, len(content))
        self.buffers.append(self.table("Buffer", Data=self.builder.CreateByteVector(content)))
        return len(self.buffers) - 1

    def table(self, kind: str, **fields: Any) -> int:
        """A table of the schema; a field is a number, or the place of what was written before."""
        getattr(self.schema, f"{kind}Start")(self.builder)
        for name, value in fields.items():
            getattr(self.schema, f"{kind}Add{name}")(self.builder, value)
        return getattr(self.schema, f"{kind}End")(self.builder)

    def tables(self, places: Sequence[int]) -> int:
        self.builder.StartVector(4, len(places), 4)
        for place in reversed(places):
            self.builder.PrependUOffsetTRelative(place)
        return self.builder.EndVector()

    def numbers(self, values: Any, kind: type = np.int32) -> int:
        return self.builder.CreateNumpyVector(np.asarray(values, kind))
