"""The integer encoder and search as a .tflite file, for the interpreter for microcontrollers.

A call takes a window of 16-bit samples, gives the codes of some frames, and keeps nothing until the next one: the
window holds what comes before its frames and, unless the codec is causal, behind them. No layer pads, so that all its
frames are those of a recording that goes on. Where one begins or ends, silence takes the place of what is missing: to a
causal codec that is the same, another pads in every layer and gives other codes within a window's reach of the ends.

Weights and entries have 8 bits and values 16, TensorFlow Lite's "16x8": with values of 8 most codes change. All numbers
are the integer model's, its powers of two written as scales. C code from the same numbers needs a fraction of the
memory and of the work, as it keeps what it knows; this file is for what runs such files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from audio_core.export.tflite import Graph, Placed
from audio_core.files import InputError
from torch import Tensor

from ..__about__ import __version__
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

    `sounds`, audio (B, 1, any) as for `quantise`, show how large the sums of the search become.
    """
    if frames < 1:
        raise InputError(f"a call gives at least one frame, got {frames}")
    if any(layer.real.activation == "elu" for layer in model.layers):
        raise InputError("SoundStream needs an ELU in 16 bits, which TensorFlow Lite lacks; TinyStream needs none")
    graph, size = _Graph(_OPERATORS), window(model, frames)
    values = [graph.values("audio", (1, 1, sum(size), 1), _SAMPLE)]
    for at, layer in enumerate(model.layers):
        output = _convolved(graph, layer, values[-1])
        if (skip := layer.real.skip) is not None:
            start = sum(between.real.pads[0] for between in model.layers[skip : at + 1])
            output = _added(graph, layer.name, output, values[skip], start)
        values.append(output)
    codes = _searched(graph, model, values[-1], _highest(model, sounds))
    config = model.config
    description = f"audio-soundstream {__version__}: {size.before} samples, then {size.frames} that are coded"
    description += (
        f", then {size.after}, at {config.rate} Hz; {frames} frames of {config.layers} codes below {config.size}"
    )
    return graph.file(values[0], codes, description)


# --- the encoder -------------------------------------------------------------------------------------------


