"""Codes as bytes: packed bits, or fewer of them from an arithmetic coder with fixed tables.

The coder is EnCodec's to the bit, in integers, so that all machines agree. Its probabilities are one table a layer,
measured in training and kept with the model: a microcontroller looks them up, and no network predicts them.
"""

from __future__ import annotations

import struct
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from itertools import repeat

import numpy as np

RANGE_BITS = 24
"""Probabilities are whole numbers of 1 / 2**24."""
LEAST = 2
"""The least share of a code, so that every code can be written, at 23 bits."""
_ROUND_OFF = 1e-8


# --- packed bits -------------------------------------------------------------------------------------------


def bits_for(size: int) -> int:
    """The width of a code that is one of `size`."""
    return (size - 1).bit_length()


def packed_bytes(bits: int, count: int) -> int:
    """What `count` codes take, the last byte filled up with zeros."""
    return -(-bits * count // 8)


def pack(values: np.ndarray, bits: int, msb_first: bool = True) -> bytes:
    """The lowest `bits` of each value in turn along the last axis; every row (the first axes) begins a new byte."""
    places = _places(bits, msb_first)
    values = np.asarray(values, dtype=np.int64)
    rows = (values[..., None] >> places & 1).astype(np.uint8).reshape(*values.shape[:-1], values.shape[-1] * bits)
    return np.packbits(rows, axis=-1, bitorder="big" if msb_first else "little").tobytes()


def unpack(data: bytes, bits: int, count: int, msb_first: bool = True) -> np.ndarray:
    """The inverse of `pack` for rows of `count` codes: int32 (rows, count)."""
    rows = np.frombuffer(data, np.uint8).reshape(-1, packed_bytes(bits, count))
    single = np.unpackbits(rows, axis=-1, count=bits * count, bitorder="big" if msb_first else "little")
    return single.reshape(len(rows), count, bits) @ (1 << _places(bits, msb_first)).astype(np.int32)


def _places(bits: int, msb_first: bool) -> np.ndarray:
    return np.arange(bits)[::-1] if msb_first else np.arange(bits)


# --- tables ------------------------------------------------------------------------------------------------


def quantised_cdf(probabilities: np.ndarray) -> np.ndarray:
    """Cumulated probabilities in whole numbers of 1 / 2**24: int64 (..., K), each code having LEAST or more.

    All in float32, and rounded down at 1e-8 first: float64, or no rounding, gives other bytes than EnCodec's. Where
    float32 makes the sum too large by that, as with 0 and three times 1/3, the commonest code gives it back.
    """
    shares = np.asarray(probabilities, dtype=np.float32)
    shares = np.floor(shares / np.float32(_ROUND_OFF)) * np.float32(_ROUND_OFF)
    rest = (1 - LEAST * shares.shape[-1] / 2**RANGE_BITS) * 2**RANGE_BITS
    whole = np.floor(np.float32(rest) * shares).astype(np.int64) + LEAST
    commonest = np.arange(whole.shape[-1]) == whole.argmax(axis=-1, keepdims=True)
    excess = np.maximum(0, whole.sum(axis=-1, keepdims=True) - 2**RANGE_BITS)
    return np.cumsum(whole - excess * commonest, axis=-1)


class Tables:
    """How often each code occurs, layer by layer; both ends of an entropy-coded stream need the same tables."""

    def __init__(self, cdfs: np.ndarray):
        """`cdfs` are integers (layers, K), as `quantised_cdf` returns them."""
        self.cdfs = np.asarray(cdfs, dtype=np.int64)
        if self.cdfs.ndim != 2 or self.cdfs.shape[-1] < 2:
            raise ValueError(f"tables: expected (layers, codes), got the shape {self.cdfs.shape}")
        if np.diff(self.cdfs, prepend=0).min() < LEAST or self.cdfs.max() > 2**RANGE_BITS:
            raise ValueError(f"tables: expected sums that grow by {LEAST} or more up to {2**RANGE_BITS}")
        self.rows: list[list[int]] = self.cdfs.tolist()  # single numbers of a list are read faster
        self.checksum = zlib.crc32(self.cdfs.astype("<u4").tobytes())
        """Stands for the tables in the header of a stream."""

    def fit(self, layers: int, size: int) -> bool:
        """A stream may have fewer layers than the tables."""
        return layers <= len(self.rows) and size == len(self.rows[0])


# --- the arithmetic coder ----------------------------------------------------------------------------------
#
# low and high enclose the number that the bits will spell; `top` is the place of its highest bit that is still open.
# The interval is widened to 2**24 or more before it is divided, and leading bits that agree are written and forgotten.


def encode(symbols: Iterable[int], cdfs: Iterable[Sequence[int]], short: bool = False) -> bytes:
    """Each symbol by its own cumulated probabilities. EnCodec spells all of `low` at the end.

    `short` ends with the roundest number in the interval and leaves its zeros out, about two bytes less.
    """
    low, high, top, out = 0, 0, -1, []
    for symbol, cdf in zip(symbols, cdfs, strict=False):
        if (widen := RANGE_BITS + 1 - (high - low + 1).bit_length()) > 0:
            low, high, top = low << widen, (high + 1 << widen) - 1, top + widen
        low, high = _divide(low, high, cdf[symbol - 1] if symbol else 0, cdf[symbol])
        still = (low ^ high).bit_length()  # places up to the highest that differs
        if still <= top:
            out.append(f"{low >> still:0{top + 1 - still}b}")
            low, high, top = low & (1 << still) - 1, high & (1 << still) - 1, still - 1
    last = low
    if short:
        for place in range(top + 2):
            if (round_up := -(-low >> place) << place) <= high:
                last = round_up
    if top >= 0:
        out.append(f"{last:0{top + 1}b}")
    data = np.packbits(np.frombuffer("".join(out).encode(), np.uint8) - ord("0"), bitorder="little").tobytes()
    return data.rstrip(b"\0") if short else data


def decode(data: bytes, cdfs: Iterable[Sequence[int]]) -> list[int]:
    """A symbol for each of `cdfs`; bits beyond the end are zeros. Data that no encoder wrote are a ValueError."""
    bits = (np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little") + ord("0")).tobytes()
    low, high, top, value, at, symbols = 0, 0, -1, 0, 0, []
    for cdf in cdfs:
        if (widen := RANGE_BITS + 1 - (high - low + 1).bit_length()) > 0:
            low, high, top = low << widen, (high + 1 << widen) - 1, top + widen
            value = value << widen | int(bits[at : at + widen].ljust(widen, b"0"), 2)
            at += widen
        # The first symbol whose upper end, floor((cdf - 1) * width / 2**24), reaches the value.
        reach = -(-(value - low << RANGE_BITS) // (high - low + 1)) + 1
        symbol = bisect_left(cdf, reach)
        if symbol == len(cdf):
            raise ValueError("holds bits that stand for no code")
        low, high = _divide(low, high, cdf[symbol - 1] if symbol else 0, cdf[symbol])
        if value < low:  # between the ends of two symbols
            raise ValueError("holds bits that stand for no code")
        symbols.append(symbol)
        still = (low ^ high).bit_length()
        if still <= top:
            mask, top = (1 << still) - 1, still - 1
            low, high, value = low & mask, high & mask, value & mask
    return symbols


def _divide(low: int, high: int, start: int, stop: int) -> tuple[int, int]:
    """The part of the interval that belongs to the probabilities start up to stop."""
    width = high - low + 1
    return low - (-start * width >> RANGE_BITS), low + ((stop - 1) * width >> RANGE_BITS)


# --- a packet's codes --------------------------------------------------------------------------------------


def to_payload(codes: np.ndarray, size: int, tables: Tables | None = None) -> bytes:
    """Codes (layers, frames), layer after layer, bit after bit; with `tables` in whole bytes, their number in two bytes
    before each layer."""
    if tables is None:
        return pack(codes.reshape(-1), bits_for(size))
    runs = [encode(layer, repeat(row), short=True) for layer, row in zip(codes.tolist(), tables.rows, strict=False)]
    return b"".join(struct.pack("<H", len(run)) + run for run in runs)


def from_payload(payload: bytes, layers: int, frames: int, size: int, tables: Tables | None = None) -> np.ndarray:
    """The codes, int32 (layers, frames). A ValueError says what no writer makes."""
    if tables is None:
        codes = unpack(payload, bits_for(size), layers * frames).reshape(layers, frames)
        if codes.max(initial=0) >= size:
            raise ValueError(f"holds code {codes.max()} of a codebook of {size}")
        return codes
    runs = _runs(payload, layers)
    decoded = [decode(run, repeat(row, frames)) for run, row in zip(runs, tables.rows, strict=False)]
    return np.array(decoded, dtype=np.int32).reshape(layers, frames)


def first_layers(payload: bytes, layers: int, frames: int, size: int, coded: bool) -> bytes:
    """The beginning of a payload that holds its first layers."""
    if coded:
        return payload[: sum(2 + len(run) for run in _runs(payload, layers, whole=False))]
    bits = bits_for(size) * layers * frames
    first, over = bytearray(payload[: -(-bits // 8)]), -bits % 8
    if first and over:
        first[-1] &= 0xFF << over  # what is left over begins the next layer
    return bytes(first)


def payload_limit(layers: int, frames: int) -> int:
    """No entropy-coded payload is longer: a code takes 25 bits at most, the end of a layer four bytes, a length two."""
    return layers * (4 * frames + 6)


def _runs(payload: bytes, layers: int, whole: bool = True) -> list[bytes]:
    runs, at = [], 0
    for _ in range(layers):
        length = int.from_bytes(payload[at : at + 2], "little")
        runs.append(payload[at + 2 : at + 2 + length])
        at += 2 + length
    if at > len(payload) or (whole and at < len(payload)):
        raise ValueError("holds layers whose lengths are wrong")
    return runs
