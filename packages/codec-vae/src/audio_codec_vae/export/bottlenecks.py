"""The bottlenecks as nodes of an ONNX graph, in evaluation: nothing is drawn, so latents are means."""

from __future__ import annotations

from typing import NamedTuple

import torch
from audio_core.export.onnx import Graph
from torch import Tensor, nn

from ..models.bottleneck import Bottleneck, Gaussian, L2Norm, SoftNorm, Tanh, Wasserstein
from ..models.quantise import DACRVQ, FSQ, RVQ, GaussianFirst, ScalarQuantizer
from .layers import longer


class Encoded(NamedTuple):
    latents: str  # (B, W, F)
    codes: str = ""  # (B, K, F), of a discrete bottleneck


def encoded(graph: Graph, part: Bottleneck, x: str) -> Encoded:
    """What the encoder gives (B, inputs, F) -> latents."""
    if isinstance(part, Gaussian | GaussianFirst):
        x = graph.split(x, (part.width, part.width), 1)[0]
    if isinstance(part, RVQ):
        return _quantized(graph, part, x)
    if isinstance(part, DACRVQ) and not part.late:
        return _projected(graph, part, x)
    if isinstance(part, ScalarQuantizer):
        return _rounded(graph, part, x)
    if isinstance(part, Tanh):
        return Encoded(_bounded(graph, x, part.scale))
    if isinstance(part, Wasserstein) and part.config.use_tanh:
        return Encoded(_bounded(graph, x, part.config.tanh_scale))
    if isinstance(part, L2Norm):
        return Encoded(_normalized(graph, x))
    if isinstance(part, SoftNorm):
        scale, shift = (graph.constant(name, getattr(part, name)) for name in ("scaling_factor", "bias"))
        return Encoded(graph.node("Add", graph.node("Mul", x, scale), shift))
    return Encoded(x)


def decoded(graph: Graph, part: Bottleneck, latents: str) -> str:
    """Latents -> what the decoder gets (B, outputs, F)."""
    if isinstance(part, DACRVQ) and part.late:
        latents = _projected(graph, part, latents).latents
    if isinstance(part, L2Norm):
        latents = _normalized(graph, latents)
    return longer(graph, latents, 0, part.noise, axis=1) if part.noise else latents


def entries(graph: Graph, part: Bottleneck, codes: str) -> str:
    """The codes of all codebooks (B, K, F) -> latents."""
    if isinstance(part, ScalarQuantizer):
        return _values_of_codes(graph, part, codes)
    each = graph.split(codes, [1] * len(part.codebooks), 1)
    rows = [graph.node("Squeeze", code, graph.integers(1)) for code in each]  # (B, F)
    if isinstance(part, RVQ):
        books = [graph.constant(f"codebook{at}", book) for at, book in enumerate(part.quantizer.codebooks)]
        total = graph.node("Sum", *(graph.node("Gather", *pair) for pair in zip(books, rows, strict=True)))
        return graph.node("Transpose", total, perm=(0, 2, 1))
    assert isinstance(part, DACRVQ)
    return graph.node("Sum", *(_entry(graph, part, at, row) for at, row in enumerate(rows)))


# --- continuous ones ---------------------------------------------------------------------------------------


def _bounded(graph: Graph, x: str, scale: float) -> str:
    return graph.node("Mul", graph.node("Tanh", graph.node("Div", x, graph.number(scale))), graph.number(scale))


def _normalized(graph: Graph, x: str) -> str:
    """To length 1, along the channels."""
    size = graph.node("ReduceL2", x, graph.integers(1))
    return graph.node("Div", x, graph.node("Max", size, graph.number(1e-12)))


# --- residual vector quantizers ----------------------------------------------------------------------------


def _quantized(graph: Graph, part: RVQ, x: str) -> Encoded:
    residual, codes, parts = graph.node("Transpose", x, perm=(0, 2, 1)), [], []
    for at, book in enumerate(part.quantizer.codebooks):
        entry, code = graph.nearest(f"codebook{at}", book, residual)
        residual = graph.node("Sub", residual, entry)
        codes.append(code)
        parts.append(entry)
    return Encoded(graph.node("Transpose", graph.node("Sum", *parts), perm=(0, 2, 1)), _stacked(graph, codes))


