"""The .sstr format: damage is named or bridged, and no bytes cost memory or end in a fault."""

import io
import random
import tracemalloc
import zlib
from binascii import crc_hqx
from dataclasses import replace

import numpy as np
import pytest
from audio_core.files import InputError
from audio_soundstream.sstr import bitstream
from audio_soundstream.sstr.bitstream import Reader, Writer, from_packet, to_packet
from audio_soundstream.sstr.header import Header, expect
from hypothesis import given, settings
from hypothesis import strategies as st

from .streams import GOLDEN, MARK, Pipe, at, fault, header, joined, read, skewed, some_codes, written
from .test_entropy import measured_tables

# --- damage ------------------------------------------------------------------------------------------------


@pytest.fixture
def stream() -> tuple[Header, np.ndarray, bytes]:
    head = header(frames=620)
    codes = some_codes(head)
    return head, codes, written(head, codes)  # 20 packets, the last with 12 frames


def test_damage_names_the_file_the_packet_and_the_cause(stream):
    head, _, data = stream
    flipped = bytearray(data)
    flipped[at(17, head) + 9] ^= 4
    assert fault(bytes(flipped)) == "a.sstr: packet 17 is damaged (CRC)"
    assert fault(data[: at(17, head)]) == "a.sstr: is truncated: it holds 16 of 20 packets"
    assert fault(data[:-1]) == "a.sstr: is truncated: it holds 19 of 20 packets"
    assert fault(data + b"\0") == "a.sstr: goes on behind its end"
    without = data[: at(5, head)] + data[at(7, head) :]
    assert fault(without).startswith("a.sstr: is truncated")  # seen by its size before anything is read
    with pytest.raises(InputError, match="pipe: packet 5 is missing, and 1 after it"):
        list(Reader(Pipe(without), "pipe"))
    with pytest.raises(InputError, match="pipe: is truncated after packet 16 of 20"):
        list(Reader(Pipe(data[: at(17, head)]), "pipe"))
    assert fault(data[: at(6, head)] + data[at(5, head) : at(6, head)] + data[at(6, head) :]).startswith(
        "a.sstr: packet 6 has number 4"
    )
    more = data[: at(3, head)] + to_packet(2, np.zeros((5, 32), int), 256) + data[at(4, head) :]
    assert fault(more) == "a.sstr: packet 3 is damaged: 32 frames of 5 codes"
    assert fault(replace(head, size=200).to_bytes() + data[48:]).startswith("a.sstr: packet 1 holds code 2")
    with pytest.raises(InputError, match="packet: holds code 6 of a codebook of 6"):
        from_packet(to_packet(0, np.array([[5, 6]]), 7), 6)


def test_lost_packets_of_a_live_stream_are_named():
    head = header(frames=None)
    data = written(head, some_codes(head, 300))
    assert fault(data[: at(5, head)] + data[at(6, head) :]) == "a.sstr: packet 5 is missing"
    assert fault(data[: at(5, head)] + data[at(8, head) :]) == "a.sstr: packet 5 is missing, and 2 after it"
    assert fault(data[: at(7, head)]) == "a.sstr: is truncated after packet 6"
    assert fault(data[:-2]) == "a.sstr: is truncated after packet 10"
    assert fault(data[: at(10, head)] + data[-18:]) == "a.sstr: packet 10 is missing"
    other = written(head, some_codes(head, 310))
    assert "ends the stream after 310 frames" in fault(data[:-18] + other[-18:])
    fewer = written(head, some_codes(head, 270))  # as many packets, the last not full
    full = written(head, some_codes(head, 288))
    assert "ends the stream after 270 frames, and others came" in fault(full[:-18] + fewer[-18:])
    assert "where others were expected" in fault(fewer[:-18] + data[at(10, head) :])
    silent = data[-18:-10] + b"\0" * 8  # 300 frames that are no samples
    silent += crc_hqx(silent, 0xFFFF).to_bytes(2, "little")
    assert "ends the stream impossibly" in fault(data[:-18] + silent)


@pytest.mark.parametrize("is_open", [False, True])
def test_a_gap_longer_than_the_bridge_is_refused(is_open, tmp_path):
    """One packet of 50 bytes may claim that hours are missing before it."""
    hours = header(layers=1, frames=10**6, size=2, per_packet=255)
    hours = replace(hours, frames=None, samples=None) if is_open else hours
    late = to_packet(3000, np.zeros((1, 255), int), 2)
    data = hours.to_bytes() + to_packet(0, np.zeros((1, 255), int), 2) + late
    packets = iter(Reader(io.BytesIO(data), "a.sstr", strict=False))
    assert next(packets).codes is not None
    message = r"a.sstr: packets for 1.02e\+04 s are missing after packet 1, and at most 10 s are bridged; --bridge"
    with pytest.raises(InputError, match=message):
        next(packets)
    patient = Reader(io.BytesIO(data), "a.sstr", strict=False, bridge=11_000)
    assert sum(packet.codes is None for packet in patient) == 2999
    (tmp_path / "a.sstr").write_bytes(data)
    assert bitstream.describe(tmp_path / "a.sstr")["damaged_packets"] == 2999


