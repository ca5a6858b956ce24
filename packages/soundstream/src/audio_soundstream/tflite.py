"""The integer encoder and search as a .tflite file, and what the interpreter for microcontrollers makes of that file.

A call takes a window of 16-bit samples, gives the codes of some frames, and keeps nothing until the next one: the
window holds what comes before its frames and, unless the codec is causal, behind them. No layer pads, so that all its
frames are those of a recording that goes on. Where one begins or ends, silence takes the place of what is missing: to a
causal codec that is the same, another pads in every layer and gives other codes within a window's reach of the ends.

Weights and entries have 8 bits and values 16, TensorFlow Lite's "16x8": with values of 8 most codes change. All numbers
are the integer model's, its powers of two written as scales. C code from the same numbers needs a fraction of the
memory and of the work, as it keeps what it knows; this file is for what runs such files.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from audio_core.files import InputError
from torch import Tensor

from .__about__ import __version__
from .quantise import IntegerLayer, IntegerModel, recorded

FRAMES = 8
"""Of a call. More of them share what comes before, and take more memory."""
_FINER = 256  # the steps of small sums in the search
_SAMPLE = 2.0**-15  # scale of the audio
# By operator: the version that takes these types, and the table with its options.
_OPERATORS = {
    "ADD": (3, "AddOptions"),
    "ARG_MAX": (1, "ArgMaxOptions"),
    "CONCATENATION": (1, "ConcatenationOptions"),
    "CONV_2D": (4, "Conv2DOptions"),
    "DEPTHWISE_CONV_2D": (5, "DepthwiseConv2DOptions"),
    "DEQUANTIZE": (3, "DequantizeOptions"),
    "GATHER": (2, "GatherOptions"),
    "MUL": (4, "MulOptions"),
    "QUANTIZE": (2, "QuantizeOptions"),
    "SLICE": (4, "SliceOptions"),
    "SUB": (5, "SubOptions"),
}
_ALIGNMENT = 16  # bytes, of constants in the file and of tensors in the arena
_PLENTY = 1 << 26  # bytes of arena to measure in


class Window(NamedTuple):
    """Samples that a call takes: those of its frames, and around them."""

    before: int
    frames: int
    after: int


def window(model: IntegerModel, frames: int = FRAMES) -> Window:
    before, step, total = 0, 1, frames
    for layer in model.layers:
        before += layer.real.pads[0] * step
        step *= layer.real.stride
    for layer in reversed(model.layers):
        total = (total - 1) * layer.real.stride + layer.real.span
    return Window(before, frames * step, total - before - frames * step)


def to_bytes(model: IntegerModel, sounds: Iterable[Tensor], frames: int = FRAMES) -> bytes:
    """A .tflite file: int16 samples (1, 1, T, 1) as `window` counts them, to int32 codes (1, layers, frames).

    `sounds`, audio (B, 1, any) as for `quantise`, tell how large the sums of the search become.
    """
    if frames < 1:
        raise InputError(f"a call gives at least one frame, got {frames}")
    if any(layer.real.activation == "elu" for layer in model.layers):
        raise InputError("SoundStream needs an ELU in 16 bits, which TensorFlow Lite lacks; TinyStream needs none")
    graph, size = _Graph(), window(model, frames)
    values = [graph.tensor("audio", (1, 1, sum(size), 1), _SAMPLE)]
    for at, layer in enumerate(model.layers):
        made = _convolved(graph, layer, values[-1])
        if (skip := layer.real.skip) is not None:
            start = sum(between.real.pads[0] for between in model.layers[skip : at + 1])
            made = _added(graph, layer.name, made, values[skip], start)
        values.append(made)
    codes = _searched(graph, model, values[-1], _highest(model, sounds))
    config = model.config
    told = f"audio-soundstream {__version__}: {size.before} samples, then {size.frames} that are coded"
    told += f", then {size.after}, at {config.rate} Hz; {frames} frames of {config.layers} codes below {config.size}"
    return graph.file(values[0], codes, told)


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


# --- the encoder -------------------------------------------------------------------------------------------


class _Tensor(NamedTuple):
    place: int
    """In the file's list of tensors."""
    shape: tuple[int, ...]
    """1, 1, rows and channels; or 1, 1 and rows."""
    scale: float


