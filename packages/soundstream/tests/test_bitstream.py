"""The .sstr format: what is written is read, whole and in pieces, at the size that was promised."""

import io
import os
import subprocess
import sys
import threading
from binascii import crc_hqx
from dataclasses import replace

import numpy as np
import pytest
from audio_core.files import InputError
from audio_soundstream.sstr import bitstream, entropy
from audio_soundstream.sstr.bitstream import Reader, Writer, from_packet, to_packet
from audio_soundstream.sstr.header import Header
from hypothesis import given, settings
from hypothesis import strategies as st

from .streams import GOLDEN, GOLDEN_CODES, MARK, header, joined, read, skewed, some_codes, written
from .test_entropy import measured_tables

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


def test_importing_the_format_imports_no_torch():
    code = "import sys, audio_soundstream.sstr.bitstream; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_crc_is_the_one_that_the_format_names():
    assert crc_hqx(b"123456789", 0xFFFF) == 0x29B1  # CRC-16/CCITT-FALSE
    assert entropy.bits_for(1000) == 10 and entropy.bits_for(1024) == 10 and entropy.bits_for(1025) == 11
