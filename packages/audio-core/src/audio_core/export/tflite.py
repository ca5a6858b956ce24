"""Writing .tflite files operator by operator, and measuring their memory in TensorFlow Lite for Microcontrollers."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..files import InputError

_ALIGNMENT = 16  # bytes, of constants in the file and of tensors in the arena
_PLENTY = 1 << 26  # bytes of the arena in which files are measured


class Placed(NamedTuple):
    place: int
    """Index in the file's list of tensors."""
    shape: tuple[int, ...]
    scale: float
    zero: int = 0


class Graph:
    """A .tflite file while it is written. The parts of a FlatBuffer's table are written before the table itself."""

    def __init__(self, operators: Mapping[str, tuple[int, str]]) -> None:
        """`operators` are those that may be used: (version, name of the table with their options) by name."""
        try:
            import flatbuffers
            import tflite
        except ImportError:
            raise InputError('.tflite files need tflite: pip install "audio-core[tflite]"') from None
        self.allowed = operators
        self.schema, self.builder = tflite, flatbuffers.Builder(1 << 18)
        self.buffers = [self.table("Buffer")]  # the first one is empty and belongs to all computed tensors
        self.tensors: list[int] = []
        self.operators: list[int] = []
        self.codes: list[str] = []

    def tensor(self, name: str, shape: Sequence[int], scale: float, zero: int = 0, kind: str = "INT8") -> Placed:
        """Add a computed tensor. A scale of 0 stands for values that are not quantised."""
        return Placed(self.stored(name, shape, kind, 0, [scale] if scale else (), zero), tuple(shape), scale, zero)

    def constant(self, name: str, values: np.ndarray, scales: Sequence[float] | np.ndarray = (), axis: int = 0) -> int:
        """Add a constant tensor and return its place; `scales` has one for each slice along `axis`, or one for all."""
        buffer = self.buffer(values.tobytes())
        return self.stored(name, values.shape, values.dtype.name.upper(), buffer, scales, 0, axis)

    def weights(
        self, name: str, weight: np.ndarray, bias: np.ndarray, scales: np.ndarray, source: float, axis: int = 0
    ) -> list[int]:
        """Add weights and biases for an input with the scale `source`. Outputs lie along `axis`; returns both places.

        Biases are int32 beside values of 8 bits, and int64 beside those of 16.
        """
        return [
            self.constant(f"{name}/weight", weight.astype(np.int8), scales, axis),
            self.constant(f"{name}/bias", bias, source * scales),
        ]

    def stored(
        self, name: str, shape: Sequence[int], kind: str, buffer: int, scales: Any, zero: int = 0, axis: int = 0
    ) -> int:
        """Add a tensor with the content of a buffer and return its place."""
        fields = {"Name": self.builder.CreateString(name), "Shape": self.numbers(shape)}
        if len(scales):
            parts = {
                "Scale": self.numbers(scales, np.float32),
                "ZeroPoint": self.numbers([zero] * len(scales), np.int64),
            }
            fields["Quantization"] = self.table("QuantizationParameters", **parts, QuantizedDimension=axis)
        number = getattr(self.schema.TensorType, kind)
        self.tensors.append(self.table("Tensor", **fields, Type=number, Buffer=buffer))
        return len(self.tensors) - 1

    def operator(self, code: str, inputs: Sequence[int], output: Placed, **options: Any) -> None:
        if code not in self.codes:
            self.codes.append(code)
        _, kind = self.allowed[code]
        operator = self.table(
            "Operator",
            OpcodeIndex=self.codes.index(code),
            Inputs=self.numbers(inputs),
            Outputs=self.numbers([output.place]),
            BuiltinOptionsType=getattr(self.schema.BuiltinOptions, kind),
            BuiltinOptions=self.table(kind, **options),
        )
        self.operators.append(operator)

    def file(self, source: Placed, output: Placed, description: str, labels: Sequence[str] = ()) -> bytes:
        """The file, whose input is `source` and whose output is `output`; labels are metadata, one a line."""
        metadata = {}
        if labels:
            lines = self.buffer("\n".join(labels).encode())
            entry = self.table("Metadata", Name=self.builder.CreateString("labels"), Buffer=lines)
            metadata["Metadata"] = self.tables([entry])
        codes = []
        for code in self.codes:
            number, (version, _) = getattr(self.schema.BuiltinOperator, code), self.allowed[code]
            # Interpreters from before 2021 read the deprecated field alone.
            codes.append(self.table("OperatorCode", BuiltinCode=number, DeprecatedBuiltinCode=number, Version=version))
        subgraph = self.table(
            "SubGraph",
            Tensors=self.tables(self.tensors),
            Inputs=self.numbers([source.place]),
            Outputs=self.numbers([output.place]),
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
            **metadata,
        )
        self.builder.Finish(model, file_identifier=b"TFL3")
        return bytes(self.builder.Output())

    def buffer(self, content: bytes) -> int:
        """Add a buffer and return its number."""
        self.builder.Prep(_ALIGNMENT, len(content))
        self.buffers.append(self.table("Buffer", Data=self.builder.CreateByteVector(content)))
        return len(self.buffers) - 1

    def table(self, kind: str, **fields: Any) -> int:
        """Write a table of the schema. A field is a number, or the place of an object that was written before."""
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


def arena(data: bytes) -> int | None:
    """The arena in bytes that a file needs in TensorFlow Lite for Microcontrollers; None where it cannot be measured.

    The interpreter reports it, with its reference kernels. On a device, shorter pointers save some kB, and a chip
    maker's own kernels may need some more.
    """
    try:
        from tflite_micro import runtime
    except ImportError:
        return None
    try:
        interpreter = runtime.Interpreter.from_bytes(data, arena_size=_PLENTY)
    except RuntimeError:  # more than there is
        return None
    report = _standard_error(interpreter.print_allocations)  # the report is only printed
    used = re.search(r"Arena allocation total (\d+) bytes", report)
    return -(-int(used[1]) // _ALIGNMENT) * _ALIGNMENT if used else None  # the objects at its end are aligned as well


def _standard_error(action: Callable[[], None]) -> str:
    """What `action` writes to standard error, from C++ too."""
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
