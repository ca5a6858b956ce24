"""The container: what is written is read, damage is named, and hostile files cost nothing."""

import io
import os
import random
import subprocess
import sys
import threading
import tracemalloc
import zlib
from binascii import crc_hqx
from dataclasses import replace

import numpy as np
import pytest
from audio_core.files import InputError
from audio_soundstream.sstr import bitstream, entropy
from audio_soundstream.sstr.bitstream import Packet, Reader, Writer, from_packet, to_packet
from audio_soundstream.sstr.entropy import Tables
from audio_soundstream.sstr.header import Header, expect
from hypothesis import given, settings
from hypothesis import strategies as st

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


# --- what is written is read -------------------------------------------------------------------------------


def test_a_small_stream_has_these_bytes():
    """The example of docs/soundstream-format.md."""
    head = Header(8000, 4, 2, 6, MARK, 6, 22, per_packet=4)
    assert written(head, np.array(GOLDEN_CODES)).hex(" ") == GOLDEN.hex(" ")
    assert joined(read(GOLDEN), 2).tolist() == GOLDEN_CODES
    assert Header.from_bytes(GOLDEN, "a.sstr") == head


shapes = st.builds(
    lambda layers, size, frames, per_packet: header(layers, frames, size, per_packet=per_packet),
    st.integers(1, 9),
    st.one_of(st.integers(2, 70), st.sampled_from([255, 256, 257, 1000, 1024, 65536])),
    st.integers(0, 130),
    st.integers(1, 40),
)


@settings(deadline=None)
@given(shapes, st.lists(st.integers(0, 130), max_size=4).map(sorted), st.booleans(), st.booleans())
def test_codes_come_back_whatever_the_shape_and_the_pieces(head, pieces, is_open, coded):
    codes = some_codes(head)
    tables = measured_tables(some_codes(head, 50, seed=1), head.size) if coded and head.size < 2000 else None
    if is_open:
        head = replace(head, frames=None, samples=None)
    data = written(head, codes, tables, tuple(pieces))
    assert data == written(head, codes, tables)
    reader = Reader(io.BytesIO(data), "a.sstr", tables)
    packets = list(reader)
    assert np.array_equal(joined(packets, head.layers), codes)
    assert [packet.start for packet in packets] == list(range(0, codes.shape[1], head.per_packet))
    assert reader.header.frames == codes.shape[1]
    if is_open:
        assert reader.header.samples == codes.shape[1] * head.hop


@settings(deadline=None)
@given(shapes, st.data(), st.booleans(), st.booleans())
def test_a_stream_cut_to_fewer_layers_is_the_one_written_with_fewer(head, data, is_open, coded):
    keep = data.draw(st.integers(1, head.layers))
    tables = measured_tables(some_codes(head, 50, seed=1), head.size) if coded and head.size < 2000 else None
    codes = some_codes(head)
    if is_open:
        head = replace(head, frames=None, samples=None)
    target = io.BytesIO()
    bitstream.cut(io.BytesIO(written(head, codes, tables)), target, keep, "a.sstr")
    assert target.getvalue() == written(replace(head, layers=keep), codes[:keep], tables)


def test_cut_refuses_layers_that_are_not_there():
    source = written(header(), some_codes(header()))
    for layers in (0, 5):
        with pytest.raises(InputError, match=f"has 4 layers, and {layers} were asked for"):
            bitstream.cut(io.BytesIO(source), io.BytesIO(), layers, "a.sstr")


@pytest.mark.parametrize("coded", [False, True])
@pytest.mark.parametrize("is_open", [False, True])
def test_seeking_is_skipping(coded, is_open):
    head = header(frames=None if is_open else 100, per_packet=8)
    codes = some_codes(header())
    tables = measured_tables(codes, 256) if coded else None
    data = written(head, codes, tables)
    for frame in (0, 7, 8, 50, 99, 3):
        reader = Reader(io.BytesIO(data), "a.sstr", tables)
        start = reader.seek(frame)
        assert start == frame // 8 * 8
        packets = list(reader)
        assert packets[0].start == start
        assert np.array_equal(joined(packets, 4), codes[:, start:])
        assert reader.seek(3) == 0  # and back
        assert np.array_equal(joined(list(reader), 4), codes)
    for frame in (-1, 104, 5000, 2**70):
        with pytest.raises(InputError, match=f"a.sstr: has no frame {frame}"):
            Reader(io.BytesIO(data), "a.sstr", tables).seek(frame)


