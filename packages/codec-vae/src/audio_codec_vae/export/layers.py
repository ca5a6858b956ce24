"""The layers of encoders and decoders as nodes of an ONNX graph, which compute what the layers do.

Shapes are (B, C, T). Nothing depends on the batch or on the length, so both stay free.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from audio_core.export.onnx import Graph
from audio_core.nn.conv import Conv1d, ConvTranspose1d
from audio_core.nn.residual import Residual
from audio_core.nn.snake import Snake, SnakeBeta
from torch import Tensor, nn

from ..models.antialias import AntiAliased
from ..models.blocks import Block, Coder
from ..models.oobleck import Repeat
from ..models.seanet import ReflectConv1d, ResidualLSTM, SEANetBlock, SEANetDecoder, SEANetEncoder
from ..models.taae import Level, TAAEDecoder, TAAEEncoder, Transpose
from ..models.transformer import TransformerBlock
from . import transformer

TIME = 2  # the axis


def layer(graph: Graph, name: str, part: nn.Module, x: str) -> str:
    """The output of `part` for the value x; constants begin with `name`."""
    for kind, write in _KINDS.items():
        if isinstance(part, kind):
            return write(graph, name, part, x)
    raise ValueError(f"{name}: is not written to ONNX: {part}")


# --- lengths -----------------------------------------------------------------------------------------------


def length(graph: Graph, x: str) -> str:
    """T, as a list of one number."""
    return graph.node("Shape", x, start=TIME, end=TIME + 1)


def longer(graph: Graph, x: str, before: int, after: int | str, mode: str = "constant", axis: int = TIME) -> str:
    """x with values before and after it, zeros unless `mode` says others; the number after it may be computed."""
    if isinstance(after, str):
        pads = graph.node("Concat", graph.integers(before), after, axis=0)
    else:
        pads = graph.integers(before, after)
    return graph.node("Pad", x, pads, "", graph.integers(axis), mode=mode)


def shorter(graph: Graph, x: str, start: int, end: int | str) -> str:
    """x from `start` to `end`, which may be computed, or be negative to count from the end."""
    stop = end if isinstance(end, str) else graph.integers(end)
    return graph.node("Slice", x, graph.integers(start), stop, graph.integers(TIME))


def _reflected(graph: Graph, x: str, left: int, right: int) -> str:
    """As `models.seanet.reflect`: what is too short for it is followed by zeros, which are taken away again."""
    if not left and not right:
        return x
    count = length(graph, x)
    missing = graph.node("Sub", graph.integers(max(left, right) + 1), count)
    filled = longer(graph, x, 0, graph.node("Max", missing, graph.integers(0)))
    end = graph.node("Add", count, graph.integers(left + right))
    return shorter(graph, longer(graph, filled, left, right, "reflect"), 0, end)


# --- layers ------------------------------------------------------------------------------------------------


def _chain(graph: Graph, name: str, part: nn.Sequential, x: str) -> str:
    for place, each in part.named_children():
        x = layer(graph, f"{name}.{place}", each, x)
    return x


def _coder(graph: Graph, name: str, part: Coder, x: str) -> str:
    return _chain(graph, name, nn.Sequential(*part.steps()), x)


def _inner(field: str) -> Callable[[Graph, str, Any, str], str]:
    """Of modules that are no more than a chain in a field."""
    return lambda graph, name, part, x: layer(graph, f"{name}.{field}", getattr(part, field), x)


def _residual(graph: Graph, name: str, part: Residual, x: str) -> str:
    return graph.node("Add", x, layer(graph, f"{name}.layers", part.layers, x))


def _convolved(graph: Graph, name: str, part: Any, x: str) -> str:
    return graph.conv(name, part, x)


def _reflect_convolved(graph: Graph, name: str, part: ReflectConv1d, x: str) -> str:
    """Frames are whole, so that no stride needs more samples at the end."""
    return graph.conv(name, part, _reflected(graph, x, part.left, part.right))


def _plain(kind: str) -> Callable[[Graph, str, Any, str], str]:
    return lambda graph, name, part, x: graph.node(kind, x)


def _snake_beta(graph: Graph, name: str, part: SnakeBeta, x: str) -> str:
    return _snake(graph, name, part.alpha.exp()[:, None], part.beta.exp()[:, None] + 1e-9, x)


def _snake_dac(graph: Graph, name: str, part: Snake, x: str) -> str:
    return _snake(graph, name, part.alpha[0], part.alpha[0] + 1e-9, x)


def _snake(graph: Graph, name: str, frequency: Tensor, divisor: Tensor, x: str) -> str:
    wave = graph.node("Sin", graph.node("Mul", x, graph.constant(f"{name}.frequency", frequency)))
    hump = graph.node("Mul", graph.node("Mul", wave, wave), graph.constant(f"{name}.height", 1 / divisor))
    return graph.node("Add", x, hump)


def _antialiased(graph: Graph, name: str, part: AntiAliased, x: str) -> str:
    """Filters of one channel, for which channels are rows of an image."""
    halves, wide = graph.constant(f"{name}.taps", part.taps[None, None, None]), longer(graph, x, 5, 5, "edge")
    doubles = graph.constant(f"{name}.doubles", 2 * part.taps[None, None, None])
    image = graph.node("Unsqueeze", wide, graph.integers(1))
    image = graph.node("ConvTranspose", image, doubles, strides=(1, 2), pads=(0, 15, 0, 15))
    y = layer(graph, f"{name}.act", part.act, graph.node("Squeeze", image, graph.integers(1)))
    image = graph.node("Unsqueeze", longer(graph, y, 5, 6, "edge"), graph.integers(1))
    return graph.node("Squeeze", graph.node("Conv", image, halves, strides=(1, 2)), graph.integers(1))


def _repeated(graph: Graph, name: str, part: Repeat, x: str) -> str:
    row = graph.node("Unsqueeze", x, graph.integers(3))
    copies = graph.node("Tile", row, graph.integers(1, 1, 1, part.times))  # (B, C, T, times)
    return graph.node("Reshape", copies, graph.integers(0, 0, -1))


def _group_normed(graph: Graph, name: str, part: nn.GroupNorm, x: str) -> str:
    """Each group as one channel."""
    groups = graph.node("Reshape", x, graph.integers(0, part.num_groups, -1))
    ones, zeros = torch.ones(part.num_groups), torch.zeros(part.num_groups)
    scale, shift = graph.constant(f"{name}.ones", ones), graph.constant(f"{name}.zeros", zeros)
    normed = graph.node("InstanceNormalization", groups, scale, shift, epsilon=part.eps)
    normed = graph.node("Reshape", normed, graph.node("Shape", x))
    weight, bias = (graph.constant(f"{name}.{field}", getattr(part, field)[:, None]) for field in ("weight", "bias"))
    return graph.node("Add", graph.node("Mul", normed, weight), bias)


def _seanet_block(graph: Graph, name: str, part: SEANetBlock, x: str) -> str:
    beside, through = (layer(graph, f"{name}.{field}", getattr(part, field), x) for field in ("shortcut", "block"))
    return graph.node("Add", beside, through)


def _recurrent(graph: Graph, name: str, part: ResidualLSTM, x: str) -> str:
    lstm, y = part.lstm, graph.node("Transpose", x, perm=(2, 0, 1))  # (F, B, W)
    for at in range(lstm.num_layers):
        matrices = [_gates(getattr(lstm, f"weight_{kind}_l{at}"))[None] for kind in ("ih", "hh")]
        biases = [_gates(getattr(lstm, f"bias_{kind}_l{at}")) for kind in ("ih", "hh")]
        values = {"input": matrices[0], "hidden": matrices[1], "bias": torch.cat(biases)[None]}
        weights = [graph.constant(f"{name}.{at}.{field}", value) for field, value in values.items()]
        y = graph.node("Squeeze", graph.node("LSTM", y, *weights, hidden_size=lstm.hidden_size), graph.integers(1))
    return graph.node("Add", x, graph.node("Transpose", y, perm=(1, 2, 0)))


def _gates(values: Tensor) -> Tensor:
    """From PyTorch's order to that of ONNX: input, output, forget, cell."""
    gates = values.chunk(4)
    return torch.cat([gates[at] for at in (0, 3, 1, 2)])


_KINDS: dict[Any, Callable[[Graph, str, Any, str], str]] = {
    Coder: _coder,
    SEANetEncoder | SEANetDecoder: _inner("model"),
    Block | Level | TAAEEncoder | TAAEDecoder: _inner("layers"),
    nn.Sequential: _chain,
    Residual: _residual,
    Conv1d | ConvTranspose1d: _convolved,
    ReflectConv1d: _reflect_convolved,
    SnakeBeta: _snake_beta,
    Snake: _snake_dac,
    nn.ELU: _plain("Elu"),
    nn.Tanh: _plain("Tanh"),
    nn.Identity: lambda graph, name, part, x: x,
    AntiAliased: _antialiased,
    Repeat: _repeated,
    nn.GroupNorm: _group_normed,
    SEANetBlock: _seanet_block,
    ResidualLSTM: _recurrent,
    Transpose: lambda graph, name, part, x: graph.node("Transpose", x, perm=(0, 2, 1)),
    TransformerBlock: transformer.block,
}
