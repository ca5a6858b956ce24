"""The transformer blocks of TAAE as nodes of an ONNX graph. Shapes are (B, T, C), heads (B, H, T, D)."""

from __future__ import annotations

import math

import torch
from audio_core.export.onnx import Graph
from audio_core.nn.transformer import GLU, Conformer
from torch import Tensor, nn

from ..models.transformer import EPS, Attention, FeedForward, LayerNorm, TransformerBlock, rotation

_NEVER = -1e9  # added to what a query must not attend to


def block(graph: Graph, name: str, part: TransformerBlock, x: str) -> str:
    def added(x: str, y: str, scale: str) -> str:
        factor = graph.constant(f"{name}.{scale}", part.get_submodule(scale).scale)
        return graph.node("Add", x, graph.node("Mul", y, factor))

    y = _attention(graph, f"{name}.self_attn", part.self_attn, _normed(graph, f"{name}.pre_norm", part.pre_norm, x))
    x = added(x, y, "self_attn_scale")
    if part.mixes:
        x = added(x, _conformer(graph, f"{name}.conformer", part.conformer, x), "conformer_scale")
    y = _feed_forward(graph, f"{name}.ff", part.ff, _normed(graph, f"{name}.ff_norm", part.ff_norm, x))
    return added(x, y, "ff_scale")


def _linear(graph: Graph, name: str, part: nn.Linear, x: str) -> str:
    y = graph.node("MatMul", x, graph.constant(f"{name}.weight", part.weight.T))
    return y if part.bias is None else graph.node("Add", y, graph.constant(f"{name}.bias", part.bias))


def _normed(graph: Graph, name: str, part: LayerNorm, x: str) -> str:
    return graph.node("LayerNormalization", x, graph.constant(f"{name}.gamma", part.gamma), axis=-1, epsilon=EPS)


def _silu(graph: Graph, x: str) -> str:
    return graph.node("Mul", x, graph.node("Sigmoid", x))


def _gated(graph: Graph, name: str, part: GLU, x: str) -> str:
    half = part.proj.out_features // 2
    value, gate = graph.split(_linear(graph, f"{name}.proj", part.proj, x), (half, half), 2)
    return graph.node("Mul", value, _silu(graph, gate))


def _feed_forward(graph: Graph, name: str, part: FeedForward, x: str) -> str:
    return _linear(graph, f"{name}.1", part[1], _gated(graph, f"{name}.0", part[0], x))


def _conformer(graph: Graph, name: str, part: Conformer, x: str) -> str:
    def over_time(field: str, x: str) -> str:
        y = graph.conv(f"{name}.{field}", part.get_submodule(field), graph.node("Transpose", x, perm=(0, 2, 1)))
        return graph.node("Transpose", y, perm=(0, 2, 1))

    x = over_time("pointwise_conv", _normed(graph, f"{name}.in_norm", part.in_norm, x))
    x = over_time("depthwise_conv", _gated(graph, f"{name}.glu", part.glu, x))
    return over_time("pointwise_conv_2", _silu(graph, _normed(graph, f"{name}.mid_norm", part.mid_norm, x)))


# --- attention ---------------------------------------------------------------------------------------------