def test_a_live_stream_goes_through_a_pipe_frame_by_frame():
    """Every frame can be read before the next is written, and nobody seeks."""
    head = header(frames=None, per_packet=1)
    codes = some_codes(head, 20)
    ends = os.pipe()
    os.set_blocking(ends[0], False)  # what has not come by now is missing
    with os.fdopen(ends[0], "rb") as source, os.fdopen(ends[1], "wb") as target:
        writer = Writer(target, head)
        target.flush()
        reader = Reader(source, "the pipe")
        packets = iter(reader)
        for at in range(20):
            writer.write(codes[:, at : at + 1])
            assert np.array_equal(next(packets).codes, codes[:, at : at + 1])
        with pytest.raises(InputError, match="the pipe: is a pipe"):
            reader.seek(3)
        writer.close(6399)
        target.close()
        assert list(packets) == []
        assert (reader.header.frames, reader.header.samples) == (20, 6399)


def test_a_file_goes_through_a_pipe_whose_reads_are_short():
    head = header(frames=5000)
    codes = some_codes(head)
    ends = os.pipe()

    def send():
        with os.fdopen(ends[1], "wb", buffering=7) as target:
            target.write(written(head, codes))

    sender = threading.Thread(target=send)
    sender.start()
    with os.fdopen(ends[0], "rb", buffering=0) as source:
        assert np.array_equal(joined(list(Reader(source, "the pipe")), 4), codes)
    sender.join()


def test_packet_numbers_wrap():
    head = header(layers=1, frames=66_000, size=2, per_packet=1)
    codes = some_codes(head)
    data = written(head, codes)
    assert sum(1 for _ in Reader(io.BytesIO(data), "a.sstr").payloads) == 66_000
    lost = 48 + 65_530 * 7
    reader = Reader(io.BytesIO(data[:lost] + data[lost + 10 * 7 :]), "a.sstr", strict=False)  # ten around the wrap
    assert [place for place, _, payload in reader.payloads if payload is None] == list(range(65_530, 65_540))


def test_a_writer_refuses_what_its_header_does_not_promise():
    writer = Writer(io.BytesIO(), header())
    for wrong in (np.zeros((3, 9), int), np.zeros(9, int), np.zeros((4, 9)), np.full((4, 9), 256), np.full((4, 9), -1)):
        with pytest.raises(ValueError, match="expected"):
            writer.write(wrong)
    with pytest.raises(ValueError, match="wrote 0 frames, and the header promises 100"):
        writer.close()
    with pytest.raises(ValueError, match="tables: expected 4 layers of 256"):
        Writer(io.BytesIO(), header(), measured_tables(np.zeros((3, 5), int), 256))


# --- sizes -------------------------------------------------------------------------------------------------

# layers, size, rate, hop of the eight shapes that the recipes have
MODELS = {
    "soundstream-tiny": (8, 1024, 24000, 320),
    "soundstream-small": (8, 1024, 24000, 320),
    "soundstream": (8, 1024, 24000, 320),
    "ultra_tiny": (2, 256, 16000, 256),
    "tiny": (4, 512, 16000, 256),
    "small": (4, 1024, 16000, 256),
    "medium": (5, 1024, 16000, 256),
    "full": (6, 1024, 16000, 256),
}


