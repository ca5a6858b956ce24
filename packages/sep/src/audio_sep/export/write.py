"""A model for other programs: the formats, and what they need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from audio_core.export import write
from audio_core.export.write import Format
from audio_core.files import replacing
from torch import Tensor

from ..models.separator import SpectrogramSeparator
from . import onnx


def export(
    model: SpectrogramSeparator,
    out: str | Path,
    format: str,
    calibration: list[Tensor] | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Write `model` as `format`, "onnx", to the file `out` and a page about its use beside it; return the facts.

    No format has integers, whose scales `calibration` would set.
    """
    out = Path(out)
    page = out.with_name(f"{out.name}.md")
    with replacing(page, force) as temporary:
        facts = write.export(model, out, format, _FORMATS, list, calibration, force)
        temporary.write_text(onnx.guide(model, out.name), encoding="utf-8")
    return {**facts, "files": {**facts["files"], page.name: page.stat().st_size}}


def table(facts: dict[str, Any]) -> str:
    """The facts of an export as text for people."""
    segment = f"{facts['samples']} samples, {facts['samples'] / facts['rate']:g} s at {facts['rate']} Hz"
    return (
        f"{write.sizes(facts)}\n\n"
        f"{', '.join(facts['sources'])} of {facts['channels']} channels\n"
        f"a segment has {segment}; {facts['overlap']} samples overlap with the next"
    )


def _onnx(model: SpectrogramSeparator, path: Path, sounds: list[Tensor]) -> dict[str, Any]:
    onnx.write(model, path)
    config = model.config
    return {
        "rate": config.rate,
        "channels": config.channels,
        "sources": list(config.sources),
        **onnx.sizes(model),
    }


_FORMATS = {"onnx": Format(_onnx)}
