"""A causal model for other programs: the formats, and what they need."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from audio_core.export import write
from audio_core.export.write import Format
from audio_core.files import InputError, replacing
from torch import Tensor

from ..model import SEMamba
from . import onnx
from .frame import states


def export(
    model: SEMamba, out: str | Path, format: str, calibration: list[Tensor] | None = None, force: bool = False
) -> dict[str, Any]:
    """Write `model` as `format`, "onnx", to the file `out` and a page about its use beside it; return the facts.

    No format has integers, whose scales `calibration` would set.
    """
    out = Path(out)
    page = out.with_name(f"{out.name}.md")
    with replacing(page, force) as temporary:
        facts = write.export(model, out, format, _FORMATS, list, calibration, force)
        temporary.write_text(onnx.guide(model.config, out.name), encoding="utf-8")
    return {**facts, "files": {**facts["files"], page.name: page.stat().st_size}}


def table(facts: dict[str, Any]) -> str:
    """The facts of an export as text for people."""
    return (
        f"{write.sizes(facts)}\n\n"
        f"one frame of {facts['n_fft']} samples at {facts['rate']} Hz, every {facts['hop']} samples\n"
        f"latency: {facts['latency_ms']:g} ms\n"
        f"states: {facts['states']} tensors of together {facts['state_values']:,} numbers"
    )


def _onnx(model: SEMamba, path: Path, sounds: list[Tensor]) -> dict[str, Any]:
    config = model.config
    if not config.causal:
        raise InputError(
            "--format onnx: takes causal models, frame by frame, and this one looks at the whole recording; "
            "train one with model.causal=true, as the recipe small-causal does"
        )
    onnx.write(model, path)
    shapes = [value.shape for value in states(model.start()).values()]
    return {
        "rate": config.rate,
        "n_fft": config.n_fft,
        "hop": config.hop,
        "latency_ms": config.latency_ms,
        "states": len(shapes),
        "state_values": sum(math.prod(shape) for shape in shapes),
    }


_FORMATS = {"onnx": Format(_onnx)}
