"""The container .sstr: a header of 48 bytes, then packets that stand alone. docs/soundstream-format.md has the tables.

A packet holds its codes layer after layer, so that a lower bitrate is a shorter packet and nothing is encoded again.
Written and read in one pass with a packet in memory, through pipes as well. What is read is never trusted: every byte
is under a checksum, and nothing is allocated that the file does not hold.
"""

from __future__ import annotations

import math
import struct
from binascii import crc_hqx
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from audio_core.files import InputError, note, reason, replacing

from .entropy import Tables, bits_for, first_layers, from_payload, packed_bytes, payload_limit, to_payload
from .header import HEADER_BYTES, Header

# --- packets -----------------------------------------------------------------------------------------------

_END = struct.Struct("<IQ")  # frames, samples


def _seal(sequence: int, frames: int, layers: int, payload: bytes, coded: bool) -> bytes:
    head = struct.pack("<HBB", sequence & 0xFFFF, frames, layers)
    data = head + (len(payload).to_bytes(4, "little") if coded else b"") + payload
    return data + crc_hqx(data, 0xFFFF).to_bytes(2, "little")


def _end(header: Header, packets: int) -> bytes:
    return _seal(packets, 0, 0, _END.pack(header.frames, header.samples), header.tables is not None)


def _sound(packet: bytes) -> bool:
    return crc_hqx(packet[:-2], 0xFFFF) == int.from_bytes(packet[-2:], "little")


def to_packet(sequence: int, codes: np.ndarray, size: int) -> bytes:
    """A packet for a network: codes (layers, frames) with a number that wraps at 65536."""
    return _seal(sequence, codes.shape[1], codes.shape[0], to_payload(codes, size), False)


def from_packet(data: bytes, size: int, name: str = "packet") -> tuple[int, np.ndarray]:
    """(number, codes) of such a packet; an InputError where it is damaged."""
    if len(data) < 6 or not _sound(data):
        raise InputError(f"{name}: is damaged (CRC)")
    sequence, frames, layers = struct.unpack_from("<HBB", data)
    if not frames or not layers or len(data) != 6 + packed_bytes(bits_for(size), layers * frames):
        raise InputError(f"{name}: {len(data)} bytes cannot hold {frames} frames of {layers} codes below {size}")
    try:
        return sequence, from_payload(data[4:-2], layers, frames, size)
    except ValueError as error:
        raise InputError(f"{name}: {error}") from error


BRIDGE = 10.0
"""Seconds without a packet that are bridged, if damage is bridged at all: a header costs nothing and may claim days."""


class Packet(NamedTuple):
    start: int
    """The first of its frames."""
    frames: int
    codes: np.ndarray | None
    """int32 (layers, frames); None where the packet was damaged or lost."""


# --- writing -----------------------------------------------------------------------------------------------


class Writer:
    """Writes codes to a stream, in any number of pieces; `close` writes the rest."""

    def __init__(self, file: BinaryIO, header: Header, tables: Tables | None = None):
        """Entropy coded with `tables`, whose checksum goes into the header. The file stays open."""
        self.header = replace(header, tables=tables.checksum if tables else None)
        self._file, self._tables, self._index, self._frames = file, tables, 0, 0
        self._pending = np.zeros((header.layers, 0), np.int32)  # codes that do not fill a packet yet
        if tables and not tables.fit(header.layers, header.size):
            raise ValueError(f"tables: expected {header.layers} layers of {header.size}, got {tables.cdfs.shape}")
        file.write(self.header.to_bytes())

    def write(self, codes: np.ndarray) -> None:
        """Codes (layers, any number of frames)."""
        codes = np.asarray(codes)
        if codes.ndim != 2 or len(codes) != self.header.layers or codes.dtype.kind not in "iu":
            raise ValueError(f"expected integers ({self.header.layers}, frames), got {codes.dtype} {codes.shape}")
        if codes.size and not 0 <= int(codes.min()) <= int(codes.max()) < self.header.size:
            raise ValueError(f"expected codes from 0 to {self.header.size - 1}, got {codes.min()} to {codes.max()}")
        pending = np.concatenate([self._pending, codes.astype(np.int32)], axis=1)
        whole = pending.shape[1] - pending.shape[1] % self.header.per_packet
        for start in range(0, whole, self.header.per_packet):
            self._put(pending[:, start : start + self.header.per_packet])
        self._pending = pending[:, whole:]
        self._file.flush()  # the receiver waits for it

    def close(self, samples: int | None = None) -> None:
        """End the stream; where it began without a length, `samples` is written now."""
        if self._pending.shape[1]:
            self._put(self._pending)
        if self.header.frames is None:
            self._file.write(_end(replace(self.header, frames=self._frames, samples=samples), self._index))
        elif self._frames != self.header.frames:
            raise ValueError(f"wrote {self._frames} frames, and the header promises {self.header.frames}")
        self._file.flush()

    def _put(self, codes: np.ndarray) -> None:
        layers, frames = codes.shape
        payload = to_payload(codes, self.header.size, self._tables)
        self._file.write(_seal(self._index, frames, layers, payload, self._tables is not None))
        self._index += 1
        self._frames += frames