@pytest.mark.parametrize("model", MODELS)
def test_ten_seconds_take_the_nominal_bitrate(model, tmp_path):
    layers, size, rate, hop = MODELS[model]
    head = Header(rate, hop, layers, size, MARK, -(-10 * rate // hop), 10 * rate)
    path = tmp_path / "a.sstr"
    path.write_bytes(written(head, some_codes(head)))
    facts = bitstream.describe(path)
    assert facts["payload_kbps"] == pytest.approx(facts["nominal_kbps"], rel=0.01)
    assert facts["payload_bytes"] * 8 / 10_000 == pytest.approx(facts["nominal_kbps"], rel=0.01)  # of the audio's time
    assert facts["bytes"] == path.stat().st_size == 48 + 6 * head.packets + facts["payload_bytes"]
    assert facts["container_kbps"] < 1.15 * facts["nominal_kbps"]


def test_entropy_coding_gains_what_skewed_codes_promise():
    head = header(layers=8, frames=2000, size=1024, per_packet=128)
    codes, tables = skewed(head)
    counts = np.stack([np.bincount(layer, minlength=1024) for layer in codes]) / 2000
    bound = -(counts * np.log2(np.maximum(counts, 1e-12))).sum() / 80
    plain, coded = len(written(head, codes)), len(written(head, codes, tables))
    assert bound < coded / plain < bound + 0.05, (bound, coded / plain)


def test_describe_tells_what_a_file_says_and_what_it_holds(tmp_path):
    path = tmp_path / "a.sstr"
    data = written(header(), some_codes(header()))
    path.write_bytes(data[:60] + bytes([data[60] ^ 1]) + data[61:-3])
    facts = bitstream.describe(path)
    assert facts["fingerprint"] == MARK.hex()
    assert (facts["rate"], facts["hop"], facts["layers"], facts["codebook"], facts["bits"]) == (24000, 320, 4, 256, 8)
    assert (facts["frames"], facts["samples"], facts["seconds"]) == (100, 31993, 31993 / 24000)
    assert (facts["packets"], facts["damaged_packets"], facts["truncated"]) == (2, 1, True)
    assert facts["nominal_kbps"] == pytest.approx(2.4)
    with pytest.raises(InputError, match=r"none.sstr: No such file"):
        bitstream.describe(tmp_path / "none.sstr")


# --- packets alone -----------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 40), st.integers(2, 70), st.data())
def test_a_packet_of_a_network_comes_back_or_is_refused(sequence, layers, frames, size, data):
    codes = np.random.default_rng(sequence).integers(0, size, (layers, frames))
    packet = to_packet(sequence, codes, size)
    number, decoded = from_packet(packet, size)
    assert number == sequence % 65536 and np.array_equal(decoded, codes)
    flip = data.draw(st.integers(0, 8 * len(packet) - 1))
    broken = bytearray(packet)
    broken[flip // 8] ^= 1 << flip % 8
    for wrong in (bytes(broken), packet[:-1], packet + b"\0", b""):
        with pytest.raises(InputError, match="packet: "):
            from_packet(wrong, size)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=40), st.integers(2, 65536))
def test_any_bytes_with_a_right_checksum_are_a_packet_or_an_input_error(data, size):
    packet = data + crc_hqx(data, 0xFFFF).to_bytes(2, "little")
    try:
        _, codes = from_packet(packet, size)
    except InputError:
        return
    assert codes.size and codes.max() < size


# --- damage ------------------------------------------------------------------------------------------------


class Pipe(io.BytesIO):
    """Bytes of which nobody knows how many will come."""

    def seekable(self) -> bool:
        return False


def at(packet: int, head: Header) -> int:
    """Where a packet, from 1 on, begins."""
    return 48 + (packet - 1) * head.packet_bytes(head.per_packet)


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


def test_ten_thousand_broken_files_are_refused_in_one_line():
    """Every byte is under a checksum: a changed file is an InputError, and an unchanged one has its codes."""
    draw, starts = random.Random(0), []
    for is_open in (False, True):
        for coded in (False, True):
            head = header(3, None if is_open else 75, 64, per_packet=16)
            codes, tables = skewed(head, 75)
            starts.append((codes, tables, written(head, codes, tables if coded else None)))
    refused = 0
    for number in range(10_000):
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
    assert refused > 9_500


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


def test_importing_the_format_imports_no_torch():
    code = "import sys, audio_soundstream.sstr.bitstream; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_crc_is_the_one_that_the_format_names():
    assert crc_hqx(b"123456789", 0xFFFF) == 0x29B1  # CRC-16/CCITT-FALSE
    assert entropy.bits_for(1000) == 10 and entropy.bits_for(1024) == 10 and entropy.bits_for(1025) == 11
