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
_OTHERS = {b"fLaC": "a FLAC file", b"OggS": "an Ogg file", b"SSTR": "an .sstr stream"}


def encode(model: NeuralCodec, source: BinaryIO, target: BinaryIO, layers: int) -> None:
    """Raw mono 16-bit samples at the codec's rate, or a WAV file -> an .sstr stream that ends with its length."""
    samples = 0

    def counted() -> Iterator[np.ndarray]:
        nonlocal samples
        for block in _arriving(model, source):
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


# --- samples that arrive -------------------------------------------------------------------------------------


def _arriving(model: NeuralCodec, source: BinaryIO) -> Iterator[np.ndarray]:
    """Blocks (1, any) of what is there, without waiting for more; Ctrl-C is a way to end a recording."""
    try:
        stream = _Begun(source)
        if stream.first in _OTHERS:
            raise InputError(f"{NAME}: is {_OTHERS[stream.first]}; a live stream is raw samples or a WAV file")
        yield from _wav(model, stream) if stream.first == b"RIFF" else _raw(model, stream)
    except KeyboardInterrupt:
        return


def _wav(model: NeuralCodec, stream: _Begun) -> Iterator[np.ndarray]:
    recording = audio.piped(stream, model.hop, NAME)
    if recording.rate != model.sample_rate:
        how = f"a live stream for this model has {model.sample_rate} Hz; resample it, as with ffmpeg -ar"
        raise InputError(f"{NAME}: is a WAV file of {recording.rate} Hz; {how}")
    if recording.channels != 1:
        note(f"{NAME}: {recording.channels} channels mixed to one")
    for block in recording.blocks:
        yield audio.convert_channels(block, 1)


def _raw(model: NeuralCodec, stream: _Begun) -> Iterator[np.ndarray]:
    rest = b""
    while data := stream.read1(2 * model.hop):
        data = rest + data
        whole = len(data) - len(data) % 2
        rest = data[whole:]
        yield np.frombuffer(data[:whole], "<i2").astype(np.float32)[None] / 2**15
    if rest:
        note(f"{NAME}: ends within a sample of 16 bits; its one byte was left out")


class _Begun:
    """A stream whose first four bytes have been looked at."""

    def __init__(self, stream: BinaryIO):
        self._read, self._read1 = stream.read, getattr(stream, "read1", stream.read)
        self.first = self._pending = stream.read(4)

    def read(self, count: int) -> bytes:
        data, self._pending = self._pending[:count], self._pending[count:]
        return data + self._read(count - len(data))

    def read1(self, count: int) -> bytes:
        data, self._pending = self._pending, b""
        return data or self._read1(count)
