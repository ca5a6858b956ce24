"""The ONNX file of a model, and the page beside it that says how to use it.

The file takes audio of one length, a segment, and gives its stems. Its metadata holds what a program needs to feed it.
"""

from __future__ import annotations

import json
from pathlib import Path
from string import Template

import torch
from audio_core.export.onnx import export

from ..models.separator import SpectrogramSeparator
from ..separate import Separator
from .whole import Whole

AUDIO, STEMS = "audio", "stems"
_EXTRA = "audio-sep[onnx]"
_GUIDE = Path(__file__).with_name("onnx.md")


def write(model: SpectrogramSeparator, path: Path) -> None:
    config = model.config
    generator = torch.Generator().manual_seed(0)
    audio = 0.1 * torch.randn(1, config.channels, sizes(model)["samples"], generator=generator)
    export(Whole(model), path, {AUDIO: audio}, (STEMS,), {}, metadata(model), _EXTRA)


def sizes(model: SpectrogramSeparator) -> dict[str, int]:
    """How long a segment is, and how much of it overlaps with the next; as `separate` has it."""
    segment = Separator(model).sizes
    return {"samples": segment["segment"], "overlap": segment["overlap"]}


def metadata(model: SpectrogramSeparator) -> dict[str, str]:
    facts = {"rate": model.config.rate, "channels": model.config.channels, **sizes(model)}
    return {**{name: str(value) for name, value in facts.items()}, "sources": json.dumps(model.config.sources)}


def guide(model: SpectrogramSeparator, file: str) -> str:
    """The page, in Markdown, for a file of this name."""
    facts, config = sizes(model), model.config
    return Template(_GUIDE.read_text(encoding="utf-8")).substitute(
        facts,
        file=file,
        rate=config.rate,
        channels=config.channels,
        count=len(config.sources),
        sources=", ".join(config.sources),
        hop=facts["samples"] - facts["overlap"],
        seconds=f"{facts['samples'] / config.rate:g}",
    )