def _convolved(graph: _Graph, layer: IntegerLayer, values: Placed) -> Placed:
    """The layer with its activation, without its padding and its skip."""
    real = layer.real
    before, after = _scales(layer, values.scale)
    if real.depthwise:
        weight, axis = layer.weight[:, 0].T[None, None], 3  # (1, 1, kernel, O)
    else:
        weight, axis = layer.weight.transpose(0, 2, 1)[:, None], 0  # (O, 1, kernel, I)
    scales = 2.0**-layer.shift * before / values.scale
    shape = (1, 1, (values.shape[2] - real.span) // real.stride + 1, real.outputs)
    output = graph.values(layer.name, shape, before)
    inputs = [values.place, *graph.weights(layer.name, weight, layer.bias.astype(np.int64), scales, values.scale, axis)]
    graph.convolution(inputs, output, real.depthwise, real.stride, real.dilation, real.activation == "relu")
    return _hardswish(graph, layer.name, output, after) if real.activation == "hardswish" else output


def _scales(layer: IntegerLayer, source: float) -> tuple[float, float]:
    """Scales before and behind a curve, which the integer model does not keep: they follow from its numbers."""
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


def _hardswish(graph: _Graph, name: str, values: Placed, scale: float) -> Placed:
    """x times x / 6 + 1 / 2 from 0 to 1: TensorFlow Lite for Microcontrollers has this operator in 8 bits only."""
    channels = values.shape[-1]
    sixths = np.full(channels, 1 / 6 / 64)
    halves = np.rint(0.5 / (values.scale * sixths)).astype(np.int64)
    weights = graph.weights(
        f"{name}/gate", np.full((1, 1, 1, channels), 64), halves.astype(np.int64), sixths, values.scale, 3
    )
    gate = graph.values(f"{name}/gate", values.shape, 2.0**-15)  # 16 bits end at 1
    graph.convolution([values.place, *weights], gate, depthwise=True, relu=True)
    gated = graph.values(f"{name}/gated", values.shape, scale)
    graph.operator("MUL", [values.place, gate.place], gated)
    return gated


def _added(graph: _Graph, name: str, values: Placed, skip: Placed, start: int) -> Placed:
    """The sum with the rows of `skip` from which `values` were computed."""
    size = np.array(values.shape, np.int32)
    begin = graph.constant(f"{name}/start", np.array((0, 0, start, 0), np.int32))
    same = graph.values(f"{name}/skip", values.shape, skip.scale)
    graph.operator("SLICE", [skip.place, begin, graph.constant(f"{name}/size", size)], same)
    total = graph.values(f"{name}/sum", values.shape, values.scale)
    graph.operator("ADD", [values.place, same.place], total, PotScaleInt16=False)
    return total


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


def _searched(graph: _Graph, model: IntegerModel, residual: Placed, highest: Sequence[float]) -> Placed:
    """The entry nearest to r has the largest r c - c c / 2. Values (1, 1, F, D) -> codes (1, N, F)."""
    rows, codes = residual.shape[2], []
    for at, book in enumerate(model.books):
        name, (size, width) = f"codebook{at}", book.entries.shape
        buffer = graph.buffer(book.entries.tobytes())  # both the weights of a convolution and the entries of a table
        scales = residual.scale * 2.0**book.shift  # (K,)
        weight = graph.stored(name, (size, 1, 1, width), "INT8", buffer, scales)
        halves = book.halves.astype(np.int64) << book.coarsest - book.shift
        bias = graph.constant(f"{name}/bias", -halves, scales * residual.scale)
        unit = residual.scale**2 * 2.0**book.coarsest  # of the integer model's distances
        near = _near(graph, name, [residual.place, weight, bias], (1, 1, rows, size), unit, highest[at])
        code = graph.tensor(f"{name}/code", (1, 1, rows), 0, kind="INT32")
        axis = graph.constant(f"{name}/axis", np.array(3, np.int32))
        graph.operator("ARG_MAX", [near, axis], code, OutputType=graph.schema.TensorType.INT32)
        codes.append(code)
        if len(codes) < len(model.books):
            table = graph.stored(f"{name}/table", (size, width), "INT8", buffer, [residual.scale])
            residual = _rest(graph, name, residual, table, book.shift, code)
    return _joined(graph, codes)


def _near(graph: _Graph, name: str, inputs: Sequence[int], shape: Sequence[int], unit: float, highest: float) -> int:
    """How near each entry is, in real numbers (1, 1, F, K).

    A convolution gives 16 bits, too few for soft and loud sounds at once. So it is done twice, for all sums and for
    small ones in finer steps. Both limit what they cannot hold, so that their sums are in the order of the true ones.
    """
    step, parts = 2 * highest / 32767, []  # room for twice the largest of the calibration
    for label, finest in (("coarse", step), ("fine", step / _FINER)):
        scale = unit * 2.0 ** max(0, int(np.ceil(np.log2(finest))))
        part = graph.values(f"{name}/{label}", shape, scale)
        graph.convolution(inputs, part, depthwise=False)
        parts.append(graph.real(f"{name}/{label}/real", "DEQUANTIZE", [part.place], shape))
    return graph.real(f"{name}/nearness", "ADD", parts, shape)


def _rest(graph: _Graph, name: str, residual: Placed, table: int, shift: np.ndarray, code: Placed) -> Placed:
    """The residual less the chosen entries.

    An entry's power of two is looked up as the entry is, and the two are multiplied as real numbers, which is exact.
    A table of their products would hold the codebook a second time, in more bits.
    """
    shape = residual.shape
    entry = graph.tensor(f"{name}/entry", shape, residual.scale, kind="INT8")
    graph.operator("GATHER", [table, code.place], entry, Axis=0)
    powers = graph.constant(f"{name}/powers", 2.0 ** shift[:, None].astype(np.float32))
    power = graph.real(f"{name}/power", "GATHER", [powers, code.place], (*shape[:3], 1), Axis=0)
    small = graph.real(f"{name}/entry/real", "DEQUANTIZE", [entry.place], shape)
    scaled = graph.real(f"{name}/entry/scaled", "MUL", [small, power], shape)
    real = graph.real(f"{name}/real", "DEQUANTIZE", [residual.place], shape)
    rest = graph.values(f"{name}/left", shape, residual.scale)
    graph.operator("QUANTIZE", [graph.real(f"{name}/rest", "SUB", [real, scaled], shape)], rest)
    return rest


def _joined(graph: _Graph, codes: Sequence[Placed]) -> Placed:
    """All codes in one tensor. Layer by layer, as microcontrollers join no more than ten tensors at once."""
    joined = codes[0]
    for count, code in enumerate(codes[1:], 2):
        name, before = "codes" if count == len(codes) else f"codes/{count}", joined.place
        joined = graph.tensor(name, (1, count, code.shape[2]), 0, kind="INT32")
        graph.operator("CONCATENATION", [before, code.place], joined, Axis=1)
    return joined


# --- the file ----------------------------------------------------------------------------------------------


class _Graph(Graph):
    """With values of 16 bits and the operators of their arithmetic."""

    def values(self, name: str, shape: Sequence[int], scale: float) -> Placed:
        return self.tensor(name, shape, scale, kind="INT16")

    def convolution(
        self,
        inputs: Sequence[int],
        output: Placed,
        depthwise: bool,
        stride: int = 1,
        dilation: int = 1,
        relu: bool = False,
    ) -> None:
        kinds = self.schema.ActivationFunctionType
        options = {"Padding": self.schema.Padding.VALID, "StrideH": 1, "StrideW": stride}
        options |= {"DilationHFactor": 1, "DilationWFactor": dilation}
        options |= {"FusedActivationFunction": kinds.RELU if relu else kinds.NONE}
        options |= {"DepthMultiplier": 1} if depthwise else {}
        self.operator("DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", inputs, output, **options)

    def real(self, name: str, code: str, inputs: Sequence[int], shape: Sequence[int], **options: Any) -> int:
        """The place of real numbers that an operator computes."""
        output = self.tensor(name, shape, 0, kind="FLOAT32")
        self.operator(code, inputs, output, **options)
        return output.place
