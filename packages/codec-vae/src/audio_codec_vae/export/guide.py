"""The page beside the ONNX files of an autoencoder, with a program that uses them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

_TEXT = Path(__file__).with_name("onnx.md")


def page(facts: Mapping[str, Any], drops_rest: bool) -> str:
    """In Markdown, for files with this metadata. LyraCodec's encoder `drops_rest`: what does not fill a frame."""
    count, books = facts["channels"], len(facts["codebooks"])
    parts = {
        "count": count,
        "channels": f"{count} channel{'s' * (count > 1)}",
        "encoder_codes": f"| | gives | `codes` | int64 (batch, {books}, frames) |\n" if books else "",
        "dequantizer": _dequantizer(facts) if books else "",
        "ends": _ends(facts["least_frames"], drops_rest),
        "context": _context(facts["context"]),
    }
    return Template(_TEXT.read_text(encoding="utf-8")).substitute({**facts, **parts})


def _dequantizer(facts: Mapping[str, Any]) -> str:
    books = facts["codebooks"]
    sizes = f"{books[0]} entries each" if len({*books}) == 1 else f"{', '.join(map(str, books))} entries"
    return f"""| `dequantizer.onnx` | takes | `codes` | int64 (batch, {len(books)}, frames), of codebooks with {sizes} |
| | gives | `latents` | float32 (batch, {facts["width"]}, frames), for the decoder |
"""


def _ends(least: int, drops_rest: bool) -> str:
    if drops_rest:
        text = "Samples that do not fill a frame are dropped, so fill the last one with zeros first."
    else:
        text = "Zeros fill the last frame of audio."
    return text if least == 1 else f"{text} Audio must have at least {least} frames."


def _context(context: list[int]) -> str:
    if not context:
        return "Each result depends on the whole recording, so that a part of it alone gives others."
    samples, frames = context
    return (
        "Memory grows with the length. A long recording may go through in parts: a frame of latents depends on\n"
        f"{samples} samples to either side of its own, and its audio on {frames} frames to either side. Parts that\n"
        "bring so many along, in whole frames, give the same as the whole once the results for these are dropped."
    )
