"""What a model costs: parameters, and multiply-adds for each second of audio, both counted and not measured."""

from __future__ import annotations

from typing import Any

from audio_core import config as settings
from audio_core.weights import no_values
from torch import nn

from .config import ConditionalUNetConfig, SeparatorConfig
from .models import MODELS
from .models.body import UNetBody


def pixel_macs(body: UNetBody) -> dict[str, float]:
    """Multiply-adds of the network for one frame of one bin, by its parts."""
    shares = [1.0]  # of the frames and bins at each level
    for time, frequency in body.strides:
        shares.append(shares[-1] / (time * frequency))
    centre = sum(map(weights, body.centre)) * shares[-1]
    decoder = weights(body.after)
    for level, block in zip(range(len(body.strides), 0, -1), body.decoders, strict=True):
        # The upsampling multiplies each frame and bin below with all of its weights.
        decoder += weights(block.up) * shares[level] + weights(block.block) * shares[level - 1]
    encoder = sum(weights(block) * share for block, share in zip(body.encoders, shares, strict=False))
    return {"encoder": encoder, "centre": centre, "decoder": decoder}


def weights(part: nn.Module) -> int:
    """Of convolutions, each of which is used once for each frame and bin."""
    layers = [layer for layer in part.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    return sum(layer.weight.numel() for layer in layers)


def describe(config: SeparatorConfig) -> dict[str, Any]:
    """The facts, as plain numbers. What Fourier transforms and filter banks take is small and left out."""
    name = settings.kind(type(config))
    with no_values():
        model = MODELS[name](config)
    body = model.body
    frames = config.rate / config.bands / config.hop
    pixels = frames * (config.bins - 1) / config.slices
    macs = {part: round(count * pixels) for part, count in pixel_macs(body).items()}
    macs["head"] = round(weights(model.planes) * pixels)
    passes = len(config.sources) if isinstance(config, ConditionalUNetConfig) else 1
    modules = {"encoder": [body.encoders], "centre": [body.centre], "decoder": [body.decoders, body.after]}
    modules["head"] = [model.norm, model.planes]
    counts = {
        part: sum(parameter.numel() for module in modules[part] for parameter in module.parameters())
        for part in modules
    }
    return {
        "class": name,
        "rate": config.rate,
        "channels": config.channels,
        "sources": list(config.sources),
        "frames_per_second": frames,
        "bins": config.bins,
        "passes": passes,
        "parameters": {**counts, "total": sum(counts.values())},
        "macs_per_second": {**macs, "total": sum(macs.values())},
    }


def table(facts: dict[str, Any]) -> str:
    from audio_core.command import columns

    rows = [("", "  parameters", "multiply-adds a second")]
    for part, count in facts["parameters"].items():
        rows.append((part, f"{count:,}".rjust(12), f"{facts['macs_per_second'][part] / 1e6:,.0f} M".rjust(12)))
    passes = f"\neach source takes a pass, {facts['passes']} for all" if facts["passes"] > 1 else ""
    return (
        f"{facts['class']}, {facts['rate']} Hz, {facts['channels']} channels, "
        f"{facts['frames_per_second']:.1f} frames a second of {facts['bins']} bins\n"
        f"sources: {', '.join(facts['sources'])}\n\n{columns(rows)}{passes}"
    )