def _attention(graph: Graph, name: str, part: Attention, x: str) -> str:
    """As `models.transformer.near_attention`: in blocks, each with the keys that its queries can reach."""
    assert part.window is not None  # others are refused
    (left, right), head = part.window, part.head
    width = part.to_out.in_features
    size = max(left + right, 16)
    time = graph.node("Shape", x, start=1, end=2)
    count = graph.node("Div", graph.node("Add", time, graph.integers(size - 1)), graph.integers(size))
    rest = graph.node("Sub", graph.node("Mul", count, graph.integers(size)), time)

    def padded(x: str, before: int, after: int) -> str:
        end = graph.node("Add", rest, graph.integers(after))
        return graph.node("Pad", x, graph.node("Concat", graph.integers(before), end, axis=0), "", graph.integers(2))

    projected = _linear(graph, f"{name}.to_qkv", part.to_qkv, x)
    split = (
        graph.node("Reshape", each, graph.integers(0, 0, -1, head)) for each in graph.split(projected, [width] * 3, 2)
    )
    q, k, v = (graph.node("Transpose", each, perm=(0, 2, 1, 3)) for each in split)
    q, k = _head_normed(graph, f"{name}.q_norm", part.q_norm, q), _head_normed(graph, f"{name}.k_norm", part.k_norm, k)

    keys = _reached(graph, count, size, left + size + right)  # (N, reached), from the first that exists less `left`
    q = graph.node("Reshape", padded(q, 0, 0), graph.integers(0, width // head, -1, size, head))
    k, v = (graph.node("Gather", padded(each, left, right), keys, axis=2) for each in (k, v))
    q = _rotated(graph, f"{name}.q", q, rotation(head, left, size))  # (B, H, N, size, D)
    k = _rotated(graph, f"{name}.k", k, rotation(head, 0, left + size + right))  # (B, H, N, reached, D)
    scores = graph.node("MatMul", q, graph.node("Transpose", k, perm=(0, 1, 2, 4, 3)))
    scores = graph.node("Mul", scores, graph.number(1 / math.sqrt(head)))
    weights = graph.node(
        "Softmax", graph.node("Add", scores, _mask(graph, name, keys, time, part.window, size)), axis=-1
    )
    y = graph.node("Reshape", graph.node("MatMul", weights, v), graph.integers(0, width // head, -1, head))
    y = graph.node("Slice", y, graph.integers(0), time, graph.integers(2))
    y = graph.node("Reshape", graph.node("Transpose", y, perm=(0, 2, 1, 3)), graph.integers(0, 0, width))
    return _linear(graph, f"{name}.to_out", part.to_out, y)


def _head_normed(graph: Graph, name: str, part: nn.LayerNorm, x: str) -> str:
    weight, bias = (graph.constant(f"{name}.{field}", getattr(part, field)) for field in ("weight", "bias"))
    return graph.node("LayerNormalization", x, weight, bias, axis=-1, epsilon=part.eps)


def _reached(graph: Graph, count: str, size: int, reached: int) -> str:
    """The places of the keys of each block among the padded ones, (N, reached)."""
    scalars = (graph.node("Squeeze", value) for value in (graph.integers(0), count, graph.integers(1)))
    starts = graph.node("Mul", graph.node("Range", *scalars), graph.integers(size))
    steps = graph.constant(f"0 to {reached}", torch.arange(reached).numpy())
    return graph.node("Add", graph.node("Unsqueeze", starts, graph.integers(1)), steps)


def _mask(graph: Graph, name: str, keys: str, time: str, window: tuple[int, int], size: int) -> str:
    """What is added to the scores, (N, size, reached): much less than 0 for keys too far away or none at all."""
    left, right = window
    ahead = torch.arange(left + size + right) - torch.arange(size)[:, None]
    near = torch.where((ahead >= 0) & (ahead <= left + right), 0.0, _NEVER)
    after = graph.node("Less", keys, graph.integers(left))
    before = graph.node("GreaterOrEqual", keys, graph.node("Add", time, graph.integers(left)))
    missing = graph.node("Where", graph.node("Or", after, before), graph.number(_NEVER), graph.number(0.0))
    return graph.node("Add", graph.node("Unsqueeze", missing, graph.integers(1)), graph.constant(f"{name}.near", near))


def _rotated(graph: Graph, name: str, x: str, angles: tuple[Tensor, Tensor]) -> str:
    cos, sin = (graph.constant(f"{name}.{kind}", values) for kind, values in zip(("cos", "sin"), angles, strict=True))
    quarter = angles[0].shape[-1]
    a, b, plain = graph.split(x, (quarter, quarter, 2 * quarter), 4)
    turned = graph.node("Sub", graph.node("Mul", a, cos), graph.node("Mul", b, sin))
    other = graph.node("Add", graph.node("Mul", b, cos), graph.node("Mul", a, sin))
    return graph.node("Concat", turned, other, plain, axis=4)
