"""A codec's encoder for other machines: one file or folder a format, with what it costs there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from audio_core.command import columns
from audio_core.files import InputError, replacing
from torch import Tensor

from .. import cost
from ..model import NeuralCodec
from . import calibrate


class Board(NamedTuple):
    """A processor, and how fast the C code is there: assumptions, not measurements."""

    name: str
    mhz: int
    integer: float
    """Multiply-adds in a cycle of one core, with 8-bit weights and 16-bit values."""
    floating: float | None
    """In floating point; None where the row is about integers only."""
    block: int
    """Cycles for everything around the multiplications of outputs that are computed together."""


BOARDS = (
    # Compiled for an lx106 and counted in an emulator: 7.5 instructions for a multiply-add in integers and 300 around
    # them; Espressif's own kernels in plain C take 10 to 13 cycles.
    Board("ESP32, plain C", 240, 0.10, 0.10, 300),
    Board("ESP32-S3, plain C", 240, 0.10, 0.15, 300),
    # Espressif's 8-bit kernels reach 1 (depthwise) to 2 in their own figures; values of 16 bits halve that. This is
    # what `soundstream_row` and the search could gain from being written for it; the code here is plain C.
    Board("ESP32-S3, if vectorised", 240, 0.80, None, 100),
    Board("Cortex-M4F", 168, 0.25, 0.15, 200),
    Board("Cortex-M7", 480, 0.45, 0.40, 150),
)


def export(
    model: NeuralCodec, out: str | Path, format: str, calibration: list[Tensor] | None = None, force: bool = False
) -> dict[str, Any]:
    """Write `model` as `format`, one of `_WRITERS`, to `out`, a folder for C sources and else a file; returns facts.

    `calibration`, audio (B, 1, T) from `calibrate`, sets the scales of integers; without it synthetic sounds do.
    """
    out, writer = Path(out), _WRITERS.get(format)
    if writer is None:
        raise InputError(f"format: expected {', '.join(_WRITERS)}, got {format!r}")
    if out.is_dir() and format in ("c", "c-int8"):
        _own(out)
    if calibration is None and format.endswith("int8"):
        calibration = calibrate.sounds(model.config)
    with replacing(out, force) as temporary:
        facts = writer(model, temporary, calibration)
    files = sorted(out.iterdir()) if out.is_dir() else [out]
    return {
        "format": format,
        "path": str(out),
        "files": {path.name: path.stat().st_size for path in files},
        "macs_per_second": _macs(model),
        **facts,
    }


def _own(folder: Path) -> None:
    """Replacing a folder deletes all that is in it: nothing but an earlier export may be."""
    from .c_code import FILES

    if others := sorted({path.name for path in folder.iterdir()} - set(FILES)):
        raise InputError(f"{folder}: holds {others[0]}, which no export does; choose another folder")


def _macs(model: NeuralCodec) -> dict[str, int]:
    """Multiply-adds for a second of audio."""
    frames = model.sample_rate / model.hop
    return {
        "encoder": int(cost.macs(model.encoder) * model.sample_rate),
        "search": int(cost.search_macs(model) * frames),
    }


def table(facts: dict[str, Any]) -> str:
    """The facts of an export as text for people."""
    lines: list[tuple[object, ...]] = [("", "bytes"), *facts["files"].items()]
    if flash := facts.get("flash_bytes"):
        lines += [("constants in flash", sum(flash.values()))]
        lines += [(f"  {name}", size) for name, size in flash.items()]
        lines += [("memory", facts["memory_bytes"])]
    if facts.get("arena_bytes"):
        lines.append(("arena of TensorFlow Lite Micro", facts["arena_bytes"]))
    work = facts["macs_per_second"]
    text = columns(lines) + f"\n\n{sum(work.values()) / 1e6:,.1f} million multiply-adds for a second of audio: "
    text += ", ".join(f"{name} {count / 1e6:,.1f}" for name, count in work.items())
    if reads := facts.get("codebook_bytes_per_second"):
        text += f"\n{reads / 1e6:,.1f} MB of codebooks are read in that time"
    if window := facts.get("input"):
        parts = f"{window['before']} + {window['samples']} + {window['after']}"
        text += f"\ninput: {parts} 16-bit samples, of which the middle ones become {facts['frames']} frames"
    if boards := facts.get("boards"):
        rows = [("estimated, not measured", "MHz", "multiply-adds a cycle, assumed", "load of one core")]
        rows += [(b["board"], b["mhz"], b["macs_per_cycle"], f"{b['load']:.0%}".rjust(16)) for b in boards]
        text += f"\n\n{columns(rows)}\nA load over 100 % is no real time."
    return text


def _boards(model: NeuralCodec, integer: bool) -> list[dict[str, Any]]:
    from .c_code import blocks_a_frame

    work, found = sum(_macs(model).values()), []
    blocks = blocks_a_frame(model) * model.sample_rate / model.hop
    for board in BOARDS:
        rate = board.integer if integer else board.floating
        if rate is not None:
            load = (work / rate + blocks * board.block) / (board.mhz * 1e6)
            found.append({"board": board.name, "mhz": board.mhz, "macs_per_cycle": rate, "load": load})
    return found


def _c(model: NeuralCodec, path: Path, sounds: list[Tensor] | None, integer: bool = False) -> dict[str, Any]:
    from . import c_code
    from .quantise import quantise

    made = quantise(model, sounds or []) if integer else model
    path.mkdir()
    for name, text in c_code.sources(made).items():
        (path / name).write_text(text, encoding="utf-8")
    flash = c_code.flash(made)
    return {
        "flash_bytes": flash,
        "memory_bytes": c_code.memory(made),
        "codebook_bytes_per_second": int(flash["codebooks"] * model.sample_rate / model.hop),
        "boards": _boards(model, integer),
    }


def _onnx(model: NeuralCodec, path: Path, sounds: list[Tensor] | None) -> dict[str, Any]:
    from . import onnx

    onnx.write(model, path)
    return {}


def _tflite(model: NeuralCodec, path: Path, sounds: list[Tensor]) -> dict[str, Any]:
    from audio_core.tflite import arena

    from . import tflite
    from .quantise import quantise

    made = quantise(model, sounds)
    data = tflite.to_bytes(made, sounds)
    path.write_bytes(data)
    size = tflite.window(made)
    window = {"type": "int16", "before": size.before, "samples": size.frames, "after": size.after}
    return {"input": window, "frames": tflite.FRAMES, "arena_bytes": arena(data)}


_WRITERS: dict[str, Callable[..., dict[str, Any]]] = {
    "c": _c,
    "c-int8": partial(_c, integer=True),
    "onnx": _onnx,
    "tflite-int8": _tflite,
}
