"""Live streams on standard input: 16-bit samples to packets of one frame as soon as it is complete; and back."""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from audio_core.audio import to_int16
from audio_core.files import InputError, note, replacing

from ..codec import damage, decode_stream, decoded, encoded, header, opened, playable
from ..model import NeuralCodec
from ..sstr.bitstream import BRIDGE, Writer

NAME = "standard input"
_ENDLESS = 0x7FFF0000  # programs that write a WAV file to a pipe put such a length, or 0, into its header
_OTHERS = {b"fLaC": "a FLAC file", b"OggS": "an Ogg file", b"RF64": "an RF64 file", b"SSTR": "an .sstr stream"}


def encode(model: NeuralCodec, source: BinaryIO, target: BinaryIO, layers: int) -> None:
    """Mono 16-bit samples at the codec's rate, raw or as a WAV file -> an .sstr stream that ends with its length."""
    samples, rest = 0, b""

    def blocks() -> Iterator[np.ndarray]:
        nonlocal samples, rest
        for data in _arriving(model, source):
            data = rest + data
            whole = len(data) - len(data) % 2
            samples, rest = samples + whole // 2, data[whole:]
            yield np.frombuffer(data[:whole], "<i2").astype(np.float32)[None] / 2**15

    writer = Writer(target, header(model, layers, None, 1))
    target.flush()  # the receiver can check the header before the first frame
    for codes in encoded(model, blocks(), layers):
        writer.write(codes)
    writer.close(samples)
    if rest:
        note(f"{NAME}: ends within a sample of 16 bits; its one byte was left out")
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
        target.write(to_int16(playable(block)[0]).astype("<i2").tobytes())
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


def _arriving(model: NeuralCodec, source: BinaryIO) -> Iterator[bytes]:
    """The bytes of samples that are there, without waiting for more; Ctrl-C is a way to end a recording."""
    read = getattr(source, "read1", source.read)
    try:
        first, left = _exactly(source, 4), math.inf
        if first in _OTHERS:
            raise InputError(f"{NAME}: is {_OTHERS[first]}; a live stream is encoded from raw samples or a WAV file")
        if first == b"RIFF":
            first, left = b"", _wav_bytes(source, model.sample_rate)
        if first:
            yield first
        while left > 0 and (data := read(2 * model.hop if left == math.inf else min(2 * model.hop, int(left)))):
            left -= len(data)
            yield data
    except KeyboardInterrupt:
        return


def _wav_bytes(source: BinaryIO, rate: int) -> float:
    """Read the header of a WAV file behind its first four bytes; returns the bytes of samples that follow."""
    if _exactly(source, 8)[4:] != b"WAVE":
        raise InputError(f"{NAME}: begins as a WAV file and is none")
    checked = False
    while len(chunk := _exactly(source, 8)) == 8:
        kind, size = struct.unpack("<4sI", chunk)
        if kind == b"data":
            if not checked:
                break
            return math.inf if size == 0 or size >= _ENDLESS else size
        data = _exactly(source, min(size + size % 2, 1 << 16))
        if kind == b"fmt " and len(data) >= 16:
            _check_format(data, rate)
            checked = True
    raise InputError(f"{NAME}: its WAV header is damaged or cut short")


def _check_format(data: bytes, rate: int) -> None:
    code, channels, own_rate, _, _, bits = struct.unpack_from("<HHIIHH", data)
    if code == 0xFFFE and len(data) >= 26:  # extensible: the code stands further behind
        code = int.from_bytes(data[24:26], "little")
    if (code, channels, own_rate, bits) != (1, 1, rate, 16):
        kind = {1: "integers", 3: "floats"}.get(code, f"format {code}")
        own = f"{own_rate} Hz, {channels} channel{'s' * (channels != 1)}, {bits}-bit {kind}"
        raise InputError(f"{NAME}: is a WAV file of {own}; a live stream takes {rate} Hz, 1 channel, 16-bit integers")


def _exactly(source: BinaryIO, count: int) -> bytes:
    """`count` bytes, fewer only at the end."""
    data = source.read(count) or b""
    while len(data) < count and (more := source.read(count - len(data))):
        data += more
    return data