# --- reading -----------------------------------------------------------------------------------------------


class _Damage(Exception):
    """What is wrong with a packet, as the rest of a sentence about it."""


class _Lost(_Damage):
    """And nothing says where the next one begins."""


class Reader:
    """The packets of a stream. `strict`: the first fault is an InputError; else damaged and lost ones come as None.

    More than `bridge` seconds of missing packets in a row are an InputError in any case.
    """

    def __init__(
        self, file: BinaryIO, name: str, tables: Tables | None = None, strict: bool = True, bridge: float = BRIDGE
    ):
        """Reads and checks the header. `name` is what messages call the stream."""
        self.header = self._began = Header.from_bytes(_read(file, HEADER_BYTES), name)
        """Where a stream began without a length, this has it once the end has been read."""
        self.damaged, self.truncated = 0, False
        """The number of packets that came as None, and whether the end is missing."""
        self._file, self._name, self._strict, self._bridge, self._index = file, name, strict, bridge, 0
        self._coded = self.header.tables is not None
        self._tables = tables if self._coded else None
        fits = not self._tables or self._tables.fit(self.header.layers, self.header.size)
        if self._tables and (not fits or self._tables.checksum != self.header.tables):
            raise InputError(f"{name}: is entropy coded with other tables than this model's")
        self.payloads: Iterator[tuple[int, int, bytes | None]] = self._walk()
        """(place from 0 on, frames, bytes) of each packet, its checksum verified and nothing decoded."""
        self._body = file.tell() if file.seekable() else None
        if strict and self._body is not None and self.header.frames is not None:
            self._check_size(file.seek(0, 2) - file.seek(self._body))

    def __iter__(self) -> Iterator[Packet]:
        if self._coded and self._tables is None:
            raise InputError(f"{self._name}: is entropy coded, and this model has no tables for it")
        for index, frames, payload in self.payloads:
            codes = None
            if payload is not None:
                try:
                    codes = from_payload(payload, self.header.layers, frames, self.header.size, self._tables)
                except ValueError as error:
                    self._fault(f"packet {index + 1} {error}")
                    self.damaged += 1
            yield Packet(index * self.header.per_packet, frames, codes)

    def _walk(self) -> Iterator[tuple[int, int, bytes | None]]:
        short = 0  # frames of a packet that was not full: nothing but the end may follow it
        while expected := self.header.frames_in(self._index):
            try:
                sequence, frames, payload = self._next(expected)
                skipped = (sequence - self._index + 0x8000 & 0xFFFF) - 0x8000  # numbers wrap
                place = self._index + skipped
                if skipped < 0:
                    self._fault(f"packet {self._index + 1} has number {sequence}: it came late or twice")
                    continue
                if frames == 0:
                    self.header = self._ended(payload, place, short)
                elif short or (self.header.frames is not None and frames != self.header.frames_in(place)):
                    raise _Damage(f"has {frames} frames and number {sequence} where others were expected")
            except EOFError:
                self.truncated = True
                of = "" if self.header.frames is None else f" of {self.header.packets}"
                self._fault(f"is truncated after packet {self._index}{of}")
                return
            except _Damage as damage:
                self._fault(f"packet {self._index + 1} {damage}")
                yield self._lose()
                if isinstance(damage, _Lost):
                    self.truncated = True
                    return
                continue
            if skipped:
                self._fault(f"packet {self._index + 1} is missing" + f", and {skipped - 1} after it" * (skipped > 1))
                self._check_gap(skipped)
            for _ in range(skipped):
                yield self._lose()
            if frames:
                short = frames % self.header.per_packet
                self._index += 1
                yield self._index - 1, frames, payload
        if _read(self._file, 1):
            self._fault("goes on behind its end")

    def seek(self, frame: int) -> int:
        """Go on with the packet that holds `frame`; returns the first frame of that packet. Not for pipes."""
        if self._body is None:
            raise InputError(f"{self._name}: is a pipe, and cannot be entered in the middle")
        self.header = header = self._began
        if not 0 <= frame < (2**32 if header.frames is None else header.frames):
            raise InputError(f"{self._name}: has no frame {frame}")
        index, self._index = frame // header.per_packet, 0
        self._file.seek(self._body)
        if header.frames is not None and not self._coded:  # all packets but the last are of one size
            self._file.seek(index * header.packet_bytes(header.per_packet), 1)
            self._index = index
        self.payloads = self._walk()
        packet = next(islice(self.payloads, index - self._index, None), None)
        if packet is None:
            raise InputError(f"{self._name}: has no frame {frame}")
        self.payloads = chain([packet], self.payloads)
        return index * header.per_packet

    def _next(self, expected: int) -> tuple[int, int, bytes]:
        """(number, frames, payload) of the packet that follows in the file; no frames is the end packet."""
        header, begin = self.header, 8 if self._coded else 4
        head = _exactly(self._file, begin)
        sequence, frames, layers = struct.unpack_from("<HBB", head)
        ended = header.frames is None and frames == layers == 0
        likely = ended or (layers == header.layers and 1 <= frames <= expected)
        if self._coded:
            size = 10 + int.from_bytes(head[4:], "little")
            if not likely or size - 10 > (_END.size if ended else payload_limit(layers, frames)):
                raise _Lost(f"is damaged: {frames} frames of {layers} codes in {size} bytes")
        else:
            size = 6 + _END.size if ended else header.packet_bytes(frames if likely else expected)
        packet = head + _exactly(self._file, size - begin)
        if not likely:
            raise _Damage(f"is damaged: {frames} frames of {layers} codes")
        if not _sound(packet):
            if not self._coded:  # it may have been its size that was hit
                _exactly(self._file, max(0, header.packet_bytes(expected) - size))
            raise _Damage("is damaged (CRC)")
        return sequence, frames, packet[begin:-2]

    def _ended(self, payload: bytes, packets: int, short: int) -> Header:
        """The header as it would have been, had the length been known when the stream began."""
        if len(payload) != _END.size:
            raise _Damage("is no end")
        frames, samples = _END.unpack(payload)
        try:
            header = replace(self.header, frames=frames, samples=samples)
        except ValueError as error:
            raise _Damage(f"ends the stream impossibly: {error}") from error
        came = self._index * header.per_packet - (header.per_packet - short if short else 0)
        if packets != header.packets or (frames != came and (short or packets == self._index)):
            raise _Damage(f"ends the stream after {frames} frames, and others came")
        return header

    def _lose(self) -> tuple[int, int, None]:
        self.damaged += 1
        self._index += 1
        return self._index - 1, self.header.frames_in(self._index - 1), None

    def _fault(self, text: str) -> None:
        if self._strict:
            raise InputError(f"{self._name}: {text}")

    def _check_gap(self, packets: int) -> None:
        header = self.header
        seconds = packets * header.per_packet * header.hop / header.rate
        if seconds > self._bridge:
            missing = f"packets for {seconds:.4g} s are missing after packet {self._index}"
            limit = f"at most {self._bridge:g} s are bridged; --bridge allows more"
            raise InputError(f"{self._name}: {missing}, and {limit}")

    def _check_size(self, available: int) -> None:
        header = self.header
        if self._coded:
            if available < header.packets * (10 + 2 * header.layers):
                raise InputError(f"{self._name}: is truncated: {available} bytes cannot be {header.packets} packets")
            return
        whole, rest = divmod(header.frames or 0, header.per_packet)
        size = header.packet_bytes(header.per_packet)
        if available < whole * size + (header.packet_bytes(rest) if rest else 0):
            raise InputError(f"{self._name}: is truncated: it holds {available // size} of {header.packets} packets")


