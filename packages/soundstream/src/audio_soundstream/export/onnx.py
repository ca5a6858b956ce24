"""A codec as ONNX files, in real numbers, for desktops, phones and servers: encoder and search, or decoder.

The encoder takes `audio` (batch, 1, samples) from -1 to 1, of any length but 0, and gives `codes` (batch, layers,
frames) of as many frames as it takes to hold the samples; silence follows up to a whole one. The decoder takes `codes`
of all layers and gives `audio` (batch, 1, frames * hop). Rate and hop are in the file's metadata.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from audio_core.files import InputError
from audio_core.nn.conv import Conv1d, ConvTranspose1d
from audio_core.nn.residual import Residual
from audio_core.nn.stream import Sequential
from torch import Tensor, nn

from ..__about__ import __version__
from ..model import NeuralCodec

_OPSET, _FORMAT = 18, 10  # of 2023 and 2024: what is installed in many places by now
_ACTIVATIONS: dict[type[nn.Module], str] = {nn.ReLU: "Relu", nn.ELU: "Elu", nn.Hardswish: "HardSwish"}


def write(model: NeuralCodec, path: Path, decoder: bool = False) -> None:
    """The encoder, or with `decoder` what makes audio of its codes."""
    graph = _Graph()
    value = graph.helper.make_tensor_value_info
    audio = value("audio", graph.kinds.FLOAT, ("batch", 1, "samples"))
    codes = value("codes", graph.kinds.INT64, ("batch", len(model.codebooks), "frames"))
    if decoder:
        _decoder(graph, model)
        made = graph.file([codes], [audio])
    else:
        _encoder(graph, model)
        made = graph.file([audio], [codes])
    graph.helper.set_model_props(made, {"rate": str(model.sample_rate), "hop": str(model.hop)})
    path.write_bytes(made.SerializeToString())


def _encoder(graph: _Graph, model: NeuralCodec) -> None:
    hop, last = graph.number("hop", model.hop), graph.number("hop-1", model.hop - 1)
    time, start = graph.number("time", 2), graph.number("0", 0)
    padded = graph.node("Pad", "audio", graph.constant("padding", np.array([0, 0, 0, 0, 0, model.hop - 1])))
    up = graph.node("Add", graph.node("Shape", "audio", start=2), last)
    whole = graph.node("Mul", graph.node("Div", up, hop), hop)  # ceil(samples / hop) * hop
    values = _layers(graph, "encoder", model.encoder, graph.node("Slice", padded, start, whole, time))
    residual, found = graph.node("Transpose", values, perm=(0, 2, 1)), []
    # As the model does: |r - c|² = |r|² + 2 (|c|²/2 - r c), and |r|² is the same for all entries.
    halves = model.quantizer.codebooks.square().sum(-1) / 2
    for at, (book, half) in enumerate(zip(_books(graph, model), halves, strict=True)):
        products = graph.node("MatMul", residual, graph.node("Transpose", book, perm=(1, 0)))
        distances = graph.node("Sub", graph.constant(f"codebook{at}.halves", half), products)
        code = graph.node("ArgMin", distances, axis=2, keepdims=0)
        found.append(graph.node("Unsqueeze", code, graph.number("layer", 1)))
        residual = graph.node("Sub", residual, graph.node("Gather", book, code))
    graph.node("Concat", *found, made="codes", axis=1)


def _decoder(graph: _Graph, model: NeuralCodec) -> None:
    entries = []
    for at, book in enumerate(_books(graph, model)):
        code = graph.node("Gather", "codes", graph.constant(f"{at}", np.array(at)), axis=1)
        entries.append(graph.node("Gather", book, code))
    latents = graph.node("Transpose", graph.node("Sum", *entries), perm=(0, 2, 1))
    values = _layers(graph, "decoder", model.decoder, latents)
    lead = graph.number("lead", model.lead)
    length = graph.node("Mul", graph.node("Shape", "codes", start=2), graph.number("hop", model.hop))
    graph.node("Slice", values, lead, graph.node("Add", lead, length), graph.number("time", 2), made="audio")


def _books(graph: _Graph, model: NeuralCodec) -> list[str]:
    return [graph.constant(f"codebook{at}", book) for at, book in enumerate(model.quantizer.codebooks)]


def _layers(graph: _Graph, name: str, part: nn.Module, x: str) -> str:
    """What `part` makes of x (B, C, T)."""
    if isinstance(part, Sequential):
        for place, layer in part.named_children():
            x = _layers(graph, f"{name}.{place}", layer, x)
        return x
    if isinstance(part, Residual):
        return graph.node("Add", x, _layers(graph, f"{name}.layers", part.layers, x))
    if isinstance(part, Conv1d | ConvTranspose1d):
        names = ("weight",) if part.bias is None else ("weight", "bias")
        inputs = [graph.constant(f"{name}.{own}", getattr(part, own)) for own in names]
        options = {"strides": part.stride, "dilations": part.dilation, "group": part.groups}
        if isinstance(part, Conv1d):
            return graph.node("Conv", x, *inputs, pads=part.pads, **options)
        left, right = part.trims
        options |= {"pads": (left, max(right, 0)), "output_padding": (max(-right, 0),)}
        return graph.node("ConvTranspose", x, *inputs, **options)
    if type(part) not in _ACTIVATIONS:
        raise ValueError(f"{name}: is not written to ONNX: {part}")
    return graph.node(_ACTIVATIONS[type(part)], x)


class _Graph:
    """Nodes and constants in their order; a value goes by its name."""

    def __init__(self) -> None:
        try:
            import onnx
        except ImportError:
            raise InputError('ONNX files need onnx: pip install "audio-soundstream[onnx]"') from None
        self.helper, self.kinds, self.numpy_helper = onnx.helper, onnx.TensorProto, onnx.numpy_helper
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def node(self, kind: str, *inputs: str, made: str = "", **options: Any) -> str:
        """The name of what it gives."""
        made = made or f"{kind}{len(self.nodes)}"
        self.nodes.append(self.helper.make_node(kind, inputs, [made], made, **options))
        return made

    def constant(self, name: str, values: Tensor | np.ndarray) -> str:
        array = values.detach().cpu().float().numpy() if isinstance(values, Tensor) else values.astype(np.int64)
        self.constants[name] = self.numpy_helper.from_array(array, name)
        return name

    def number(self, name: str, value: int) -> str:
        return self.constant(name, np.array([value]))

    def file(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
        graph = self.helper.make_graph(self.nodes, "main", inputs, outputs, list(self.constants.values()))
        opset = self.helper.make_opsetid("", _OPSET)
        told = {"producer_name": "audio-soundstream", "producer_version": __version__}
        return self.helper.make_model(graph, opset_imports=[opset], ir_version=_FORMAT, **told)
