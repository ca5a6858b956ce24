"""Streams to write, read and damage, for the tests of the format."""

import io

import numpy as np
import pytest
from audio_core.files import InputError
from audio_soundstream.sstr.bitstream import Packet, Reader, Writer
from audio_soundstream.sstr.entropy import Tables
from audio_soundstream.sstr.header import Header

from .test_entropy import measured_tables

MARK = bytes.fromhex("0123456789abcdef")
GOLDEN = bytes.fromhex(
    "53535452 01 00 02 01 0500 0400 401f0000 04 000000 06000000 1600000000000000 0123456789abcdef 00000000 0939b645"
    "0000 04 02  053b00  3fa7"
    "0100 02 02  b050  408c"
)
GOLDEN_CODES = [[0, 1, 2, 3, 5, 4], [5, 4, 0, 0, 0, 5]]


def header(layers=4, frames=100, size=256, **more) -> Header:
    samples = None if frames is None else max(0, frames * 320 - 7)
    return Header(24000, 320, layers, size, MARK, frames, samples, **more)


def some_codes(head: Header, frames: int | None = None, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, head.size, (head.layers, head.frames if frames is None else frames))


def written(head: Header, codes: np.ndarray, tables: Tables | None = None, pieces: tuple[int, ...] = ()) -> bytes:
    file = io.BytesIO()
    writer = Writer(file, head, tables)
    for piece in np.split(codes, pieces, axis=1):
        writer.write(piece)
    writer.close(codes.shape[1] * head.hop)
    return file.getvalue()


def read(data: bytes, tables: Tables | None = None, **more) -> list[Packet]:
    return list(Reader(io.BytesIO(data), "a.sstr", tables, **more))


def joined(packets: list[Packet], layers: int) -> np.ndarray:
    assert all(packet.codes is not None and packet.codes.shape == (layers, packet.frames) for packet in packets)
    return np.concatenate([np.zeros((layers, 0), np.int32), *(packet.codes for packet in packets)], axis=1)


def fault(data: bytes, tables: Tables | None = None) -> str:
    with pytest.raises(InputError) as caught:
        read(data, tables)
    return str(caught.value)


def skewed(head: Header, frames: int = 2000, seed: int = 5) -> tuple[np.ndarray, Tables]:
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(head.size, 0.2), size=head.layers)
    codes = np.stack([rng.choice(head.size, frames, p=share) for share in shares])
    return codes, measured_tables(codes, head.size)


class Pipe(io.BytesIO):
    """Bytes of which nobody knows how many will come."""

    def seekable(self) -> bool:
        return False


def at(packet: int, head: Header) -> int:
    """Where a packet, from 1 on, begins."""
    return 48 + (packet - 1) * head.packet_bytes(head.per_packet)
