"""Audio that comes through a pipe: a WAV file, whose header is read once, or raw samples; taken as they arrive."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import BinaryIO, NamedTuple

import numpy as np

from ..files import InputError, note
from .arrays import Samples
from .converting import convert_channels

_UNKNOWN = 0x7FFF0000  # sizes from here on, and 0, are written by programs that cannot seek back in a pipe
_INTEGER, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_OTHERS = {b"fLaC": "a FLAC file", b"OggS": "an Ogg file"}


class Piped(NamedTuple):
    """A recording (C, T) of unknown length: blocks (C, any) at `rate`."""

    rate: int
    channels: int
    blocks: Iterator[Samples]


def piped(stream: BinaryIO | _Begun, frames: int = 4096, name: str = "standard input") -> Piped:
    """The WAV file that `stream` gives, in blocks of `frames` samples; only the last may be shorter.

    A file that ends before the length in its header is an error at its end; a header without a length is none.
    """
    head = _exactly(stream, 12, name)
    if head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
        raise InputError(
            f"{name}: is no WAV file with a header; a pipe must bring one, such as `ffmpeg -i FILE -f wav -`"
        )
    layout: tuple[int, int, int, int] | None = None
    while True:
        kind, size = struct.unpack("<4sI", _exactly(stream, 8, name))
        if kind == b"data":
            break
        if size > 1 << 20:
            raise InputError(f"{name}: its header holds a part of {size} bytes before the samples")
        part = _exactly(stream, size + size % 2, name)
        if kind == b"fmt ":
            layout = _layout(part, name)
    if layout is None:
        raise InputError(f"{name}: its header does not say what the samples are (no part `fmt `)")
    code, channels, rate, width = layout
    total = None if size == 0 or size >= _UNKNOWN else size // (width * channels)
    return Piped(rate, channels, _blocks(stream, frames, code, channels, width, total, name))


def arriving(
    stream: BinaryIO, rate: int, frames: int, name: str = "standard input", others: Mapping[bytes, str] | None = None
) -> Iterator[Samples]:
    """Live mono audio at `rate`: raw 16-bit samples, or a WAV file, as blocks (1, up to `frames`) of what is there.

    Ctrl-C ends a recording. `others` names further formats, by their first four bytes, that are refused.
    """
    try:
        begun = _Begun(stream)
        if kind := {**_OTHERS, **(others or {})}.get(begun.first):
            raise InputError(f"{name}: is {kind}; a live stream is raw samples or a WAV file")
        yield from _wav(begun, rate, frames, name) if begun.first == b"RIFF" else _raw(begun, frames, name)
    except KeyboardInterrupt:
        return


def _wav(stream: _Begun, rate: int, frames: int, name: str) -> Iterator[Samples]:
    recording = piped(stream, frames, name)
    if recording.rate != rate:
        how = f"a live stream for this model has {rate} Hz; resample it, as with ffmpeg -ar"
        raise InputError(f"{name}: is a WAV file of {recording.rate} Hz; {how}")
    if recording.channels != 1:
        note(f"{name}: {recording.channels} channels mixed to one")
    for block in recording.blocks:
        yield convert_channels(block, 1)


def _raw(stream: _Begun, frames: int, name: str) -> Iterator[Samples]:
    rest = b""
    while data := stream.read1(2 * frames):
        data = rest + data
        whole = len(data) - len(data) % 2
        rest = data[whole:]
        yield np.frombuffer(data[:whole], "<i2").astype(np.float32)[None] / 2**15
    if rest:
        note(f"{name}: ends within a sample of 16 bits; its one byte was left out")


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


# --- headers and samples of WAV ----------------------------------------------------------------------------


def _exactly(stream: BinaryIO | _Begun, count: int, name: str) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise InputError(f"{name}: ends within the header of a WAV file" if data else f"{name}: is empty")
    return data


def _layout(part: bytes, name: str) -> tuple[int, int, int, int]:
    """Code, channels, rate and bytes a sample of the part `fmt `."""
    if len(part) < 16:
        raise InputError(f"{name}: its header is damaged (part `fmt ` of {len(part)} bytes)")
    code, channels, rate, _, _, bits = struct.unpack("<HHIIHH", part[:16])
    if code == _EXTENSIBLE and len(part) >= 26:
        code = struct.unpack("<H", part[24:26])[0]
    if (code, bits) not in ((_INTEGER, 8), (_INTEGER, 16), (_INTEGER, 24), (_INTEGER, 32), (_FLOAT, 32), (_FLOAT, 64)):
        raise InputError(f"{name}: holds samples of kind {code} in {bits} bits; send 16, 24 or 32 bits or floats")
    if not 1 <= channels <= 1024 or not rate:  # 1024 is libsndfile's limit too
        raise InputError(f"{name}: its header claims {channels} channels at {rate} Hz")
    return code, channels, rate, bits // 8


def _blocks(
    stream: BinaryIO | _Begun, frames: int, code: int, channels: int, width: int, total: int | None, name: str
) -> Iterator[Samples]:
    taken = 0
    while total is None or taken < total:
        count = frames if total is None else min(frames, total - taken)
        data = stream.read(count * channels * width)
        whole = len(data) // (channels * width)
        if whole:
            block = _decoded(data[: whole * channels * width], code, width).reshape(whole, channels).T
            if not np.isfinite(block).all():
                at = taken + int(np.argmax(~np.isfinite(block).all(0)))
                raise InputError(f"{name}: holds NaN or infinity at sample {at}")
            taken += whole
            yield np.ascontiguousarray(block)
        if whole < count:
            break
    if total is not None and taken < total:
        raise InputError(f"{name}: is truncated: {total} samples promised, {taken} came")
    if not taken:
        raise InputError(f"{name}: holds no samples")


def _decoded(data: bytes, code: int, width: int) -> np.ndarray:
    """Little-endian samples as float32, full scale at -1 to 1."""
    if code == _FLOAT:
        with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinity
            return np.frombuffer(data, f"<f{width}").astype(np.float32)
    if width == 1:  # the only unsigned one
        return (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128
    if width == 3:  # into the upper 24 of 32 bits
        padded = np.zeros((len(data) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return (padded.view("<i4")[:, 0] / 2.0**31).astype(np.float32)
    return (np.frombuffer(data, f"<i{width}") / 2.0 ** (8 * width - 1)).astype(np.float32)
