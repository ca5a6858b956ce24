"""A model for other machines: one file or folder a format, with what it costs there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from audio_core.command import columns
from audio_core.files import InputError, replacing
from torch import Tensor

from .. import cost
from ..model import ACDNet
from . import calibrate
from .quantise import IntegerModel, MapType, quantise


def export(
    model: ACDNet, out: str | Path, format: str, calibration: list[Tensor] | None = None, force: bool = False
) -> dict[str, Any]:
    """Write `model` as `format`, one of FORMATS, to `out`, a folder for C sources and else a file; returns its facts.

    `calibration`, batches from `calibrate`, sets the scales of integers; without it synthetic sounds do.
    """
    out, writer = Path(out), _WRITERS.get(format)
    if writer is None:
        raise InputError(f"format: expected {', '.join(_WRITERS)}, got {format!r}")
    if out.is_dir() and format in ("c", "c-16x8"):
        _own(out)
    if calibration is None and format != "onnx":
        calibration = calibrate.sounds(model.config)
    with replacing(out, force) as temporary:
        facts = writer(model, temporary, calibration)
    files = sorted(out.iterdir()) if out.is_dir() else [out]
    general = {"parameters": cost.parameters(model.config), "macs": cost.macs(model.config)}
    sizes = {path.name: path.stat().st_size for path in files}
    return {"format": format, "path": str(out), "files": sizes, **general, **facts}


def _own(folder: Path) -> None:
    """Replacing a folder deletes all that is in it: nothing but an earlier export may be."""
    from .c_code import FILES

    if others := sorted({path.name for path in folder.iterdir()} - set(FILES)):
        raise InputError(f"{folder}: holds {others[0]}, which no export does; choose another folder")


def table(facts: dict[str, Any]) -> str:
    """The facts of an export as text for people."""
    lines = [("", "bytes")]
    lines += list(facts["files"].items())
    if "flash_bytes" in facts:
        lines.append(("constants in flash", facts["flash_bytes"]))
    if plan := facts.get("memory"):
        lines += [("memory", sum(plan.values())), *((f"  {name}", size) for name, size in plan.items())]
    if facts.get("arena_bytes"):
        lines.append(("arena of TensorFlow Lite Micro", facts["arena_bytes"]))
    text = columns(lines) + f"\n\n{facts['macs']:,} multiply-adds a window, {facts['parameters']:,} parameters"
    if scale := facts.get("input"):
        text += f"\ninput: {scale['type']}, (integer - {scale['zero']}) * {scale['scale']:.6g}"
    return text


def _onnx(model: ACDNet, path: Path, crops: list[Tensor] | None) -> dict[str, Any]:
    from . import onnx

    onnx.write(model, path)
    return {}


def _onnx_int8(model: ACDNet, path: Path, crops: list[Tensor]) -> dict[str, Any]:
    from . import onnx

    onnx.write_int8(model, crops, path)
    return {}


def _tflite(model: ACDNet, path: Path, crops: list[Tensor]) -> dict[str, Any]:
    from audio_core.tflite import arena

    from . import tflite

    made = quantise(model, crops, "int8")
    data = tflite.to_bytes(made)
    path.write_bytes(data)
    return {"input": _input(made), "arena_bytes": arena(data)}


def _c(model: ACDNet, path: Path, crops: list[Tensor], map_type: MapType = "int8") -> dict[str, Any]:
    from . import c_code

    made = quantise(model, crops, "int16", map_type)
    path.mkdir()
    for name, text in c_code.sources(made).items():
        (path / name).write_text(text, encoding="utf-8")
    memory = c_code.memory_of(made)
    return {
        "input": _input(made),
        "flash_bytes": c_code.flash(made),
        "memory": memory,
        "memory_bytes": sum(memory.values()),
    }


def _input(made: IntegerModel) -> dict[str, Any]:
    """Of audio within -1 to 1, whatever level the model was trained at."""
    return {"type": made.input_type, "scale": made.input_scale / made.config.gain, "zero": made.input_zero}


_WRITERS: dict[str, Callable[..., dict[str, Any]]] = {
    "onnx": _onnx,
    "onnx-int8": _onnx_int8,
    "tflite-int8": _tflite,
    "c": _c,
    "c-16x8": partial(_c, map_type="int16"),
}
