"""The pretransforms as nodes of an ONNX graph: audio (B, C, T) to frames (B, width, F) and back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from audio_core.export.onnx import Graph
from torch import Tensor

from ..models.pretransform import FilterBank, Patched, Pretransform, Wavelet
from ..resampling import kernel
from .layers import length, longer, shorter

_END = 2**62  # beyond any length


def encoded(graph: Graph, part: Pretransform, audio: str) -> str:
    """Of whole frames."""
    if isinstance(part, Patched):
        return _patches(graph, part, audio)
    if isinstance(part, Wavelet):
        return _bands(graph, part, audio)
    if isinstance(part, FilterBank):
        pads = (part.filters.shape[-1] // 2,) * 2
        bands = _by_channel(graph, "analysis", part.filters, audio, part.channels, part.ratio, pads)
        return _flipped(graph, part, shorter(graph, bands, 0, -1))
    return audio


def decoded(graph: Graph, part: Pretransform, frames: str) -> str:
    if isinstance(part, Patched):
        return _samples(graph, part, frames)
    if isinstance(part, Wavelet):
        return _merged(graph, part, frames)
    if isinstance(part, FilterBank):
        phases = part.phases()
        pads = (phases.shape[-1] // 2 + 1,) * 2
        bands = _flipped(graph, part, frames)
        rows = _by_channel(graph, "synthesis", part.ratio * phases, bands, part.channels, 1, pads)
        audio = _joined(graph, shorter(graph, rows, 0, -1), part.channels, part.ratio)
        return shorter(graph, audio, 2 * part.ratio, _END)
    return frames


def _by_channel(
    graph: Graph, name: str, filters: Tensor, x: str, channels: int, stride: int, pads: Sequence[int]
) -> str:
    """The same filters (outputs, inputs, taps) for each channel of audio."""
    weight = graph.constant(name, filters.repeat(channels, 1, 1))
    return graph.node("Conv", x, weight, strides=(stride,), pads=pads, group=channels)


def _reshaped(graph: Graph, x: str, before: Sequence[int], order: Sequence[int], after: Sequence[int]) -> str:
    """x in another shape, its axes in another order, and in another shape again; of a 0 the axis stays as it is."""
    split = graph.node("Reshape", x, graph.integers(*before))
    return graph.node("Reshape", graph.node("Transpose", split, perm=order), graph.integers(*after))


def _joined(graph: Graph, rows: str, channels: int, phases: int) -> str:
    """Channels that hold every n-th sample, n of each, (B, C n, F) -> (B, C, F n)."""
    return _reshaped(graph, rows, (0, channels, phases, -1), (0, 1, 3, 2), (0, channels, -1))


# --- patches -----------------------------------------------------------------------------------------------


def _patches(graph: Graph, part: Patched, audio: str) -> str:
    if part.factor > 1:
        filters = kernel(1, part.factor)
        pads = (filters.shape[-1] // 2,) * 2
        audio = _by_channel(graph, "oversampling", filters, audio, part.channels, 1, pads)
        audio = _joined(graph, audio, part.channels, part.factor)
    shapes = (0, part.channels, -1, part.size), (0, part.width, -1)
    return _reshaped(graph, audio, shapes[0], (0, 1, 3, 2), shapes[1])


def _samples(graph: Graph, part: Patched, frames: str) -> str:
    audio = _joined(graph, frames, part.channels, part.size)
    if part.factor == 1:
        return audio
    filters = kernel(part.factor, 1)
    pads = ((filters.shape[-1] - part.factor) // 2,) * 2
    return _by_channel(graph, "undersampling", filters, audio, part.channels, part.factor, pads)


# --- wavelets ----------------------------------------------------------------------------------------------


def _bands(graph: Graph, part: Wavelet, audio: str) -> str:
    x, channels = audio, part.channels
    analysis = graph.constant("analysis", part.analysis)
    for level in range(part.levels):
        others = 2**level - 1  # bands that are not split again
        low, rest = graph.split(x, (channels, others * channels), 1) if others else (x, "")
        x = graph.node("Conv", longer(graph, low, part.half, part.half, "reflect"), analysis, strides=(2,))
        if others:
            shapes = (0, others, channels, -1, 2), (0, 2 * others * channels, -1)
            x = graph.node("Concat", x, _reshaped(graph, rest, shapes[0], (0, 1, 4, 2, 3), shapes[1]), axis=1)
    return x


def _merged(graph: Graph, part: Wavelet, frames: str) -> str:
    x, channels, margin = frames, part.channels, part.margin
    synthesis = graph.constant("synthesis", part.synthesis)
    for level in reversed(range(part.levels)):
        others = 2**level - 1
        low, rest = graph.split(x, (2 * channels, 2 * others * channels), 1) if others else (x, "")
        low = _reshaped(graph, low, (0, 2, channels, -1), (0, 2, 3, 1), (0, channels, -1))
        low = longer(graph, low, margin, margin, "reflect")
        low = _reshaped(graph, low, (0, channels, -1, 2), (0, 3, 1, 2), (0, 2 * channels, -1))
        low = graph.node("ConvTranspose", low, synthesis, strides=(2,), pads=(part.half, part.half))
        x = shorter(graph, low, margin - 1, -margin)
        if others:
            shapes = (0, others, 2, channels, -1), (0, others * channels, -1)
            x = graph.node("Concat", x, _reshaped(graph, rest, shapes[0], (0, 1, 3, 4, 2), shapes[1]), axis=1)
    return x


# --- the filter bank ---------------------------------------------------------------------------------------


def _flipped(graph: Graph, part: FilterBank, bands: str) -> str:
    """In every second frame, from the first on, the odd bands change their sign."""
    ends = (graph.node("Squeeze", each) for each in (graph.integers(0), length(graph, bands), graph.integers(1)))
    odd_frame = graph.node("Mod", graph.node("Range", *ends), graph.integers(2))  # (F,)
    even = graph.node("Sub", graph.number(1.0), graph.node("Cast", odd_frame, to=graph.kinds.FLOAT))
    odd_band = torch.arange(part.width) % 2
    signs = graph.node("Mul", graph.constant("odd bands", -2.0 * odd_band[:, None]), even)
    return graph.node("Add", bands, graph.node("Mul", bands, signs))
