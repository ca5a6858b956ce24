"""A model for other machines: the formats, and what a model costs in each."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from audio_core.export import c_text, write
from audio_core.export.tflite import arena
from audio_core.export.write import Format
from torch import Tensor

from .. import cost
from ..model import ACDNet
from . import c_code, calibrate, onnx, tflite
from .quantise import IntegerModel, MapType, quantise


def export(
    model: ACDNet, out: str | Path, format: str, calibration: list[Tensor] | None = None, force: bool = False
) -> dict[str, Any]:
    """Write `model` as `format`, one of FORMATS, to `out`, a folder for C sources and else a file; return its facts.

    `calibration`, batches of crops from `calibrate`, sets the scales of integers; without it synthetic sounds do.
    """
    facts = write.export(model, out, format, _FORMATS, lambda: calibrate.sounds(model.config), calibration, force)
    return {**facts, "parameters": cost.parameters(model.config), "macs": cost.macs(model.config)}


def table(facts: dict[str, Any]) -> str:
    """The facts of an export as text for people."""
    text = f"{write.sizes(facts)}\n\n{facts['macs']:,} multiply-adds a window, {facts['parameters']:,} parameters"
    if scale := facts.get("input"):
        text += f"\ninput: {scale['type']}, (integer - {scale['zero']}) * {scale['scale']:.6g}"
    return text


def _onnx(model: ACDNet, path: Path, crops: list[Tensor]) -> dict[str, Any]:
    onnx.write(model, path)
    return {}


def _onnx_int8(model: ACDNet, path: Path, crops: list[Tensor]) -> dict[str, Any]:
    onnx.write_int8(model, crops, path)
    return {}


def _tflite(model: ACDNet, path: Path, crops: list[Tensor]) -> dict[str, Any]:
    integers = quantise(model, crops, "int8")
    content = tflite.to_bytes(integers)
    path.write_bytes(content)
    return {"input": _input(integers), "arena_bytes": arena(content)}


def _c(model: ACDNet, path: Path, crops: list[Tensor], map_type: MapType = "int8") -> dict[str, Any]:
    integers = quantise(model, crops, "int16", map_type)
    c_text.write(path, c_code.sources(integers))
    memory = c_code.memory_of(integers)
    return {
        "input": _input(integers),
        "flash_bytes": c_code.flash(integers),
        "memory": memory,
        "memory_bytes": sum(memory.values()),
    }


def _input(integers: IntegerModel) -> dict[str, Any]:
    """Scale and zero point for audio within -1 to 1, whatever level the model was trained at."""
    scale = integers.input_scale / integers.config.gain
    return {"type": integers.input_type, "scale": scale, "zero": integers.input_zero}


_FORMATS = {
    "onnx": Format(_onnx),
    "onnx-int8": Format(_onnx_int8, integers=True),
    "tflite-int8": Format(_tflite, integers=True),
    "c": Format(_c, integers=True, files=c_code.FILES),
    "c-16x8": Format(partial(_c, map_type="int16"), integers=True, files=c_code.FILES),
}
