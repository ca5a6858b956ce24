"""An autoencoder for other programs: the formats, and what they need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from audio_core.export import write
from audio_core.export.write import Format
from torch import Tensor

from ..models.autoencoder import Autoencoder
from . import onnx


def export(
    model: Autoencoder, out: str | Path, format: str, calibration: list[Tensor] | None = None, force: bool = False
) -> dict[str, Any]:
    """Write `model` as `format`, "onnx", to the folder `out`; return the facts.

    No format has integers, whose scales `calibration` would set.
    """
    return write.export(model, out, format, _FORMATS, list, calibration, force)


def table(facts: dict[str, Any]) -> str:
    """The facts of an export as text for people."""
    audio = f"{facts['channels']} channel{'s' * (facts['channels'] > 1)} at {facts['rate']} Hz"
    text = f"{write.sizes(facts)}\n\n{facts['width']} values for every {facts['hop']} samples of {audio}"
    if facts["codebooks"]:
        text += f"\ncodes of {len(facts['codebooks'])} codebooks, which {onnx.DEQUANTIZER} turns into latents"
    return f"{text}\nof any batch and any length; {onnx.GUIDE} says how to use them"


def _onnx(model: Autoencoder, path: Path, sounds: list[Tensor]) -> dict[str, Any]:
    onnx.write(model, path)
    return onnx.metadata(model)


_FORMATS = {"onnx": Format(_onnx, files=onnx.FILES)}
