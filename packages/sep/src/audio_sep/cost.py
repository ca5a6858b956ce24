"""What a model costs: parameters, multiply-adds, and the shortest audio it takes."""

from __future__ import annotations

from typing import Any

import torch
from audio_core import config as configs
from audio_core.command import columns
from audio_core.weights import no_values
from torch.utils.flop_counter import FlopCounterMode

from .config import ConditionalUNetConfig, ModelConfig
from .models import MODELS

_SECONDS = 10  # as a segment of `separate` has


def macs_per_second(config: ModelConfig) -> int:
    """Multiply-adds of the network for a second of audio, all sources; spectrograms and filter bank not counted."""
    frames = 1 + _SECONDS * config.rate // (config.bands * config.hop)
    with no_values():
        model = MODELS[configs.kind(type(config))](config).eval()
        magnitude = torch.empty(1, config.channels * config.bands, frames, config.bins)
        passes = len(config.sources) if isinstance(config, ConditionalUNetConfig) else 1
        condition = (torch.empty(1, passes),) if isinstance(config, ConditionalUNetConfig) else ()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            features = model.features(magnitude, *condition)
            model.planes(features, [*range(len(config.sources) if passes == 1 else 1)])
    return round(passes * counter.get_total_flops() / 2 / _SECONDS)


def describe(config: ModelConfig) -> dict[str, Any]:
    """The facts, as plain numbers."""
    with no_values():
        model = MODELS[configs.kind(type(config))](config)
    parts = {"norm": model.norm, "network": model.body, "head": model.planes}
    counts = {name: sum(values.numel() for values in part.parameters()) for name, part in parts.items()}
    return {
        "class": type(model).__name__,
        "sources": list(config.sources),
        "rate": config.rate,
        "channels": config.channels,
        "bands": config.bands,
        "n_fft": config.n_fft,
        "hop": config.hop,
        "widths": list(config.widths),
        "parameters": {**counts, "total": sum(counts.values())},
        "macs_per_second": macs_per_second(config),
        "shortest": config.shortest,
    }


def table(facts: dict[str, Any]) -> str:
    sides = {1: "mono", 2: "stereo"}.get(facts["channels"], f"{facts['channels']} channels")
    bands = f"{facts['bands']} subbands, " if facts["bands"] > 1 else ""
    rows = [("", "  parameters"), *((part, f"{count:,}".rjust(12)) for part, count in facts["parameters"].items())]
    return "\n".join(
        [
            f"{facts['class']}: {', '.join(facts['sources'])}; {facts['rate']} Hz, {sides}",
            f"{bands}spectrograms of {facts['n_fft']} samples every {facts['hop']}; widths {facts['widths']}",
            f"\n{columns(rows)}\n",
            f"multiply-adds a second of audio: {facts['macs_per_second'] / 1e9:.3g} G",
        ]
    )
