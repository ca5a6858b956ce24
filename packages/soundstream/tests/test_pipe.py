"""Live streams through real pipes: a frame in, a packet out; the same sound as through files; nothing else on them."""

import io
import os
import select
import signal
import struct
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import pytest
from audio_core import audio
from audio_core.files import InputError
from audio_core.testing import noise, tone
from audio_soundstream import codec
from audio_soundstream.live import pipe
from audio_soundstream.sstr import bitstream
from audio_soundstream.sstr.header import HEADER_BYTES

LSB = 1 / 2**15


def sound(model, seconds: float) -> np.ndarray:
    """(T,) int16"""
    rate = model.sample_rate
    return audio.to_int16((0.3 * noise(5, seconds, rate) + 0.2 * tone(300, seconds, rate)).numpy()[0])


def streamed(model, data: bytes, layers: int = 4) -> bytes:
    out = io.BytesIO()
    pipe.encode(model, io.BytesIO(data), out, layers)
    return out.getvalue()


def played(model, data: bytes, **how) -> np.ndarray:
    """(T,) int16"""
    out = io.BytesIO()
    pipe.decode(model, io.BytesIO(data), out, **how)
    return np.frombuffer(out.getvalue(), "<i2")


@pytest.fixture(params=["soundstream", "tinystream", "causal"])
def model(request, toy):
    return toy(request.param)


@pytest.mark.parametrize("samples", [1, 5000, 16000])
def test_a_stream_sounds_as_the_file_of_the_same_samples(model, tmp_path, samples):
    wanted = sound(model, 1.0)[:samples]
    audio.write(tmp_path / "in.wav", wanted / np.float32(2**15), model.sample_rate)
    codec.encode_file(model, tmp_path / "in.wav", tmp_path / "file.sstr")
    codec.decode_file(model, tmp_path / "file.sstr", tmp_path / "file.wav")
    filed = audio.read(tmp_path / "file.wav").samples[0]
    (tmp_path / "stream.sstr").write_bytes(streamed(model, wanted.tobytes()))
    found = played(model, (tmp_path / "stream.sstr").read_bytes())
    assert samples <= len(found) < samples + model.hop  # the last frame may be out before its end is told
    np.testing.assert_allclose(found[:samples] * LSB, filed, atol=1.1 * LSB)
    # And a stream that was recorded is a file, of the exact length.
    codec.decode_file(model, tmp_path / "stream.sstr", tmp_path / "again.wav")
    again = audio.read(tmp_path / "again.wav").samples[0]
    np.testing.assert_array_equal(again, found[:samples] * np.float32(LSB))
    if samples == 16000:
        codec.decode_file(model, tmp_path / "stream.sstr", tmp_path / "end.wav", start=0.5, seconds=9)
        end = audio.read(tmp_path / "end.wav").samples[0]
        np.testing.assert_allclose(end, again[round(0.5 * model.sample_rate) :], atol=1.1 * LSB)


def test_fewer_layers_may_be_sent_and_played(toy):
    model = toy("causal")
    data = sound(model, 0.3).tobytes()
    np.testing.assert_array_equal(
        played(model, streamed(model, data), layers=2), played(model, streamed(model, data, 2))
    )


def test_half_a_sample_at_the_end_is_left_out_and_said(toy, capsys):
    model = toy("causal")
    data = sound(model, 0.1).tobytes()
    assert streamed(model, data + b"\1") == streamed(model, data)
    assert "ends within a sample of 16 bits" in capsys.readouterr().err


def test_an_empty_input_is_an_error_on_both_sides(toy, tmp_path):
    model, out = toy("causal"), io.BytesIO()
    with pytest.raises(InputError, match="holds no audio"):
        pipe.encode(model, io.BytesIO(), out, 4)
    assert len(played(model, out.getvalue())) == 0  # what was sent is whole all the same
    (tmp_path / "x.sstr").write_bytes(out.getvalue())
    with pytest.raises(InputError, match=r"x\.sstr: holds no audio to decode"):
        codec.decode_file(model, tmp_path / "x.sstr", tmp_path / "x.wav")
    assert not (tmp_path / "x.wav").exists()
    with pytest.raises(InputError, match="standard input: is empty"):
        played(model, b"")


