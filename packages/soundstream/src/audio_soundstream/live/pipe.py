"""Live streams: 16-bit samples in, packets of one frame out as soon as it is known; and back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from audio_core.audio import to_int16
from audio_core.files import InputError, note

from ..codec import damage, decoded, encoded, header, opened, playable
from ..model import NeuralCodec
from ..sstr.bitstream import Writer

NAME = "standard input"


def encode(model: NeuralCodec, source: BinaryIO, target: BinaryIO, layers: int) -> None:
    """Little-endian mono samples at the codec's rate -> an .sstr stream whose length its last packet tells."""
    samples, rest = 0, b""

    def blocks() -> Iterator[np.ndarray]:
        nonlocal samples, rest
        for data in _arriving(source, 2 * model.hop):
            data = rest + data
            whole = len(data) - len(data) % 2
            samples, rest = samples + whole // 2, data[whole:]
            yield np.frombuffer(data[:whole], "<i2").astype(np.float32)[None] / 2**15

    writer = Writer(target, header(model, layers, None, 1))
    target.flush()  # whoever waits at the other end can tell whether the stream is for them
    for codes in encoded(model, blocks(), layers):
        writer.write(codes)
    writer.close(samples)
    if rest:
        note(f"{NAME}: ends within a sample of 16 bits; its one byte was left out")
    if not samples:
        raise InputError(f"{NAME}: holds no audio (0 samples)")


def _arriving(source: BinaryIO, most: int) -> Iterator[bytes]:
    """What is there, without waiting for more; Ctrl-C is a way to end a recording."""
    read = getattr(source, "read1", source.read)
    try:
        while data := read(most):
            yield data
    except KeyboardInterrupt:
        return


def decode(
    model: NeuralCodec,
    source: BinaryIO,
    target: BinaryIO,
    layers: int | None = None,
    conceal: bool = False,
) -> None:
    """An .sstr stream -> little-endian mono samples; the last frame comes whole, since its end is told after it."""
    reader = opened(model, source, NAME, conceal)
    for made in decoded(model, reader, layers):
        target.write(to_int16(playable(made)[0]).astype("<i2").tobytes())
        target.flush()
    if found := damage(reader):
        note(f"{NAME}: {found}")
