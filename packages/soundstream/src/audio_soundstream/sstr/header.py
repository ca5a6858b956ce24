"""The header of an .sstr stream, 48 bytes: its format, its length, and the model that it belongs to."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, replace
from typing import Any

from audio_core.files import InputError

from .entropy import bits_for, packed_bytes

_HEADER = struct.Struct("<4sBBBBHHIB3sIQ8sII")
HEADER_BYTES = _HEADER.size
_CODED, _OPEN = 1, 2  # flags
_UNKNOWN = 2**32 - 1, 2**64 - 1  # frames, samples
_BEGINNINGS = {
    b"RIFF": "a WAV file",
    b"fLaC": "a FLAC file",
    b"OggS": "an Ogg file",
    b"ID3": "an MP3 file",
    b"ECDC": "an .ecdc file of EnCodec",
    b"PK": "a zip or .npz file",
    b"\x93NUM": "a NumPy or .dac file",
}


@dataclass(frozen=True)
class Header:
    """The fields of a header."""

    rate: int
    """Samples per second."""
    hop: int
    """Samples that a frame stands for."""
    layers: int
    """Codes in a frame."""
    size: int
    """Codes to choose from, 2 to 65536, the same for all layers."""
    fingerprint: bytes
    """Eight bytes that stand for the model."""
    frames: int | None = None
    """None where it was not known when the stream began; the last packet has it."""
    samples: int | None = None
    """The exact length of the audio; None where `frames` is."""
    per_packet: int = 32
    """Frames in a packet, fewer in the last: 1 waits for nothing, 128 if coded."""
    tables: int | None = None
    """Checksum of the tables of entropy coding; None: not entropy coded."""

    def __post_init__(self) -> None:
        limits = {"rate": 2**32 - 1, "hop": 65535, "layers": 255, "size": 65536, "per_packet": 255}
        for name, most in limits.items():
            least = 2 if name == "size" else 1
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name}: expected {least} to {most}, got {getattr(self, name)}")
        if len(self.fingerprint) != 8:
            raise ValueError(f"fingerprint: expected 8 bytes, got {len(self.fingerprint)}")
        if (self.frames is None) != (self.samples is None):
            raise ValueError("frames and samples: expected both or neither")
        if self.frames is not None and self.samples is not None:
            if not 0 <= self.frames < _UNKNOWN[0]:
                raise ValueError(f"frames: expected 0 to {_UNKNOWN[0] - 1}, got {self.frames}")
            # Codecs round up or down, and some need a frame to flush: more than that is no rounding.
            if self.samples < 0 or abs(self.samples - self.frames * self.hop) >= 2 * self.hop:
                raise ValueError(f"{self.samples} samples are not what {self.frames} frames of {self.hop} stand for")

    @property
    def bits(self) -> int:
        """Width of a code."""
        return bits_for(self.size)

    @property
    def kbps(self) -> float:
        """The nominal bitrate, without the container."""
        return self.layers * self.bits * self.rate / self.hop / 1000

    @property
    def packets(self) -> int:
        """How many, of a stream whose length is known."""
        return -(-(self.frames or 0) // self.per_packet)

    def frames_in(self, packet: int) -> int:
        """Frames of a packet by its place from 0 on; 0 behind the last."""
        left = self.per_packet if self.frames is None else self.frames - packet * self.per_packet
        return max(0, min(left, self.per_packet))

    def packet_bytes(self, frames: int) -> int:
        """A whole packet without entropy coding."""
        return 6 + packed_bytes(self.bits, self.layers * frames)

    def to_bytes(self) -> bytes:
        flags = (_CODED if self.tables is not None else 0) | (_OPEN if self.frames is None else 0)
        frames, samples = _UNKNOWN if self.frames is None else (self.frames, self.samples)
        data = _HEADER.pack(
            *(b"SSTR", 1, flags, self.layers, 1, self.size - 1, self.hop, self.rate, self.per_packet, b"\0\0\0"),
            *(frames, samples, self.fingerprint, self.tables or 0, 0),
        )[:-4]
        return data + zlib.crc32(data).to_bytes(4, "little")

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> Header:
        """Refuses what is not a header, and names `name` in the message."""
        if data[:4] != b"SSTR":
            known = [what for start, what in _BEGINNINGS.items() if data.startswith(start)]
            kind = f"is {known[0]}" if known else f"begins with {data[:4].hex(' ')}" if data else "is empty"
            raise InputError(f"{name}: {kind}, where a .sstr stream was expected")
        if len(data) > 4 and data[4] != 1:
            raise InputError(f"{name}: has version {data[4]} of the format, and this program reads version 1")
        if len(data) < HEADER_BYTES:
            raise InputError(f"{name}: is truncated within its header")
        if zlib.crc32(data[:44]) != int.from_bytes(data[44:48], "little"):
            raise InputError(f"{name}: its header is damaged (CRC)")
        fields = _HEADER.unpack(data[:48])
        flags, layers, channels, last, hop, rate, per_packet, reserved, frames, samples, mark, tables, _ = fields[2:]
        coded, is_open = bool(flags & _CODED), bool(flags & _OPEN)
        if flags & ~(_CODED | _OPEN) or reserved != b"\0\0\0" or (tables and not coded):
            raise InputError(f"{name}: its header uses fields that mean nothing in version 1")
        if channels != 1:
            raise InputError(f"{name}: has {channels} channels, and this program reads one")
        if is_open != (frames == _UNKNOWN[0]) or is_open != (samples == _UNKNOWN[1]):
            raise InputError(f"{name}: its header contradicts itself about its length")
        try:
            header = cls(rate, hop, layers, last + 1, mark, None, None, per_packet, tables if coded else None)
            return header if is_open else replace(header, frames=frames, samples=samples)
        except ValueError as error:
            raise InputError(f"{name}: its header is impossible: {error}") from error


def expect(header: Header, name: str, **model: Any) -> None:
    """Refuse a stream of another model than the one with this `fingerprint`, `rate`, `hop`, `size` and `layers`."""
    for what, expected in model.items():
        value = getattr(header, what)
        if what == "fingerprint" and value != expected:
            marks = f"fingerprint {value.hex()}, this one is {expected.hex()}"
            raise InputError(f"{name}: was made by another model ({marks}); give that one")
        if value > expected if what == "layers" else value != expected:
            raise InputError(f"{name}: was made by another codec ({what} {value}, this one has {expected})")
