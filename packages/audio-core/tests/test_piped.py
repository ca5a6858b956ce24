"""A WAV file through a pipe: the samples are those of the file, and whatever is wrong is one line."""

import io
import struct

import numpy as np
import pytest
import soundfile
from audio_core import audio
from audio_core.files import InputError

SAMPLES = 0.5 * np.random.default_rng(0).uniform(-1, 1, (2, 10_001)).astype(np.float32)


@pytest.mark.parametrize("encoding", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("container", ["WAV", "WAVEX", "RF64"])
def test_samples_are_those_of_the_file(tmp_path, container, encoding):
    soundfile.write(tmp_path / "a.wav", SAMPLES.T, 8000, encoding, format=container)
    with (tmp_path / "a.wav").open("rb") as file:
        rate, channels, blocks = audio.piped(file, 4000)
        parts = list(blocks)
    assert (rate, channels) == (8000, 2) and [part.shape[1] for part in parts] == [4000, 4000, 2001]
    assert np.array_equal(np.concatenate(parts, 1), audio.read(tmp_path / "a.wav").samples)


def wav(data: bytes, size: int, code: int = 1, bits: int = 16, channels: int = 1) -> io.BytesIO:
    form = code, channels, 8000, 16000, bits // 8, bits
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 0, b"WAVE", b"fmt ", 16, *form)
    return io.BytesIO(head + struct.pack("<4sI", b"data", size) + data)


@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_header_that_does_not_know_the_length_is_read_to_the_end(size):
    blocks = audio.piped(wav(bytes(5001), size)).blocks  # half a sample at the end is dropped
    assert sum(block.shape[1] for block in blocks) == 2500


def test_what_follows_the_samples_is_not_taken_for_samples():
    assert sum(block.shape[1] for block in audio.piped(wav(bytes(200) + b"LIST....", 200)).blocks) == 100


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (io.BytesIO(), "standard input: is empty"),
        (io.BytesIO(b"RIFF"), "ends within the header"),
        (io.BytesIO(b"fLaC" + bytes(100)), "is no WAV file with a header"),
        (wav(bytes(100), 400), "is truncated: 200 samples promised, 50 came"),
        (wav(b"", 0), "holds no samples"),
        (wav(bytes(100), 100, channels=65535), "its header claims 65535 channels at 8000 Hz"),
        (wav(bytes(100), 100, code=2, bits=4), "holds samples of kind 2 in 4 bits"),
        (wav(struct.pack("<2f", 0, float("nan")), 8, 3, 32), "holds NaN or infinity at sample 1"),
        (wav(struct.pack("<2d", 0, 1e300), 16, 3, 64), "holds NaN or infinity at sample 1"),
        (io.BytesIO(b"RIFF....WAVEdata" + bytes(4)), "no part `fmt `"),
        (io.BytesIO(b"RIFF....WAVEjunk" + b"\xff" * 8), "a part of 4294967295 bytes"),
    ],
)
def test_what_is_wrong_is_named(stream, message):
    with pytest.raises(InputError, match=message) as caught:
        list(audio.piped(stream).blocks)
    assert "\n" not in str(caught.value)
