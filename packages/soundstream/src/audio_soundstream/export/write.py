"""A codec's encoder for other machines: the formats, and what a model costs in each and on which board."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from audio_core.command import columns
from audio_core.export import c_text, write
from audio_core.export.tflite import arena
from audio_core.export.write import Format
from torch import Tensor

from .. import cost
from ..model import NeuralCodec
from . import c_code, calibrate, onnx, tflite
from .quantise import quantise


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
    """Write `model` as `format`, one of FORMATS, to `out`, a folder for C sources and else a file; return its facts.

    `calibration`, audio (B, 1, T) from `calibrate`, sets the scales of integers; without it synthetic sounds do.
    """
    facts = write.export(model, out, format, _FORMATS, lambda: calibrate.sounds(model.config), calibration, force)
    return {**facts, "macs_per_second": _macs(model)}


def _macs(model: NeuralCodec) -> dict[str, int]:
    """Multiply-adds for a second of audio."""
    frames = model.sample_rate / model.hop
    return {
        "encoder": int(cost.macs(model.encoder) * model.sample_rate),
        "search": int(cost.search_macs(model) * frames),
    }


def table(facts: dict[str, Any]) -> str:
    """The facts of an export as text for people."""
    work = facts["macs_per_second"]
    text = f"{write.sizes(facts)}\n\n{sum(work.values()) / 1e6:,.1f} million multiply-adds for a second of audio: "
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
    """The estimated load of each board on which the C code of these numbers makes sense."""
    macs, rows = sum(_macs(model).values()), []
    blocks = c_code.blocks_a_frame(model) * model.sample_rate / model.hop
    for board in BOARDS:
        rate = board.integer if integer else board.floating
        if rate is not None:
            load = (macs / rate + blocks * board.block) / (board.mhz * 1e6)
            rows.append({"board": board.name, "mhz": board.mhz, "macs_per_cycle": rate, "load": load})
    return rows


def _c(model: NeuralCodec, path: Path, sounds: list[Tensor], integer: bool = False) -> dict[str, Any]:
    coder = quantise(model, sounds) if integer else model
    c_text.write(path, c_code.sources(coder))
    flash = c_code.flash(coder)
    return {
        "flash_bytes": flash,
        "memory_bytes": c_code.memory(coder),
        "codebook_bytes_per_second": int(flash["codebooks"] * model.sample_rate / model.hop),
        "boards": _boards(model, integer),
    }


def _onnx(model: NeuralCodec, path: Path, sounds: list[Tensor]) -> dict[str, Any]:
    onnx.write(model, path)
    return {}


def _tflite(model: NeuralCodec, path: Path, sounds: list[Tensor]) -> dict[str, Any]:
    integers = quantise(model, sounds)
    content = tflite.to_bytes(integers, sounds)
    path.write_bytes(content)
    size = tflite.window(integers)
    window = {"type": "int16", "before": size.before, "samples": size.frames, "after": size.after}
    return {"input": window, "frames": tflite.FRAMES, "arena_bytes": arena(content)}


_FORMATS = {
    "c": Format(_c, files=c_code.FILES),
    "c-int8": Format(partial(_c, integer=True), integers=True, files=c_code.FILES),
    "onnx": Format(_onnx),
    "tflite-int8": Format(_tflite, integers=True),
}
