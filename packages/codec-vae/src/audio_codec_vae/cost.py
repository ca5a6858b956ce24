"""What an autoencoder costs: parameters, work for each second of audio and context, all counted and not measured."""

from __future__ import annotations

import math
from typing import Any

import torch
from audio_core import config as settings
from audio_core.weights import no_values
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from .config import AutoencoderConfig
from .models.autoencoder import Autoencoder


def macs(layers: nn.Module, *inputs: Tensor) -> int:
    """Multiply-adds of one pass, which takes no time on the device `meta`."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        layers(*inputs)
    return counter.get_total_flops() // 2


def describe(config: AutoencoderConfig) -> dict[str, Any]:
    """The facts, as plain numbers. The work of the bottleneck and of the pretransform is small and left out."""
    with no_values():
        model = Autoencoder(config).eval()
    parts = {"encoder": model.encoder, "bottleneck": model.bottleneck, "decoder": model.decoder}
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    frames = max(1, round(config.rate / model.hop))  # a second; attention to all of the audio takes more for longer
    seconds = frames * model.hop / config.rate
    waves = torch.empty(1, model.pretransform.width, frames * model.encoder.ratio, device="meta")
    latents = torch.empty(1, model.bottleneck.outputs, frames, device="meta")
    work = {"encoder": macs(model.encoder, waves), "decoder": macs(model.decoder, latents)}
    work = {name: round(count / seconds) for name, count in work.items()}
    rate = config.rate / model.hop
    bits = sum(math.log2(size) for size in model.codebooks)
    reach = model.receptive_field
    return {
        "encoder": settings.kind(type(config.encoder)),
        "bottleneck": settings.kind(type(config.bottleneck)) if config.bottleneck else None,
        "decoder": settings.kind(type(config.decoder)),
        "rate": config.rate,
        "channels": config.channels,
        "hop": model.hop,
        "width": model.width,
        "frames_per_second": rate,
        "values_per_second": rate * model.width,
        "codebooks": list(model.codebooks),
        "kbps": bits * rate / 1000 if model.codebooks else None,
        "parameters": {**counts, "total": sum(counts.values())},
        "macs_per_second": {**work, "total": sum(work.values())},
        "context": {"encoder_samples": reach[0], "decoder_frames": reach[1]} if reach else None,
    }


def table(facts: dict[str, Any]) -> str:
    from audio_core.command import columns

    rows = [("", "  parameters", "multiply-adds a second")]
    for part, count in facts["parameters"].items():
        work = facts["macs_per_second"].get(part)
        rows.append((part, f"{count:,}".rjust(12), "" if work is None else f"{work / 1e6:,.1f} M".rjust(12)))
    names = f"{facts['encoder']}, {facts['bottleneck'] or 'no'} bottleneck, {facts['decoder']}"
    frames = f"{facts['frames_per_second']:.4g} frames of {facts['hop']} samples a second"
    values = f"{facts['width']} channels of latents, {facts['values_per_second']:,.0f} values a second"
    if facts["kbps"] is not None:
        values += (
            f"; {len(facts['codebooks'])} codebook{'s' * (len(facts['codebooks']) > 1)}, {facts['kbps']:.4g} kbit/s"
        )
    context = "context: the whole audio"
    if reach := facts["context"]:
        context = f"context to either side: {reach['encoder_samples']} samples for a frame"
        context += f", {reach['decoder_frames']} frames for its audio"
    return "\n".join(
        [
            names,
            f"{facts['rate']} Hz, {facts['channels']} channel{'s' * (facts['channels'] > 1)}, {frames}",
            values,
            f"\n{columns(rows)}\n",
            context,
        ]
    )