def _projected(graph: Graph, part: DACRVQ, x: str) -> Encoded:
    """Nearest is the entry whose direction is closest, whatever the length of a vector."""
    residual, codes, parts = x, [], []
    for at, book in enumerate(part.quantizer.quantizers):
        few = graph.conv(f"quantizer{at}.in_proj", book.in_proj, residual)
        directions = graph.constant(f"quantizer{at}.directions", nn.functional.normalize(book.codebook.weight).T)
        products = graph.node("MatMul", graph.node("Transpose", few, perm=(0, 2, 1)), directions)
        codes.append(graph.node("ArgMax", products, axis=2, keepdims=0))
        parts.append(_entry(graph, part, at, codes[-1]))
        residual = graph.node("Sub", residual, parts[-1])
    return Encoded(graph.node("Sum", *parts), _stacked(graph, codes))


def _entry(graph: Graph, part: DACRVQ, at: int, code: str) -> str:
    """A codebook's codes (B, F) -> its share of the latents (B, W, F)."""
    book = part.quantizer.quantizers[at]
    entries = graph.node("Gather", graph.constant(f"quantizer{at}.codebook", book.codebook.weight), code)
    return graph.conv(f"quantizer{at}.out_proj", book.out_proj, graph.node("Transpose", entries, perm=(0, 2, 1)))


def _stacked(graph: Graph, codes: list[str]) -> str:
    return graph.node("Concat", *(graph.node("Unsqueeze", code, graph.integers(1)) for code in codes), axis=1)


# --- scalar quantizers -------------------------------------------------------------------------------------


class _Levels(NamedTuple):
    """Numbers of levels are round(tanh(x + shift) * half - offset) + lowest, and values numbers / unit - 1."""

    shift: Tensor
    half: Tensor
    offset: Tensor
    lowest: Tensor
    unit: Tensor


def _levels(part: ScalarQuantizer) -> _Levels:
    """Of each channel, (K D, 1)."""
    levels = part.levels_of_channels()
    zeros = torch.zeros_like(levels)
    if isinstance(part, FSQ):
        half, offset = part.limits()
        return _Levels(torch.atanh(offset / half), half, offset, levels // 2, levels // 2)
    half = (levels - 1) / 2
    return _Levels(zeros, half, -half, zeros, half)


def _rounded(graph: Graph, part: ScalarQuantizer, x: str) -> Encoded:
    fields = {name: graph.constant(f"levels.{name}", values) for name, values in _levels(part)._asdict().items()}
    x = _mapped(graph, "project_in", part.project_in, x) if isinstance(part, FSQ) else x
    bounded = graph.node("Tanh", graph.node("Add", x, fields["shift"]))
    rounded = graph.node("Round", graph.node("Sub", graph.node("Mul", bounded, fields["half"]), fields["offset"]))
    numbers = graph.node("Add", rounded, fields["lowest"])
    books = (0, len(part.codebooks), len(part.levels), -1)
    split = graph.node("Reshape", graph.node("Cast", numbers, to=graph.kinds.INT64), graph.integers(*books))
    weighted = graph.node("Mul", split, graph.constant("basis", part.basis.numpy()))
    codes = graph.node("ReduceSum", weighted, graph.integers(2), keepdims=0)
    return Encoded(_values(graph, part, numbers), codes)


def _values(graph: Graph, part: ScalarQuantizer, numbers: str) -> str:
    unit = graph.constant("levels.unit", _levels(part).unit)
    values = graph.node("Sub", graph.node("Div", numbers, unit), graph.number(1.0))
    return _mapped(graph, "project_out", part.project_out, values) if isinstance(part, FSQ) else values


def _values_of_codes(graph: Graph, part: ScalarQuantizer, codes: str) -> str:
    basis, levels = (graph.constant(name, getattr(part, name).numpy()) for name in ("basis", "levels"))
    rows = graph.node("Unsqueeze", codes, graph.integers(2))
    numbers = graph.node("Mod", graph.node("Div", rows, basis), levels)  # (B, K, D, F)
    channels = len(part.codebooks) * len(part.levels)
    flat = graph.node("Reshape", graph.node("Cast", numbers, to=graph.kinds.FLOAT), graph.integers(0, channels, -1))
    return _values(graph, part, flat)


def _mapped(graph: Graph, name: str, part: nn.Module, x: str) -> str:
    """A linear layer of the channels, as a convolution."""
    if not isinstance(part, nn.Linear):
        return x
    weight = graph.constant(f"{name}.weight", part.weight[:, :, None])
    return graph.node("Conv", x, weight, graph.constant(f"{name}.bias", part.bias))
