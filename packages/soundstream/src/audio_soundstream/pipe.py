"""Live streams: 16-bit samples in, packets of one frame out as soon as it is known; and back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from audio_core.audio import to_int16

from .bitstream import Reader, Writer
from .codec import check, decoded, encoded, header, tables
from .model import NeuralCodec


def encode(model: NeuralCodec, source: BinaryIO, target: BinaryIO, layers: int) -> None:
    """Little-endian mono samples at the codec's rate -> an .sstr stream whose length its last packet tells."""
    read, samples = getattr(source, "read1", source.read), 0

    def blocks() -> Iterator[np.ndarray]:
        nonlocal samples
        rest = b""
        while data := read(2 * model.hop):
            data = rest + data
            whole = len(data) - len(data) % 2
            rest = data[whole:]
            samples += whole // 2
            yield np.frombuffer(data[:whole], "<i2").astype(np.float32)[None] / 2**15

    writer = Writer(target, header(model, layers, None, 1))
    for codes in encoded(model, blocks(), layers):
        writer.write(codes)
    writer.close(samples)


def decode(
    model: NeuralCodec, source: BinaryIO, target: BinaryIO, layers: int | None = None, conceal: bool = False
) -> None:
    """An .sstr stream -> little-endian mono samples."""
    reader = Reader(source, "standard input", tables(model), strict=not conceal)
    check(model, reader.header, "standard input")
    for block in decoded(model, reader, layers):
        target.write(to_int16(block[0]).astype("<i2").tobytes())
        target.flush()
