"""Codes as bytes: EnCodec's vectors, then round trips of whatever can be coded."""

from itertools import repeat
from pathlib import Path

import numpy as np
import pytest
from audio_core.testing import Case
from audio_soundstream.sstr import entropy
from audio_soundstream.sstr.entropy import Tables, quantised_cdf
from hypothesis import given, settings
from hypothesis import strategies as st


def measured_tables(codes: np.ndarray, size: int) -> Tables:
    """Of codes (layers, frames); half an occurrence is added to every code."""
    counts = np.stack([np.bincount(layer, minlength=size) for layer in codes]) + 0.5
    return Tables(quantised_cdf(counts / counts.sum(-1, keepdims=True)))


@pytest.fixture(scope="module")
def encodec() -> Case:
    return Case.load(Path(__file__).parent / "fixtures" / "ecdc_bitstream")


@pytest.mark.parametrize("bits", [8, 9, 10])
def test_packed_bits_are_those_of_encodec(encodec, bits):
    frame_by_frame = encodec.inputs["codes"].numpy().T.reshape(-1)
    packed = entropy.pack(frame_by_frame, bits, msb_first=False)
    assert packed == encodec.outputs[f"packed_lsb_{bits}"].numpy().tobytes()
    unpacked = entropy.unpack(packed, bits, frame_by_frame.size, msb_first=False)
    assert unpacked[0].tolist() == (frame_by_frame & (1 << bits) - 1).tolist()


def test_arithmetic_coding_gives_the_bytes_of_encodec(encodec):
    cdfs = entropy.quantised_cdf(encodec.inputs["pdfs"].numpy())
    assert cdfs[0].tolist() == encodec.outputs["first_cdf"].tolist()
    symbols = encodec.inputs["symbols"].tolist()
    coded = entropy.encode(symbols, cdfs.tolist())
    assert coded == encodec.outputs["arithmetic_coded"].numpy().tobytes()
    assert entropy.decode(coded, cdfs.tolist()) == symbols
    short = entropy.encode(symbols, cdfs.tolist(), short=True)
    assert len(short) < len(coded)
    assert entropy.decode(short, cdfs.tolist()) == symbols


def test_the_most_significant_bit_comes_first():
    assert entropy.pack(np.array([[1, 2, 3], [7, 0, 5]]), 3) == bytes([0b00101001, 0b10000000, 0b11100010, 0b10000000])


@settings(deadline=None)
@given(st.data(), st.integers(1, 16), st.integers(1, 5), st.integers(0, 40), st.booleans())
def test_unpack_undoes_pack(data, bits, rows, count, msb_first):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    values = rng.integers(0, 1 << bits, (rows, count))
    packed = entropy.pack(values, bits, msb_first)
    assert len(packed) == rows * entropy.packed_bytes(bits, count)
    if count:
        assert np.array_equal(entropy.unpack(packed, bits, count, msb_first), values)


weights = st.lists(st.sampled_from([0, 1e-9, 1e-6, 0.01, 1.0, 1000.0]), min_size=2, max_size=40).filter(any)


def test_probabilities_that_float32_sums_to_more_than_one_stay_within_the_range():
    shares = np.array([0, 1 / 3, 1 / 3, 1 / 3])
    assert np.diff(entropy.quantised_cdf(shares), prepend=0).tolist() == [2, 5592404, 5592405, 5592405]
    Tables(entropy.quantised_cdf(shares)[None])  # refuses sums that are too large


@settings(max_examples=300, deadline=None)
@given(weights, st.data(), st.booleans())
def test_decode_undoes_encode_for_any_probabilities(weights, data, short):
    """Also for codes that should never occur, which take 23 bits and push the interval about."""
    shares = np.array(weights, np.float64)
    row = entropy.quantised_cdf(shares / shares.sum()).tolist()
    symbols = data.draw(st.lists(st.integers(0, len(row) - 1), max_size=255))
    coded = entropy.encode(symbols, repeat(row), short)
    assert entropy.decode(coded, repeat(row, len(symbols))) == symbols
    assert len(coded) + 2 <= entropy.payload_limit(1, len(symbols))


@settings(deadline=None)
@given(st.binary(max_size=60), weights, st.integers(0, 60))
def test_decode_of_anything_gives_symbols_or_a_value_error(data, weights, count):
    shares = np.array(weights, np.float64)
    row = entropy.quantised_cdf(shares / shares.sum()).tolist()
    try:
        symbols = entropy.decode(data, repeat(row, count))
    except ValueError as error:
        assert "stand for no code" in str(error)
    else:
        assert len(symbols) == count and all(0 <= symbol < len(row) for symbol in symbols)


def test_bits_between_two_codes_are_refused():
    """Rounding leaves numbers that belong to no code; many codes leave many."""
    row = list(range(200, 2**24 + 1, 200))
    rng, refused = np.random.default_rng(0), 0
    for _ in range(100):
        try:
            entropy.decode(rng.bytes(60), repeat(row, 30))
        except ValueError:
            refused += 1
    assert 10 < refused < 90


def test_coded_codes_take_hardly_more_than_their_entropy():
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(256, 0.3), size=4)
    codes = np.stack([rng.choice(256, 4096, p=share) for share in shares])
    counts = np.stack([np.bincount(layer, minlength=256) for layer in codes]) / codes.shape[1]
    bound = -(counts * np.log2(np.maximum(counts, 1e-12))).sum() * codes.shape[1] / 8
    tables = measured_tables(codes, 256)
    payloads = [entropy.to_payload(codes[:, at : at + 128], 256, tables) for at in range(0, 4096, 128)]
    size = sum(map(len, payloads))
    runs = 4 * len(payloads)
    assert bound < size < 1.01 * bound + 3.5 * runs, (size, bound)  # a length and an end for every run
    assert size < 0.85 * codes.size
    decoded = [entropy.from_payload(payload, 4, 128, 256, tables) for payload in payloads]
    assert np.array_equal(np.concatenate(decoded, axis=1), codes)


@pytest.mark.parametrize("cdfs", [[1, 2, 3], [[5]], [[4, 5, 9]], [[9, 4]], [[100, 2**24 + 1]]])
def test_tables_that_could_not_code_every_code_are_refused(cdfs):
    with pytest.raises(ValueError, match="tables: expected"):
        Tables(np.array(cdfs))


def test_a_layer_longer_than_the_payload_is_refused():
    tables = measured_tables(np.zeros((2, 9), int), 4)
    payload = entropy.to_payload(np.array([[0, 1], [3, 3]]), 4, tables)
    for wrong in (payload + b"\0", payload[:-1], b"\xff" + payload[1:], b""):
        with pytest.raises(ValueError, match="lengths are wrong"):
            entropy.from_payload(wrong, 2, 2, 4, tables)
    with pytest.raises(ValueError, match="lengths are wrong"):
        entropy.first_layers(b"\xff\xff", 1, 2, 4, coded=True)