def _convolved(graph: _Graph, layer: IntegerLayer, values: _Tensor) -> _Tensor:
    """The layer with its activation, without its padding and its skip."""
    real = layer.real
    before, after = _scales(layer, values.scale)
    if real.own:
        weight, axis = layer.weight[:, 0].T[None, None], 3  # (1, 1, kernel, O)
    else:
        weight, axis = layer.weight.transpose(0, 2, 1)[:, None], 0  # (O, 1, kernel, I)
    scales = 2.0**-layer.shift * before / values.scale
    shape = (1, 1, (values.shape[2] - real.span) // real.stride + 1, real.outputs)
    made = graph.tensor(layer.name, shape, before)
    inputs = [values.place, *graph.weights(layer.name, weight, layer.bias, scales, values.scale, axis)]
    graph.convolution(inputs, made, real.own, real.stride, real.dilation, real.activation == "relu")
    return _hardswish(graph, layer.name, made, after) if real.activation == "hardswish" else made


def _scales(layer: IntegerLayer, source: float) -> tuple[float, float]:
    """Before and behind a curve: the integer model knows its exponents, but keeps only what they make of numbers."""
    if not layer.weight.any():
        return source, source
    at = np.unravel_index(np.abs(layer.weight).argmax(), layer.weight.shape)
    before = source * _power(layer.real.weight[at] / layer.weight[at]) * 2.0 ** int(layer.shift[at[0]])
    if layer.curve is None:
        return before, before
    place = int(np.flatnonzero(layer.curve < 32767)[-1])
    real = float(torch.nn.functional.hardswish(torch.tensor((place * 256 - 32768) * before)))
    return before, _power(real / layer.curve[place])


def _power(number: float) -> float:
    """The nearest power of two."""
    return 2.0 ** round(float(np.log2(number)))


def _hardswish(graph: _Graph, name: str, values: _Tensor, scale: float) -> _Tensor:
    """x times x / 6 + 1 / 2 from 0 to 1: TensorFlow Lite for Microcontrollers has its own in 8 bits only."""
    channels = values.shape[-1]
    sixths = np.full(channels, 1 / 6 / 64)
    halves = np.rint(0.5 / (values.scale * sixths))
    weights = graph.weights(f"{name}/gate", np.full((1, 1, 1, channels), 64), halves, sixths, values.scale, 3)
    gate = graph.tensor(f"{name}/gate", values.shape, 2.0**-15)  # 16 bits end at 1
    graph.convolution([values.place, *weights], gate, own=True, relu=True)
    made = graph.tensor(f"{name}/gated", values.shape, scale)
    graph.operator("MUL", [values.place, gate.place], made)
    return made


def _added(graph: _Graph, name: str, values: _Tensor, skip: _Tensor, start: int) -> _Tensor:
    """The sum with the rows of `skip` from which `values` were made."""
    size = np.array(values.shape, np.int32)
    begin = graph.constant(f"{name}/start", np.array((0, 0, start, 0), np.int32))
    same = graph.tensor(f"{name}/skip", values.shape, skip.scale)
    graph.operator("SLICE", [skip.place, begin, graph.constant(f"{name}/size", size)], same)
    made = graph.tensor(f"{name}/sum", values.shape, values.scale)
    graph.operator("ADD", [values.place, same.place], made, PotScaleInt16=False)
    return made


# --- the search --------------------------------------------------------------------------------------------


@torch.inference_mode()
def _highest(model: IntegerModel, sounds: Iterable[Tensor]) -> list[float]:
    """The largest product of a residual and an entry less half the entry's square, in the units of each codebook."""
    highest = [1.0] * len(model.books)
    for sound in sounds:
        residual = model.latents(recorded(sound)).transpose(1, 2)
        for at, book in enumerate(model.books):
            entries = torch.from_numpy(book.entries * 2.0 ** (book.shift[:, None] - book.coarsest))
            nearness = residual @ entries.T - torch.from_numpy(book.halves)
            highest[at] = max(highest[at], float(nearness.max()))
            residual = residual - book.nearest(residual)[0]
    return highest


def _searched(graph: _Graph, model: IntegerModel, residual: _Tensor, highest: Sequence[float]) -> _Tensor:
    """The entry nearest to r has the largest r c - c c / 2. Values (1, 1, F, D) -> codes (1, N, F)."""
    rows, found = residual.shape[2], []
    for at, book in enumerate(model.books):
        name, (size, width) = f"codebook{at}", book.entries.shape
        buffer = graph.buffer(book.entries.tobytes())  # both the weights of a convolution and the entries of a table
        scales = residual.scale * 2.0**book.shift  # (K,)
        weight = graph.stored(name, (size, 1, 1, width), "INT8", buffer, scales)
        halves = book.halves.astype(np.int64) << book.coarsest - book.shift
        bias = graph.constant(f"{name}/bias", -halves, scales * residual.scale)
        unit = residual.scale**2 * 2.0**book.coarsest  # of the integer model's distances
        near = _near(graph, name, [residual.place, weight, bias], (1, 1, rows, size), unit, highest[at])
        code = graph.tensor(f"{name}/code", (1, 1, rows), 0, "INT32")
        axis = graph.constant(f"{name}/axis", np.array(3, np.int32))
        graph.operator("ARG_MAX", [near, axis], code, OutputType=graph.schema.TensorType.INT32)
        found.append(code)
        if len(found) < len(model.books):
            table = graph.stored(f"{name}/table", (size, width), "INT8", buffer, [residual.scale])
            residual = _rest(graph, name, residual, table, book.shift, code)
    return _joined(graph, found)


def _near(graph: _Graph, name: str, inputs: Sequence[int], shape: Sequence[int], unit: float, highest: float) -> int:
    """How near each entry is, in real numbers (1, 1, F, K).

    A convolution gives 16 bits, too few for soft and loud sounds at once. So it is done twice, for all sums and for
    small ones in finer steps. Both limit what they cannot hold, so that their sums are in the order of the true ones.
    """
    step, parts = 2 * highest / 32767, []  # room for twice of what was seen
    for label, wanted in (("coarse", step), ("fine", step / _FINER)):
        scale = unit * 2.0 ** max(0, int(np.ceil(np.log2(wanted))))
        part = graph.tensor(f"{name}/{label}", shape, scale)
        graph.convolution(inputs, part, own=False)
        parts.append(graph.real(f"{name}/{label}/real", "DEQUANTIZE", [part.place], shape))
    return graph.real(f"{name}/nearness", "ADD", parts, shape)


def _rest(graph: _Graph, name: str, residual: _Tensor, table: int, shift: np.ndarray, code: _Tensor) -> _Tensor:
    """What the chosen entries leave of the residual.

    An entry's power of two is looked up as the entry is, and the two are multiplied as real numbers, which is exact.
    A table of their products would hold the codebook a second time, in more bits.
    """
    shape = residual.shape
    entry = graph.tensor(f"{name}/entry", shape, residual.scale, "INT8")
    graph.operator("GATHER", [table, code.place], entry, Axis=0)
    powers = graph.constant(f"{name}/powers", 2.0 ** shift[:, None].astype(np.float32))
    power = graph.real(f"{name}/power", "GATHER", [powers, code.place], (*shape[:3], 1), Axis=0)
    small = graph.real(f"{name}/entry/real", "DEQUANTIZE", [entry.place], shape)
    scaled = graph.real(f"{name}/entry/scaled", "MUL", [small, power], shape)
    real = graph.real(f"{name}/real", "DEQUANTIZE", [residual.place], shape)
    left = graph.tensor(f"{name}/left", shape, residual.scale)
    graph.operator("QUANTIZE", [graph.real(f"{name}/rest", "SUB", [real, scaled], shape)], left)
    return left


def _joined(graph: _Graph, found: Sequence[_Tensor]) -> _Tensor:
    """All codes in one tensor. Layer by layer, as microcontrollers join no more than ten tensors at once."""
    codes = found[0]
    for count, code in enumerate(found[1:], 2):
        name, before = "codes" if count == len(found) else f"codes/{count}", codes.place
        codes = graph.tensor(name, (1, count, code.shape[2]), 0, "INT32")
        graph.operator("CONCATENATION", [before, code.place], codes, Axis=1)
    return codes


# --- the file ----------------------------------------------------------------------------------------------


class _Graph:
    """What a .tflite file is made of. A FlatBuffer is written from its leaves on: a table comes after its parts."""

    def __init__(self) -> None:
        try:
            import flatbuffers
            import tflite
        except ImportError:
            raise InputError('.tflite files need tflite: pip install "audio-soundstream[tflite]"') from None
        self.schema, self.builder = tflite, flatbuffers.Builder(1 << 18)
        self.buffers = [self.table("Buffer")]  # the first one is empty, for all tensors that are computed
        self.tensors: list[int] = []
        self.operators: list[int] = []
        self.codes: list[str] = []

    def tensor(self, name: str, shape: Sequence[int], scale: float, kind: str = "INT16") -> _Tensor:
        """One that is computed; those without a scale are plain numbers."""
        return _Tensor(self.stored(name, shape, kind, 0, [scale] if scale else ()), tuple(shape), scale)

    def constant(self, name: str, values: np.ndarray, scales: Sequence[float] | np.ndarray = (), axis: int = 0) -> int:
        """The place of a tensor that is known; `scales` are of its slices along `axis`, or one of all."""
        return self.stored(name, values.shape, values.dtype.name.upper(), self.buffer(values.tobytes()), scales, axis)

    def weights(
        self, name: str, weight: np.ndarray, bias: np.ndarray, scales: np.ndarray, source: float, axis: int
    ) -> list[int]:
        """The places of weights, their outputs along `axis`, and biases for an input with the scale `source`."""
        return [
            self.constant(f"{name}/weight", weight.astype(np.int8), scales, axis),
            self.constant(f"{name}/bias", bias.astype(np.int64), source * scales),
        ]

    def stored(self, name: str, shape: Sequence[int], kind: str, buffer: int, scales: Any, axis: int = 0) -> int:
        """The place of a tensor with the content of a buffer."""
        fields = {"Name": self.builder.CreateString(name), "Shape": self.numbers(shape)}
        if len(scales):
            parts = {"Scale": self.numbers(scales, np.float32), "ZeroPoint": self.numbers([0] * len(scales), np.int64)}
            fields["Quantization"] = self.table("QuantizationParameters", **parts, QuantizedDimension=axis)
        number = getattr(self.schema.TensorType, kind)
        self.tensors.append(self.table("Tensor", **fields, Type=number, Buffer=buffer))
        return len(self.tensors) - 1

    def convolution(
        self, inputs: Sequence[int], made: _Tensor, own: bool, stride: int = 1, dilation: int = 1, relu: bool = False
    ) -> None:
        kinds = self.schema.ActivationFunctionType
        options = {"Padding": self.schema.Padding.VALID, "StrideH": 1, "StrideW": stride}
        options |= {"DilationHFactor": 1, "DilationWFactor": dilation}
        options |= {"FusedActivationFunction": kinds.RELU if relu else kinds.NONE}
        options |= {"DepthMultiplier": 1} if own else {}
        self.operator("DEPTHWISE_CONV_2D" if own else "CONV_2D", inputs, made, **options)

    def operator(self, code: str, inputs: Sequence[int], output: _Tensor, **options: Any) -> None:
        if code not in self.codes:
            self.codes.append(code)
        _, kind = _OPERATORS[code]
        operator = self.table(
            "Operator",
            OpcodeIndex=self.codes.index(code),
            Inputs=self.numbers(inputs),
            Outputs=self.numbers([output.place]),
            BuiltinOptionsType=getattr(self.schema.BuiltinOptions, kind),
            BuiltinOptions=self.table(kind, **options),
        )
        self.operators.append(operator)

    def real(self, name: str, code: str, inputs: Sequence[int], shape: Sequence[int], **options: Any) -> int:
        """The place of real numbers, made by an operator."""
        made = self.tensor(name, shape, 0, "FLOAT32")
        self.operator(code, inputs, made, **options)
        return made.place

    def file(self, source: _Tensor, found: _Tensor, description: str) -> bytes:
        """All of it, which takes the tensor `source` and gives the tensor `found`."""
        codes = []
        for code in self.codes:
            number, (version, _) = getattr(self.schema.BuiltinOperator, code), _OPERATORS[code]
            # Interpreters from before 2021 read the deprecated field alone.
            codes.append(self.table("OperatorCode", BuiltinCode=number, DeprecatedBuiltinCode=number, Version=version))
        subgraph = self.table(
            "SubGraph",
            Tensors=self.tables(self.tensors),
            Inputs=self.numbers([source.place]),
            Outputs=self.numbers([found.place]),
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