@pytest.mark.parametrize("is_open", [False, True])
def test_a_patient_reader_gives_all_that_is_sound(is_open):
    """Damaged and lost packets keep their place in time, so that a decoder can bridge them."""
    head = header(frames=None if is_open else 620)
    codes = some_codes(head, 620)
    data = bytearray(written(head, codes))
    data[at(3, head) + 2] = 5  # frames: fewer than there are
    data[at(5, head) + 2] = 200  # more
    data[at(7, head) + 3] ^= 1  # layers
    data[at(9, head)] ^= 1  # number
    data[at(11, head) + 50] ^= 1
    del data[at(14, head) : at(16, head)]
    reader = Reader(io.BytesIO(bytes(data)), "a.sstr", strict=False)
    packets = list(reader)
    gone = [2, 4, 6, 8, 10, 13, 14]
    assert [packet.start for packet in packets] == list(range(0, 620, 32))
    assert [packet.start // 32 for packet in packets if packet.codes is None] == gone
    assert (reader.damaged, reader.truncated, reader.header.frames) == (len(gone), False, 620)
    for packet in packets:
        if packet.codes is not None:
            assert np.array_equal(packet.codes, codes[:, packet.start : packet.start + packet.frames])
    truncated = Reader(io.BytesIO(bytes(data[:1000])), "a.sstr", strict=False)
    assert len(list(truncated)) == (1000 - 48) // head.packet_bytes(32)
    assert truncated.truncated


def test_a_patient_reader_of_coded_packets_stops_where_lengths_cannot_be_trusted():
    head = header(frames=620)
    codes, tables = skewed(head, 620)
    data = bytearray(written(head, codes, tables))
    data[48 + 20] ^= 1
    packets = read(bytes(data), tables, strict=False)
    assert [packet.start // 32 for packet in packets if packet.codes is None] == [0]
    assert len(packets) == 20
    open_data = written(replace(head, frames=None, samples=None), codes, tables)
    ended = open_data[-22:-18] + b"\4\0\0\0" + b"\x6c\2\0\0"  # an end that does not tell the samples
    ended += crc_hqx(ended, 0xFFFF).to_bytes(2, "little")
    assert fault(open_data[:-22] + ended, tables) == "a.sstr: packet 21 is no end"
    data[48 + 7] ^= 1  # the highest byte of a length
    reader = Reader(io.BytesIO(bytes(data)), "a.sstr", tables, strict=False)
    assert [packet.codes for packet in reader] == [None]
    assert reader.truncated


def test_files_of_another_kind_are_called_by_their_name():
    for data, what in {
        b"": "is empty",
        b"RIFF\0\0": "is a WAV file",
        b"ECDC\0": "is an .ecdc file of EnCodec",
        b"\x93NUMPY": "is a NumPy or .dac file",
        b"\1\2\3\4\5": "begins with 01 02 03 04",
    }.items():
        assert fault(data) == f"a.sstr: {what}, where a .sstr stream was expected"
    assert fault(b"SSTR\2") == "a.sstr: has version 2 of the format, and this program reads version 1"
    assert fault(GOLDEN[:40]) == "a.sstr: is truncated within its header"


def test_headers_that_contradict_themselves_are_refused():
    def changed(place: int, new: bytes) -> str:
        data = GOLDEN[:place] + new + GOLDEN[place + len(new) : 44]
        return fault(data + zlib.crc32(data).to_bytes(4, "little") + GOLDEN[48:])

    assert fault(GOLDEN[:20] + b"\7" + GOLDEN[21:]) == "a.sstr: its header is damaged (CRC)"
    assert "layers: expected 1 to 255, got 0" in changed(6, b"\0")
    assert "has 2 channels" in changed(7, b"\2")
    assert "size: expected 2 to 65536, got 1" in changed(8, b"\0\0")
    assert "hop: expected 1" in changed(10, b"\0\0")
    assert "rate: expected 1" in changed(12, b"\0\0\0\0")
    assert "per_packet: expected 1" in changed(16, b"\0")
    for place, new in ((5, b"\4"), (17, b"\1"), (19, b"\1"), (40, b"\1")):
        assert "mean nothing in version 1" in changed(place, new)
    for place, new in ((5, b"\2"), (20, b"\xff" * 4), (24, b"\xff" * 8)):
        assert "contradicts itself about its length" in changed(place, new)
    assert "1022 samples are not what 6 frames of 4 stand for" in changed(24, b"\xfe\3")
    assert "is truncated: it holds 1 of 251 packets" in changed(20, b"\xe9\3\0\0\xa4\x0f")


def test_a_stream_of_another_model_is_refused_and_the_difference_named():
    head = header()
    expect(head, "a.sstr", fingerprint=MARK, rate=24000, hop=320, size=256, layers=8)
    with pytest.raises(InputError, match="another model \\(fingerprint 0123456789abcdef, this one is 0000000000000000"):
        expect(head, "a.sstr", fingerprint=bytes(8))
    for what, value in {"rate": 16000, "hop": 256, "size": 1024, "layers": 3}.items():
        with pytest.raises(InputError, match=f"another codec \\({what} {getattr(head, what)}, this one has {value}"):
            expect(head, "a.sstr", **{what: value})


def test_coded_streams_need_the_tables_they_were_made_with():
    head = header()
    codes, tables = skewed(head, 100)
    data = written(head, codes, tables)
    assert "this model has no tables" in fault(data)
    assert "other tables" in fault(data, measured_tables(codes[::-1], 256))
    assert np.array_equal(joined(read(written(head, codes), tables), 4), codes)  # a plain one needs none


# --- hostile files -----------------------------------------------------------------------------------------


def mutated(data: bytes, draw: random.Random) -> bytes:
    kind, out = draw.randrange(7), bytearray(data)
    place = draw.randrange(len(out)) if draw.random() < 0.7 else draw.randrange(48)
    if kind == 0:
        for _ in range(draw.randrange(1, 4)):
            out[draw.randrange(len(out))] ^= 1 << draw.randrange(8)
    elif kind == 1:
        del out[place:]
    elif kind == 2:
        out[place:place] = draw.randbytes(draw.randrange(1, 40))
    elif kind == 3:
        del out[place : place + draw.randrange(1, 40)]
    elif kind == 4:
        out[place : place + draw.randrange(1, 9)] = draw.choice([b"\0", b"\xff", b"\x7f"]) * draw.randrange(1, 9)
    elif kind == 5:
        other = draw.randrange(len(out))
        out[place : place + 30] = out[other : other + 30]
    else:
        out = bytearray(draw.choice([b"", data[:4], data[:48]]) + draw.randbytes(draw.randrange(200)))
    return bytes(out)


def test_thousands_of_broken_files_are_refused_in_one_line():
    """Every byte is under a checksum: a changed file is an InputError, and an unchanged one has its codes."""
    draw, starts = random.Random(0), []
    for is_open in (False, True):
        for coded in (False, True):
            head = header(3, None if is_open else 75, 64, per_packet=16)
            codes, tables = skewed(head, 75)
            starts.append((codes, tables, written(head, codes, tables if coded else None)))
    refused = 0
    for number in range(4_000):
        codes, tables, data = starts[number % 4]
        broken = mutated(data, draw)
        try:
            packets = read(broken, tables)
        except InputError as error:
            refused += 1
            assert str(error).startswith("a.sstr: ") and "\n" not in str(error)
        else:
            assert broken == data
            assert np.array_equal(joined(packets, 3), codes)
        try:
            for packet in Reader(io.BytesIO(broken), "a.sstr", tables, strict=False):
                assert 0 < packet.frames <= 255
        except InputError:
            assert broken[:48] != data[:48]  # only a header is worth refusing then
    assert refused > 3_800


@settings(max_examples=150, deadline=None)
@given(
    st.builds(
        lambda rate, hop, layers, size, frames, *more: Header(
            rate, hop, layers, size, MARK, frames, None if frames is None else frames * hop + hop // 2, *more
        ),
        st.integers(1, 2**32 - 1),
        st.integers(1, 65535),
        st.integers(1, 255),
        st.integers(2, 65536),
        st.one_of(st.none(), st.integers(0, 2**32 - 2)),
        st.integers(1, 255),
        st.one_of(st.none(), st.integers(0, 2**32 - 1)),
    ),
    st.binary(max_size=300),
    st.booleans(),
)
def test_a_hostile_header_costs_no_memory(head, body, strict):
    """Whatever it promises: memory is that of one packet."""
    data = head.to_bytes() + body
    assert Header.from_bytes(data, "a.sstr") == head
    tracemalloc.start()
    try:
        for packet in Reader(io.BytesIO(data), "a.sstr", strict=strict):
            assert packet.frames <= 255
    except InputError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 4e6


def test_reading_a_long_file_takes_the_memory_of_a_packet(tmp_path):
    head = header(layers=8, frames=200_000, size=1024)
    path = tmp_path / "long.sstr"
    with path.open("wb") as file:
        writer = Writer(file, head)
        for start in range(0, 200_000, 20_000):
            writer.write(some_codes(head, 20_000, seed=start))
        writer.close()
    assert path.stat().st_size > 2_000_000
    tracemalloc.start()
    with path.open("rb") as file:
        assert sum(packet.frames for packet in Reader(file, str(path))) == 200_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300_000
