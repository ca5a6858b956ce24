"""What a codec costs: parameters, work, delay and memory, all counted and not measured."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from audio_core.nn.conv import Conv1d, ConvTranspose1d
from audio_core.nn.residual import Residual
from audio_core.nn.stream import Sequential
from audio_core.weights import no_values
from torch import nn

from .config import CodecConfig, bitrates, bits
from .model import NeuralCodec, build


def convolutions(layer: nn.Module, ratio: Fraction = Fraction(1)) -> Iterator[tuple[Any, Fraction]]:
    """Each convolution of a chain, and how many of its inputs there are for one input of the chain."""
    if isinstance(layer, Conv1d | ConvTranspose1d):
        yield layer, ratio
    elif isinstance(layer, Residual):
        yield from convolutions(layer.layers, ratio)
    elif isinstance(layer, Sequential):
        for part in layer:
            yield from convolutions(part, ratio)
            ratio *= getattr(part, "ratio", 1)


def macs(layer: nn.Module) -> Fraction:
    """Multiply-adds for one input of the chain."""
    total = Fraction(0)
    for conv, ratio in convolutions(layer):
        taps = math.prod(conv.weight.shape)
        total += taps * ratio * (1 if isinstance(conv, ConvTranspose1d) else conv.ratio)
    return total


def search_macs(model: NeuralCodec) -> int:
    """Multiply-adds of the quantizer for one frame."""
    return sum(model.codebooks) * model.width


def decoder_context(model: NeuralCodec) -> int:
    """Frames before a frame that its audio depends on."""
    return math.ceil(model.decoder.history) + math.ceil(Fraction(model.lead, model.hop)) + 1


def latency(model: NeuralCodec) -> int:
    """Samples that an output waits for beyond its own: the delay of the algorithm, on however fast a machine."""
    return int(model.encoder.delay + model.decoder.delay * model.hop) + model.lead


def describe(config: CodecConfig) -> dict[str, Any]:
    """The facts, as plain numbers."""
    with no_values():
        model = build(config)
    rate, frames = model.sample_rate, Fraction(model.sample_rate, model.hop)
    parts = {
        "encoder": sum(p.numel() for p in model.encoder.parameters()),
        "codebooks": model.quantizer.codebooks.numel(),
        "decoder": sum(p.numel() for p in model.decoder.parameters()),
    }
    return {
        "class": type(model).__name__,
        "rate": rate,
        "hop": model.hop,
        "frames_per_second": float(frames),
        "width": model.width,
        "layers": config.layers,
        "codebook": config.size,
        "bits_per_frame": config.layers * bits(config),
        "kbps": list(bitrates(config)),
        "parameters": {**parts, "total": sum(parts.values())},
        "macs_per_second": {
            "encoder": int(macs(model.encoder) * rate),
            "search": int(search_macs(model) * frames),
            "decoder": int(macs(model.decoder) * frames),
        },
        "latency_samples": latency(model),
        "latency_ms": 1000 * latency(model) / rate,
        "history_samples": {
            "encoder": math.ceil(model.encoder.history),
            "decoder": math.ceil(model.decoder.history) * model.hop,
        },
    }


def table(facts: dict[str, Any]) -> str:
    from audio_core.command import columns

    rows = [("", "  parameters", "multiply-adds a second")]
    work = facts["macs_per_second"]
    for part, count in facts["parameters"].items():
        macs_a_second = work.get({"codebooks": "search"}.get(part, part), sum(work.values()))
        rows.append((part, f"{count:,}".rjust(12), f"{macs_a_second / 1e6:,.1f} M".rjust(12)))
    rates = ", ".join(f"{rate:g}" for rate in facts["kbps"])
    frames = f"{facts['frames_per_second']:g} frames of {facts['hop']} samples a second"
    books = f"{facts['layers']} codebooks of {facts['codebook']}: {facts['bits_per_frame']} bits a frame"
    delay = f"{facts['latency_samples']} samples, {facts['latency_ms']:.1f} ms"
    return "\n".join(
        [
            f"{facts['class']}, {facts['rate']} Hz, {frames}",
            f"{books}; bitrates in kbit/s: {rates}",
            f"\n{columns(rows)}\n",
            f"latency of the algorithm: {delay}",
        ]
    )