def test_a_stream_that_breaks_off_has_been_played_so_far(toy, capsys):
    model, out = toy("causal"), io.BytesIO()
    data = streamed(model, sound(model, 0.5).tobytes())
    whole = played(model, data)
    with pytest.raises(InputError, match="standard input: is truncated after packet"):
        pipe.decode(model, io.BytesIO(data[: len(data) // 2]), out)
    heard = np.frombuffer(out.getvalue(), "<i2")
    assert len(whole) / 3 < len(heard) < len(whole)
    np.testing.assert_array_equal(heard, whole[: len(heard)])
    assert len(played(model, data[: len(data) // 2], conceal=True)) >= len(heard)
    assert capsys.readouterr().err == "standard input: the end is missing\n"


def test_damage_is_bridged_and_told(toy, capsys):
    model = toy("causal")
    data = bytearray(streamed(model, sound(model, 0.5).tobytes()))
    data[HEADER_BYTES + (len(data) - HEADER_BYTES) // 2] ^= 64
    with pytest.raises(InputError, match="standard input: packet"):
        played(model, bytes(data))
    assert len(played(model, bytes(data), conceal=True)) == 8192
    assert "bridged" in capsys.readouterr().err


# --- through pipes ---------------------------------------------------------------------------------------------


def start(verb: str, bundle, **how) -> subprocess.Popen:
    program = "import sys; from audio_soundstream import cli; sys.exit(cli.main(sys.argv[1:]))"
    arguments = [verb, "-", "-o", "-", "--stream", "--model", str(bundle), "--device", "cpu"]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE) | how
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.Popen([sys.executable, "-c", program, *arguments], env=buffered, **pipes)


def take(stream, count: int, limit: float = 60.0) -> bytes:
    """`count` bytes, without waiting for more; fewer when they do not come."""
    data, end = b"", time.monotonic() + limit
    while len(data) < count and select.select([stream], [], [], max(0, end - time.monotonic()))[0]:
        more = os.read(stream.fileno(), count - len(data))
        if not more:
            break
        data += more
    return data


@pytest.mark.skipif(sys.platform == "win32", reason="waits for pipes as POSIX does")
def test_each_frame_is_out_before_the_next_comes_in(bundles, toy):
    model = toy("causal")
    with start("encode", bundles / "causal") as encoder, start("decode", bundles / "causal") as decoder:
        head = take(encoder.stdout, HEADER_BYTES)
        assert len(head) == HEADER_BYTES  # before any sample
        decoder.stdin.write(head)
        samples = sound(model, 1.0)[: 5 * model.hop]
        heard = []
        for frame in samples.reshape(5, -1):
            encoder.stdin.write(frame.tobytes())
            encoder.stdin.flush()
            packet = take(encoder.stdout, 1) + take(encoder.stdout, 100, 0.1)
            assert bitstream.from_packet(packet, 16)[1].shape == (4, 1)
            decoder.stdin.write(packet)
            decoder.stdin.flush()
            heard.append(take(decoder.stdout, 2 * model.hop))
            assert len(heard[-1]) == 2 * model.hop
        encoder.send_signal(signal.SIGINT)  # Ctrl-C ends a recording
        end = encoder.stdout.read()
        assert encoder.wait(60) == 0 and encoder.stderr.read() == b""
        rest, said = decoder.communicate(end, timeout=60)
        assert decoder.returncode == 0 and said == b"" and rest == b""
    np.testing.assert_array_equal(
        np.frombuffer(b"".join(heard), "<i2"), played(model, streamed(model, samples.tobytes()))
    )


@pytest.mark.skipif(sys.platform == "win32", reason="pipes break as on POSIX")
def test_a_reader_that_leaves_ends_it_without_a_word(bundles):
    with start("encode", bundles / "causal") as encoder:
        take(encoder.stdout, 20)
        encoder.stdout.close()
        with suppress(BrokenPipeError):
            encoder.stdin.write(bytes(1 << 20))
            encoder.stdin.flush()
        assert encoder.wait(60) == 141 and encoder.stderr.read() == b""
        with suppress(BrokenPipeError):
            encoder.stdin.close()


@pytest.mark.parametrize(
    "arguments",
    [
        ["encode", "-", "-o", "-"],
        ["encode", "-"],
        ["encode", "x.wav", "-o", "-"],
        ["encode", "x.wav", "-o", "x.sstr", "--stream"],
        ["decode", "-", "x.sstr", "-o", "-", "--stream"],
    ],
)
def test_a_live_stream_is_asked_for(run, arguments):
    code, out, err = run(*arguments)
    assert code == 2 and out == "" and f"comes from standard input: {arguments[0]} - --stream" in err


class Input:
    """Standard input that holds these bytes."""

    def __init__(self, data: bytes):
        self.buffer = io.BytesIO(data)


def test_a_live_stream_can_end_in_files(toy, bundles, run, tmp_path, monkeypatch):
    model = toy("causal")
    samples = sound(model, 0.5)[:7000]
    monkeypatch.setattr(sys, "stdin", Input(samples.tobytes()))
    arguments = ["--stream", "--model", bundles / "causal", "--device", "cpu"]
    assert run("encode", "-", "-o", tmp_path / "x.sstr", *arguments)[0] == 0
    data = (tmp_path / "x.sstr").read_bytes()
    assert data == streamed(model, samples.tobytes())
    monkeypatch.setattr(sys, "stdin", Input(data))
    assert run("decode", "-", "-o", tmp_path / "x.wav", *arguments)[0] == 0
    np.testing.assert_array_equal(audio.to_int16(audio.read(tmp_path / "x.wav").samples[0]), played(model, data)[:7000])
    for verb, name, message in (("encode", "x.sstr", "exists already"), ("encode", "x.wav", "must end in .sstr")):
        monkeypatch.setattr(sys, "stdin", Input(samples.tobytes()))
        code, _, err = run(verb, "-", "-o", tmp_path / name, *arguments)
        assert code == 2 and message in err and (tmp_path / "x.sstr").read_bytes() == data


# --- WAV files on standard input ---------------------------------------------------------------------------------


def wav(samples: np.ndarray, rate: int = 16000, **how) -> bytes:
    """A WAV file of int16 samples, with a chunk in front of the samples and one behind them."""
    sizes = {"channels": 1, "bits": 16, "code": 1, "size": 2 * len(samples)} | how
    step = sizes["channels"] * sizes["bits"] // 8
    form = struct.pack("<HHIIHH", sizes["code"], sizes["channels"], rate, rate * step, step, sizes["bits"])
    chunks = [(b"LIST", 3, b"abc\0"), (b"fmt ", len(form), form), (b"data", sizes["size"], samples.tobytes())]
    body = b"".join(struct.pack("<4sI", name, size) + data for name, size, data in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


@pytest.mark.parametrize("size", [None, 0, 0xFFFFFFFF])
def test_a_wav_file_is_encoded_as_its_samples(toy, size):
    """Programs that write to a pipe do not know the size when they write the header."""
    model = toy("causal")
    samples = sound(model, 0.2)
    data = wav(samples) + b"LIST\4\0\0\0abcd" if size is None else wav(samples, size=size)
    assert streamed(model, data) == streamed(model, samples.tobytes())


def test_stereo_is_mixed_to_one(toy, capsys):
    model = toy("causal")
    samples = sound(model, 0.2)
    assert streamed(model, wav(np.repeat(samples, 2), channels=2)) == streamed(model, samples.tobytes())
    assert capsys.readouterr().err == "standard input: 2 channels mixed to one\n"


def test_a_wav_file_of_another_rate_is_refused_in_one_line(toy):
    model = toy("causal")
    with pytest.raises(
        InputError, match=r"is a WAV file of 44100 Hz; a live stream for this model has 16000 Hz[^\n]*$"
    ):
        streamed(model, wav(sound(model, 0.1), rate=44100))


def test_other_files_and_broken_headers_are_refused(toy):
    model = toy("causal")
    whole = wav(sound(model, 0.1))
    for data, message in (
        (b"fLaC" + bytes(99), "is a FLAC file"),
        (streamed(model, bytes(2000)), "is an .sstr stream"),
        (b"RIFF" + bytes(99), "is no WAV file"),
        (whole[:30], "ends within the header of a WAV file"),
        (whole[:-100], "is truncated"),
    ):
        with pytest.raises(InputError, match=message):
            streamed(model, data)


def test_what_needs_a_file_is_no_stream(run):
    assert "--start and --seconds need a file" in run("decode", "-", "-o", "-", "--stream", "--start", 1)[2]
    assert "--entropy needs many frames" in run("encode", "-", "-o", "-", "--stream", "--entropy")[2]
