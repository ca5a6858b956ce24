"""A codec as ONNX files, in real numbers, for desktops, phones and servers: encoder and search, or decoder.

The encoder takes `audio` (batch, 1, samples) from -1 to 1, of any length but 0, and gives `codes` (batch, layers,
frames) of as many frames as it takes to hold the samples; silence follows up to a whole one. The decoder takes `codes`
of all layers and gives `audio` (batch, 1, frames * hop). Rate and hop are in the file's metadata.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from audio_core.export.onnx import Graph, save
from audio_core.nn.conv import Conv1d, ConvTranspose1d
from audio_core.nn.residual import Residual
from audio_core.nn.stream import Sequential
from torch import nn

from ..__about__ import __version__
from ..model import NeuralCodec

_EXTRA = "audio-soundstream[onnx]"
_PRODUCER = "audio-soundstream", __version__
_ACTIVATIONS: dict[type[nn.Module], str] = {nn.ReLU: "Relu", nn.ELU: "Elu", nn.Hardswish: "HardSwish"}


def write(model: NeuralCodec, path: Path, decoder: bool = False) -> None:
    """The encoder with its search, or with `decoder` the decoder."""
    graph, random, count = Graph(_EXTRA), torch.Generator().manual_seed(0), len(model.codebooks)
    device = model.quantizer.codebooks.device
    value = graph.helper.make_tensor_value_info
    audio = value("audio", graph.kinds.FLOAT, ("batch", 1, "samples"))
    codes = value("codes", graph.kinds.INT64, ("batch", count, "frames"))
    if decoder:
        _decoder(graph, model)
        file = graph.file([codes], [audio], *_PRODUCER)
        example = torch.randint(model.config.size, (1, count, 16), generator=random)
        with torch.no_grad():
            expected = model.decode(model.from_codes(example.to(device)))
        inputs, outputs = {"codes": example}, {"audio": expected}
    else:
        _encoder(graph, model)
        file = graph.file([audio], [codes], *_PRODUCER)
        example = 0.1 * torch.randn(1, 1, 16 * model.hop + 1, generator=random)
        inputs, outputs = {"audio": example}, {"codes": model.codes(example.to(device))}
    save(file, path, [(inputs, outputs)], {"rate": str(model.sample_rate), "hop": str(model.hop)}, _EXTRA)


def _encoder(graph: Graph, model: NeuralCodec) -> None:
    hop, last = graph.integers(model.hop), graph.integers(model.hop - 1)
    time, start = graph.integers(2), graph.integers(0)
    padded = graph.node("Pad", "audio", graph.constant("padding", np.array([0, 0, 0, 0, 0, model.hop - 1])))
    up = graph.node("Add", graph.node("Shape", "audio", start=2), last)
    whole = graph.node("Mul", graph.node("Div", up, hop), hop)  # ceil(samples / hop) * hop
    values = _layers(graph, "encoder", model.encoder, graph.node("Slice", padded, start, whole, time))
    residual, codes = graph.node("Transpose", values, perm=(0, 2, 1)), []
    for at, book in enumerate(model.quantizer.codebooks):
        entries, code = graph.nearest(f"codebook{at}", book, residual)
        codes.append(graph.node("Unsqueeze", code, graph.integers(1)))
        residual = graph.node("Sub", residual, entries)
    graph.node("Concat", *codes, name="codes", axis=1)


def _decoder(graph: Graph, model: NeuralCodec) -> None:
    entries = []
    for at, book in enumerate(model.quantizer.codebooks):
        code = graph.node("Gather", "codes", graph.constant(f"{at}", np.array(at)), axis=1)
        entries.append(graph.node("Gather", graph.constant(f"codebook{at}", book), code))
    latents = graph.node("Transpose", graph.node("Sum", *entries), perm=(0, 2, 1))
    values = _layers(graph, "decoder", model.decoder, latents)
    lead = graph.integers(model.lead)
    length = graph.node("Mul", graph.node("Shape", "codes", start=2), graph.integers(model.hop))
    graph.node("Slice", values, lead, graph.node("Add", lead, length), graph.integers(2), name="audio")


def _layers(graph: Graph, name: str, part: nn.Module, x: str) -> str:
    """The name of the output of `part` for the value x (B, C, T)."""
    if isinstance(part, Sequential):
        for place, layer in part.named_children():
            x = _layers(graph, f"{name}.{place}", layer, x)
        return x
    if isinstance(part, Residual):
        return graph.node("Add", x, _layers(graph, f"{name}.layers", part.layers, x))
    if isinstance(part, Conv1d | ConvTranspose1d):
        return graph.conv(name, part, x)
    if type(part) not in _ACTIVATIONS:
        raise ValueError(f"{name}: is not written to ONNX: {part}")
    return graph.node(_ACTIVATIONS[type(part)], x)
