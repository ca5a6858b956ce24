"""What a model costs: parameters, multiply-adds, updates of scan states, and the delay of a causal one."""

from __future__ import annotations

import math
from typing import Any

from audio_core.weights import no_values

from .config import SEMambaConfig
from .model import SEMamba


def frame_macs(config: SEMambaConfig) -> dict[str, int]:
    """Multiply-adds for a frame, by part of the network."""
    width, bins, bands = config.channels, config.bins, config.bands
    inputs = 2 if config.phase == "absolute" else 3
    dense = sum(9 * at * width**2 for at in range(1, config.dense + 1))  # for a bin
    up = 3 * width**2 * bands
    inner, rank = config.expand * width, math.ceil(width / 16)
    mixer = (
        2 * width * inner  # in_proj
        + config.conv * inner
        + inner * (rank + 2 * config.state)  # x_proj
        + rank * inner  # dt_proj
        + inner * width  # out_proj
    )
    scans = _scans(config)
    return {
        "encoder": inputs * width * bins + dense * bins + 3 * width**2 * bands,
        "blocks": config.blocks * bands * scans * (mixer + width**2),
        "decoders": 2 * (dense * bands + up) + (width + 1) * bins + 2 * width * bins,
    }


def frame_updates(config: SEMambaConfig) -> int:
    """Updates of scan states for a frame, each an exponential and three multiply-adds."""
    return config.blocks * config.bands * _scans(config) * config.expand * config.channels * config.state


def _scans(config: SEMambaConfig) -> int:
    """Directions of a block's scans, over time and over frequency."""
    return 3 if config.causal else 4


def describe(config: SEMambaConfig) -> dict[str, Any]:
    """The facts, as plain numbers."""
    with no_values():
        model = SEMamba(config)
    parts = {"encoder": model.encoder, "blocks": model.blocks}
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
    counts["decoders"] = sum(
        p.numel() for part in (model.magnitude_decoder, model.phase_decoder) for p in part.parameters()
    )
    frames = config.rate / config.hop
    macs = {name: round(count * frames) for name, count in frame_macs(config).items()}
    return {
        "class": "SEMamba",
        "rate": config.rate,
        "frames_per_second": frames,
        "causal": config.causal,
        "channels": config.channels,
        "blocks": config.blocks,
        "parameters": {**counts, "total": sum(counts.values())},
        "macs_per_second": {**macs, "total": sum(macs.values())},
        "state_updates_per_second": round(frame_updates(config) * frames),
        "latency_ms": config.latency_ms if config.causal else None,
    }


def table(facts: dict[str, Any]) -> str:
    from audio_core.command import columns

    rows = [("", "  parameters", "multiply-adds a second")]
    for part, count in facts["parameters"].items():
        rows.append((part, f"{count:,}".rjust(12), f"{facts['macs_per_second'][part] / 1e6:,.0f} M".rjust(12)))
    delay = f"{facts['latency_ms']:g} ms, one window" if facts["causal"] else "it looks at the whole recording"
    return "\n".join(
        [
            f"SEMamba, {facts['rate']} Hz, {facts['frames_per_second']:g} frames a second, "
            f"{facts['channels']} channels, {facts['blocks']} blocks",
            f"\n{columns(rows)}\n",
            f"updates of scan states a second: {facts['state_updates_per_second'] / 1e6:,.0f} M",
            f"latency: {delay}",
        ]
    )