def _read(file: BinaryIO, count: int) -> bytes:
    """`count` bytes, fewer only at the end; a pipe gives what it has, and is asked again."""
    data = file.read(count) or b""
    while len(data) < count and (more := file.read(count - len(data))):
        data += more
    return data


def _exactly(file: BinaryIO, count: int) -> bytes:
    data = _read(file, count)
    if len(data) < count:
        raise EOFError
    return data


# --- whole streams -----------------------------------------------------------------------------------------


def cut(source: BinaryIO, target: BinaryIO, layers: int, name: str) -> None:
    """Lower the bitrate of a stream to its first `layers`: bytes are left out, nothing is decoded or encoded."""
    reader = Reader(source, name)
    header, packets = reader.header, 0
    if not 1 <= layers <= header.layers:
        raise InputError(f"{name}: has {header.layers} layers, and {layers} were asked for")
    coded = header.tables is not None
    target.write(replace(header, layers=layers).to_bytes())
    for index, frames, payload in reader.payloads:
        assert payload is not None  # a strict reader raises instead
        try:
            first = first_layers(payload, layers, frames, header.size, coded)
        except ValueError as error:
            raise InputError(f"{name}: packet {index + 1} {error}") from error
        target.write(_seal(index, frames, layers, first, coded))
        target.flush()
        packets = index + 1
    if header.frames is None:
        target.write(_end(reader.header, packets))
        target.flush()


