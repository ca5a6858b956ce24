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
import torch
from audio_core.export.onnx import requirements, save
from audio_core.nn.conv import Conv1d, ConvTranspose1d
from audio_core.nn.residual import Residual
from audio_core.nn.stream import Sequential
from torch import Tensor, nn

from ..__about__ import __version__
from ..model import NeuralCodec

_EXTRA = "audio-soundstream[onnx]"
_OPSET, _FORMAT = 18, 10  # of 2023 and 2024: what is installed in many places by now
_ACTIVATIONS: dict[type[nn.Module], str] = {nn.ReLU: "Relu", nn.ELU: "Elu", nn.Hardswish: "HardSwish"}


def write(model: NeuralCodec, path: Path, decoder: bool = False) -> None:
    """The encoder with its search, or with `decoder` the decoder."""
    graph, random, count = _Graph(), torch.Generator().manual_seed(0), len(model.codebooks)
    device = model.quantizer.codebooks.device
    value = graph.helper.make_tensor_value_info
    audio = value("audio", graph.kinds.FLOAT, ("batch", 1, "samples"))
    codes = value("codes", graph.kinds.INT64, ("batch", count, "frames"))
    if decoder:
        _decoder(graph, model)
        file = graph.file([codes], [audio])
        example = torch.randint(model.config.size, (1, count, 16), generator=random)
        with torch.no_grad():
            expected = model.decode(model.from_codes(example.to(device)))
        inputs, outputs = {"codes": example}, {"audio": expected}
    else:
        _encoder(graph, model)
        file = graph.file([audio], [codes])
        example = 0.1 * torch.randn(1, 1, 16 * model.hop + 1, generator=random)
        inputs, outputs = {"audio": example}, {"codes": model.codes(example.to(device))}
    save(file, path, inputs, outputs, {"rate": str(model.sample_rate), "hop": str(model.hop)}, _EXTRA)


def _encoder(graph: _Graph, model: NeuralCodec) -> None:
    hop, last = graph.number("hop", model.hop), graph.number("hop-1", model.hop - 1)
    time, start = graph.number("time", 2), graph.number("0", 0)
    padded = graph.node("Pad", "audio", graph.constant("padding", np.array([0, 0, 0, 0, 0, model.hop - 1])))
    up = graph.node("Add", graph.node("Shape", "audio", start=2), last)
    whole = graph.node("Mul", graph.node("Div", up, hop), hop)  # ceil(samples / hop) * hop
    values = _layers(graph, "encoder", model.encoder, graph.node("Slice", padded, start, whole, time))
    residual, codes = graph.node("Transpose", values, perm=(0, 2, 1)), []
    # As the model does: |r - c|² = |r|² + 2 (|c|²/2 - r c), and |r|² is the same for all entries.
    halves = model.quantizer.codebooks.square().sum(-1) / 2
    for at, (book, half) in enumerate(zip(_books(graph, model), halves, strict=True)):
        products = graph.node("MatMul", residual, graph.node("Transpose", book, perm=(1, 0)))
        distances = graph.node("Sub", graph.constant(f"codebook{at}.halves", half), products)
        code = graph.node("ArgMin", distances, axis=2, keepdims=0)
        codes.append(graph.node("Unsqueeze", code, graph.number("layer", 1)))
        residual = graph.node("Sub", residual, graph.node("Gather", book, code))
    graph.node("Concat", *codes, name="codes", axis=1)


def _decoder(graph: _Graph, model: NeuralCodec) -> None:
    entries = []
    for at, book in enumerate(_books(graph, model)):
        code = graph.node("Gather", "codes", graph.constant(f"{at}", np.array(at)), axis=1)
        entries.append(graph.node("Gather", book, code))
    latents = graph.node("Transpose", graph.node("Sum", *entries), perm=(0, 2, 1))
    values = _layers(graph, "decoder", model.decoder, latents)
    lead = graph.number("lead", model.lead)
    length = graph.node("Mul", graph.node("Shape", "codes", start=2), graph.number("hop", model.hop))
    graph.node("Slice", values, lead, graph.node("Add", lead, length), graph.number("time", 2), name="audio")


def _books(graph: _Graph, model: NeuralCodec) -> list[str]:
    return [graph.constant(f"codebook{at}", book) for at, book in enumerate(model.quantizer.codebooks)]


def _layers(graph: _Graph, name: str, part: nn.Module, x: str) -> str:
    """The name of the output of `part` for the value x (B, C, T)."""
    if isinstance(part, Sequential):
        for place, layer in part.named_children():
            x = _layers(graph, f"{name}.{place}", layer, x)
        return x
    if isinstance(part, Residual):
        return graph.node("Add", x, _layers(graph, f"{name}.layers", part.layers, x))
    if isinstance(part, Conv1d | ConvTranspose1d):
        names = ("weight",) if part.bias is None else ("weight", "bias")
        inputs = [graph.constant(f"{name}.{field}", getattr(part, field)) for field in names]
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
        with requirements(_EXTRA):
            import onnx
        self.helper, self.kinds, self.numpy_helper = onnx.helper, onnx.TensorProto, onnx.numpy_helper
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}

    def node(self, kind: str, *inputs: str, name: str = "", **options: Any) -> str:
        """The name of its output."""
        name = name or f"{kind}{len(self.nodes)}"
        self.nodes.append(self.helper.make_node(kind, inputs, [name], name, **options))
        return name

    def constant(self, name: str, values: Tensor | np.ndarray) -> str:
        array = values.detach().cpu().float().numpy() if isinstance(values, Tensor) else values.astype(np.int64)
        self.constants[name] = self.numpy_helper.from_array(array, name)
        return name

    def number(self, name: str, value: int) -> str:
        return self.constant(name, np.array([value]))

    def file(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
        graph = self.helper.make_graph(self.nodes, "main", inputs, outputs, list(self.constants.values()))
        opset = self.helper.make_opsetid("", _OPSET)
        producer = {"producer_name": "audio-soundstream", "producer_version": __version__}
        return self.helper.make_model(graph, opset_imports=[opset], ir_version=_FORMAT, **producer)
