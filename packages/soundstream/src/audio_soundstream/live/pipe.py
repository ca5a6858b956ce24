"""Live streams on standard input: 16-bit samples to packets of one frame as soon as it is complete; and back."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from audio_core import audio
from audio_core.files import InputError, note, replacing

from ..codec import damage, decode_stream, decoded, encoded, header, opened, playable
from ..model import NeuralCodec
from ..sstr.bitstream import BRIDGE, Writer

NAME = "standard input"


def encode(model: NeuralCodec, source: BinaryIO, target: BinaryIO, layers: int) -> None:
    """Raw mono 16-bit samples at the codec's rate, or a WAV file -> an .sstr stream that ends with its length."""
    samples = 0

    def counted() -> Iterator[np.ndarray]:
        nonlocal samples
        for block in audio.arriving(source, model.sample_rate, model.hop, NAME, {b"SSTR": "an .sstr stream"}):
            samples += block.shape[1]
            yield block

    writer = Writer(target, header(model, layers, None, 1))
    target.flush()  # the receiver can check the header before the first frame
    for codes in encoded(model, counted(), layers):
        writer.write(codes)
    writer.close(samples)
    if not samples:
        raise InputError(f"{NAME}: holds no audio (0 samples)")


def encode_to(model: NeuralCodec, out: Path | None, layers: int, force: bool = False) -> None:
    """As `encode`, from standard input to a file, or to standard output."""
    if out is None:
        encode(model, sys.stdin.buffer, sys.stdout.buffer, layers)
        return
    if out.suffix.lower() != ".sstr":
        raise InputError(f"{out}: the name must end in .sstr")
    with replacing(out, force) as temporary, temporary.open("wb") as file:
        encode(model, sys.stdin.buffer, file, layers)


def decode(
    model: NeuralCodec,
    source: BinaryIO,
    target: BinaryIO,
    layers: int | None = None,
    conceal: bool = False,
    bridge: float = BRIDGE,
) -> None:
    """An .sstr stream -> raw mono 16-bit samples; the last frame comes whole, since the length comes after it."""
    reader = opened(model, source, NAME, conceal, bridge)
    for block in decoded(model, reader, layers):
        target.write(audio.to_int16(playable(block)[0]).astype("<i2").tobytes())
        target.flush()
    if text := damage(reader):
        note(f"{NAME}: {text}")


def decode_to(
    model: NeuralCodec, out: Path | None, layers: int | None, conceal: bool, bridge: float, force: bool = False
) -> None:
    """As `decode`, from standard input to an audio file, or to standard output."""
    if out is None:
        decode(model, sys.stdin.buffer, sys.stdout.buffer, layers, conceal, bridge)
        return
    how = {"conceal": conceal, "bridge": bridge, "force": force, "quiet": True}
    if text := decode_stream(model, sys.stdin.buffer, NAME, out, layers, **how):
        note(f"{NAME}: {text}")
