"""ONNX files with weights and metadata inside, written only if onnxruntime computes the same as the model.

`export` takes any module through PyTorch's exporter; `save` takes a graph that a package builds itself, with `Graph`.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..files import InputError
from ..nn.conv import Conv1d

_RELATIVE = 1e-3  # largest allowed error, relative to the largest value
_OPSET, _FORMAT = 18, 10  # of 2023 and 2024: what is installed in many places by now
_EQUAL = 0.9  # share of integers, such as codes, that must be equal: rounding may change a few


def export(
    module: nn.Module,
    path: Path,
    inputs: Mapping[str, Tensor],
    outputs: tuple[str, ...],
    axes: Mapping[str, Mapping[int, Any]],
    metadata: Mapping[str, str],
    extra: str,
) -> None:
    """Write `module`, in eval mode, through PyTorch's exporter.

    `inputs` are example inputs by name, in the order of `forward`; `outputs` names its results. `axes` gives the axes
    of free length for each input, as `torch.export.Dim`; axes with the same Dim have equal lengths.
    `extra`, such as "audio-sep[onnx]", installs what is needed.
    """
    with torch.no_grad():
        results = module.eval()(*inputs.values())
    expected = dict(zip(outputs, (results,) if isinstance(results, Tensor) else results, strict=True))
    with quiet():
        with requirements(extra):
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
            import onnxscript  # noqa: F401 (the exporter's; all are asked for before the work begins)
        program = torch.onnx.export(
            module,
            tuple(inputs.values()),
            dynamo=True,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=tuple(dict(axes.get(name, {})) for name in inputs),
            verbose=False,
        )
    save(program.model_proto, path, [(inputs, expected)], metadata, extra)


def save(
    file: Any,
    path: Path,
    examples: Iterable[tuple[Mapping[str, Tensor], Mapping[str, Tensor]]],
    metadata: Mapping[str, str],
    extra: str,
) -> list[dict[str, np.ndarray]]:
    """Write `file`, an onnx.ModelProto, if it computes what the model does: `examples` are (inputs, outputs) by name.

    Returns all that the file gives for each of them.
    """
    with requirements(extra):
        import onnx
        import onnxruntime
    onnx.helper.set_model_props(file, dict(metadata))
    content = file.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names, results = [output.name for output in session.get_outputs()], []
    for inputs, expected in examples:
        values = session.run(names, {name: value.cpu().numpy() for name, value in inputs.items()})
        results.append(dict(zip(names, values, strict=True)))
        for name, value in expected.items():
            if not value.isfinite().all():
                raise InputError(f"the model gives {name} that are not finite; its weights are no numbers or too large")
            compare(name, value.cpu().numpy(), results[-1][name])
    path.write_bytes(content)
    return results


def compare(name: str, expected: np.ndarray, result: np.ndarray) -> None:
    """Refuse a result that is not what the model gives, up to rounding."""
    if expected.shape != result.shape:
        raise RuntimeError(f"{name}: the ONNX file gives the shape {result.shape}, the model {expected.shape}")
    if expected.dtype.kind == "f":
        error, largest = np.abs(result - expected).max(initial=0), np.abs(expected).max(initial=0)
        if not error <= _RELATIVE * largest:
            raise RuntimeError(f"{name}: the ONNX file is off by {error:.2g} where the model gives up to {largest:.2g}")
    elif (share := np.mean(result == expected)) < _EQUAL:
        raise RuntimeError(f"{name}: only {share:.0%} of the values in the ONNX file's output are the model's")


class Graph:
    """Nodes and constants in their order; a value goes by its name."""

    def __init__(self, extra: str) -> None:
        """`extra`, such as "audio-sep[onnx]", installs what is needed."""
        with requirements(extra):
            import onnx
        self.helper, self.kinds, self.numpy_helper = onnx.helper, onnx.TensorProto, onnx.numpy_helper
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def node(self, kind: str, *inputs: str, name: str = "", **options: Any) -> str:
        """The name of its output."""
        name = name or f"{kind}{len(self.nodes)}"
        self.nodes.append(self.helper.make_node(kind, inputs, [name], name, **options))
        return name

    def split(self, value: str, sizes: Sequence[int], axis: int) -> list[str]:
        """The names of the parts, `sizes` long along `axis`."""
        name = f"Split{len(self.nodes)}"
        parts = [f"{name}.{at}" for at in range(len(sizes))]
        self.nodes.append(self.helper.make_node("Split", [value, self.integers(*sizes)], parts, name, axis=axis))
        return parts

    def conv(self, name: str, layer: nn.Conv1d | nn.ConvTranspose1d, x: str) -> str:
        """A convolution of `nn.conv`, or one of PyTorch's own with padding; its constants begin with `name`."""
        fields = ("weight",) if layer.bias is None else ("weight", "bias")
        inputs = [self.constant(f"{name}.{field}", getattr(layer, field)) for field in fields]
        options = {"strides": layer.stride, "dilations": layer.dilation, "group": layer.groups}
        if isinstance(layer, nn.ConvTranspose1d):
            left, right = layer.trims
            options |= {"pads": (left, max(right, 0)), "output_padding": (max(-right, 0),)}
            return self.node("ConvTranspose", x, *inputs, **options)
        pads = layer.pads if isinstance(layer, Conv1d) else layer.padding * 2
        return self.node("Conv", x, *inputs, pads=pads, **options)

    def nearest(self, name: str, book: Tensor, x: str) -> tuple[str, str]:
        """The entries of `book` (K, D) nearest to x (B, F, D), and their numbers (B, F)."""
        entries = self.constant(name, book)
        products = self.node("MatMul", x, self.node("Transpose", entries, perm=(1, 0)))
        # |x - c|² = |x|² + 2 (|c|²/2 - x c), and |x|² is the same for all entries.
        distances = self.node("Sub", self.constant(f"{name}.halves", book.square().sum(-1) / 2), products)
        code = self.node("ArgMin", distances, axis=2, keepdims=0)
        return self.node("Gather", entries, code), code

    def constant(self, name: str, values: Tensor | np.ndarray) -> str:
        """A tensor of real numbers, or an array of integers."""
        array = values.detach().cpu().float().numpy() if isinstance(values, Tensor) else values.astype(np.int64)
        self.constants[name] = self.numpy_helper.from_array(array, name)
        return name

    def integers(self, *values: int) -> str:
        """A list, such as a shape or axes."""
        return self.constant(str(list(values)), np.array(values))

    def number(self, value: float) -> str:
        return self.constant(repr(value), torch.tensor(value))

    def file(self, inputs: Sequence[Any], outputs: Sequence[Any], producer: str, version: str) -> Any:
        """The onnx.ModelProto for `save`; inputs and outputs are onnx.ValueInfoProto."""
        graph = self.helper.make_graph(self.nodes, "main", inputs, outputs, list(self.constants.values()))
        opset = self.helper.make_opsetid("", _OPSET)
        made_by = {"producer_name": producer, "producer_version": version}
        return self.helper.make_model(graph, opset_imports=[opset], ir_version=_FORMAT, **made_by)


@contextmanager
def requirements(extra: str) -> Iterator[None]:
    """For imports of what `extra` installs, such as "audio-sep[onnx]": a missing package becomes an InputError."""
    try:
        yield
    except ImportError as error:
        raise InputError(f'ONNX needs {error.name}, which is not installed: pip install "{extra}"') from None


@contextmanager
def quiet() -> Iterator[None]:
    """No output for the `with` block: the tools of PyTorch and onnxruntime print, and warn of their own plans."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