def cut_file(path: str | Path, out: str | Path, kbps: float, force: bool = False) -> None:
    """Lower the bitrate of an .sstr file to `kbps`, which is one of those that its first layers make."""
    name = str(path)
    try:
        with Path(path).open("rb") as source, replacing(out, force) as temporary:
            header = Header.from_bytes(source.read(HEADER_BYTES), name)
            rates = [header.kbps * count / header.layers for count in range(1, header.layers + 1)]
            layers = [count for count, rate in enumerate(rates, 1) if math.isclose(rate, kbps, rel_tol=0.005)]
            if not layers:
                known = ", ".join(f"{rate:g}" for rate in rates)
                raise InputError(f"{kbps:g} kbit/s is no bitrate of {name}; possible are {known}")
            source.seek(0)
            with temporary.open("wb") as target:
                cut(source, target, layers[0], name)
    except OSError as error:
        raise InputError(f"{name}: {reason(error)}") from None


def describe_all(paths: Iterable[Path]) -> tuple[list[dict[str, Any]], int]:
    """The facts of each file that is an .sstr stream, and how many are none or damaged; each of those is named."""
    rows, wrong = [], 0
    for path in paths:
        try:
            facts = describe(path)
        except InputError as error:
            note(str(error))
            wrong += 1
            continue
        wrong += bool(facts["damaged_packets"] or facts["truncated"])
        rows.append({"file": str(path), **facts})
    return rows, wrong


def describe(path: str | Path) -> dict[str, Any]:
    """What a file says of itself, and what is in it. Damage is counted, not refused."""
    try:
        with Path(path).open("rb") as file:
            reader = Reader(file, str(path), strict=False, bridge=math.inf)
            packets = [(frames, len(payload)) for _, frames, payload in reader.payloads if payload is not None]
            size = file.seek(0, 2)
    except OSError as error:
        raise InputError(f"{path}: {reason(error)}") from error
    header = reader.header
    frames, payload = sum(each for each, _ in packets), sum(each for _, each in packets)
    seconds = frames * header.hop / header.rate
    return {
        "version": 1,
        "fingerprint": header.fingerprint.hex(),
        "rate": header.rate,
        "channels": 1,
        "hop": header.hop,
        "layers": header.layers,
        "codebook": header.size,
        "bits": header.bits,
        "frames_per_packet": header.per_packet,
        "entropy_coded": header.tables is not None,
        "frames": header.frames,
        "samples": header.samples,
        "seconds": None if header.samples is None else header.samples / header.rate,
        "bytes": size,
        "payload_bytes": payload,
        "nominal_kbps": header.kbps,
        "payload_kbps": payload * 8 / seconds / 1000 if seconds else 0.0,
        "container_kbps": size * 8 / seconds / 1000 if seconds else 0.0,
        "packets": len(packets),
        "damaged_packets": reader.damaged,
        "truncated": reader.truncated,
    }
