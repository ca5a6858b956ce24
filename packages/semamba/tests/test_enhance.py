"""Enhancement of arrays and files: level, length, rates, channels, long recordings, streams, and what is refused."""

import importlib
import io

import numpy as np
import pytest
import torch
from audio_core import audio, bundle
from audio_core.files import InputError
from audio_core.testing import noise, tone
from audio_semamba import Stream, enhance, scan
from audio_semamba.cli import main
from audio_semamba.config import SEMambaConfig
from audio_semamba.enhance import Options, enhance_file
from audio_semamba.model import SEMamba

RATE = 16000
SMALL = {
    "n_fft": 64,
    "hop": 16,
    "window": 48,
    "channels": 4,
    "blocks": 1,
    "state": 4,
    "expand": 2,
    "phase": "correction",
}


def made(**settings) -> SEMamba:
    torch.manual_seed(0)
    return SEMamba(SEMambaConfig(**SMALL | settings)).eval()


@pytest.fixture(params=[False, True], ids=["bidirectional", "causal"])
def model(request) -> SEMamba:
    return made(causal=request.param)


@pytest.fixture
def causal(tmp_path):
    bundle.save(made(causal=True), tmp_path / "causal", "audio-semamba", "0", "# A test")
    return tmp_path / "causal"


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
@pytest.mark.parametrize("frames", [1, 33, 5001])
def test_any_length_and_rate_keeps_its_shape(model, rate, frames):
    for shape in ((frames,), (2, frames)):
        x = 0.1 * torch.randn(shape).numpy()
        enhanced = enhance(model, x, rate)
        assert enhanced.shape == shape and enhanced.dtype == np.float32 and np.isfinite(enhanced).all()


def test_silence_stays_silence(model):
    assert not enhance(model, np.zeros(4000, np.float32), RATE).any()


def test_the_level_of_the_result_is_that_of_the_recording():
    model, x = made(), noise(1, 0.5).numpy()
    np.testing.assert_allclose(enhance(model, 0.01 * x, RATE), 0.01 * enhance(model, x, RATE), atol=1e-6)


def test_channels_are_enhanced_alone(model):
    x = np.concatenate([noise(1, 0.3).numpy(), 3 * noise(2, 0.3).numpy()])
    both = enhance(model, x, RATE)
    for channel in (0, 1):
        np.testing.assert_allclose(both[channel], enhance(model, x[channel], RATE), atol=1e-5)


def test_what_the_model_cannot_hear_is_removed():
    x = tone(15000, 0.5, 48000).numpy()
    assert np.abs(enhance(made(), x, 48000)[:, 2000:-2000]).max() < 1e-3  # it begins and ends with a click


def test_mix_and_attenuation_limit_leave_some_of_the_input():
    model, x = made(), noise(1, 0.5, 48000).numpy()
    full = enhance(model, x, 48000)
    np.testing.assert_allclose(enhance(model, x, 48000, mix=0.75), 0.75 * full + 0.25 * x, atol=1e-5)
    np.testing.assert_allclose(enhance(model, x, 48000, atten_limit=20), 0.9 * full + 0.1 * x, atol=1e-5)
    np.testing.assert_array_equal(enhance(model, x, 48000, mix=0.0), x)


@pytest.mark.parametrize("pcs", [False, True])
def test_a_long_recording_is_enhanced_in_pieces(model, monkeypatch, pcs):
    """A causal model gives the same as at once; for the other one the seams are stated in docs/benchmarks.md."""
    x = 0.1 * torch.randn(2, 30000).numpy()
    whole = enhance(model, x, RATE, pcs=pcs)
    for name, seconds in (("WHOLE", 0.9), ("SEGMENT", 0.8), ("OVERLAP", 0.1)):
        monkeypatch.setattr(importlib.import_module("audio_semamba.enhance"), name, seconds)
    pieces = enhance(model, x, RATE, pcs=pcs)
    assert pieces.shape == x.shape
    if model.config.causal and not pcs:
        np.testing.assert_allclose(pieces, whole, atol=1e-6)
    else:
        assert np.square(pieces - whole).mean() < 0.1 * np.square(whole).mean()


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros(100, np.int16), "divide by 32768"),
        (np.zeros((4000, 2), np.float32), r"look like \(T, C\)"),
        (np.full(100, np.nan, np.float32), "NaN"),
        (np.zeros(0, np.float32), "is empty"),
    ],
)
def test_arrays_that_would_be_misread_are_refused(samples, message):
    with pytest.raises(InputError, match=message):
        enhance(made(), samples, RATE)


@pytest.mark.parametrize("causal", [False, True])
def test_a_result_that_is_no_audio_is_refused(causal):
    model, x = made(causal=causal), noise(1, 0.2).numpy()[0]
    with pytest.raises(InputError, match="NaN or infinity"):
        enhance(model, np.float32(1e30) * x, RATE)
    with torch.no_grad():
        model.encoder.first.conv.weight.fill_(torch.nan)
    with pytest.raises(InputError, match="NaN or infinity"):
        enhance(model, x, RATE)


def test_the_model_sees_one_channel_at_a_time(monkeypatch):
    """A recording of many channels takes the memory of one."""
    model, rows = made(), []
    forward = model.forward
    monkeypatch.setattr(model, "forward", lambda x, y: (rows.append(len(x)), forward(x, y))[1])
    enhance(model, 0.1 * torch.randn(5, 4000).numpy(), RATE)
    assert rows == [1] * 5


@pytest.mark.parametrize(("options", "message"), [({"mix": 1.5}, "from 0 to 1"), ({"atten_limit": -1}, "from 0 on")])
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        Options(**options)


@pytest.mark.parametrize(
    ("name", "encoding"),
    [("x.wav", "PCM_16"), ("x.wav", "PCM_24"), ("x.flac", "PCM_24"), ("x.wav", "FLOAT"), ("x.ogg", "VORBIS")],
)
def test_a_file_keeps_rate_channels_length_and_depth(model, tmp_path, name, encoding):
    audio.write(tmp_path / name, 0.1 * torch.randn(2, 22051).numpy(), 44100, encoding)
    assert enhance_file(model, tmp_path / name, tmp_path / "out" / name, quiet=True) == ""
    assert audio.info(tmp_path / "out" / name) == audio.info(tmp_path / name)


# --- live audio --------------------------------------------------------------------------------------------


def test_a_recording_is_not_overwritten_by_its_own_result(model, tmp_path):
    audio.write(tmp_path / "x.wav", noise(0, 0.3, RATE).numpy(), RATE)
    before = (tmp_path / "x.wav").read_bytes()
    with pytest.raises(InputError, match="is the recording itself"):
        enhance_file(model, tmp_path / "x.wav", tmp_path / "x.wav", force=True)
    assert (tmp_path / "x.wav").read_bytes() == before


def test_a_rate_that_is_no_number_is_refused(model):
    with pytest.raises(InputError, match="rate: expected a number of Hz, got '16000'"):
        enhance(model, noise(0, 0.3, RATE), "16000")


@pytest.mark.parametrize("length", [1, 33, 2000])
@pytest.mark.parametrize("chunk", [1, 16, 37, 5000])
def test_a_stream_equals_the_whole(length, chunk):
    model, x = made(causal=True), 0.1 * torch.randn(2, length)
    whole = model.enhance(x)
    stream = Stream(model, channels=2)
    parts = [stream.feed(part) for part in x.split(chunk, 1)]
    joined = torch.cat([*parts, stream.finish()], 1)
    assert joined.shape == x.shape and (joined - whole).abs().max() < 1e-5


def test_an_output_waits_for_the_latency_and_no_longer():
    model = made(causal=True)
    stream, given = Stream(model), 0
    for at in range(1, 400):
        given += stream.feed(torch.zeros(1, 1)).shape[1]
        least = max(0, at - stream.latency - model.config.hop + 1)
        assert least <= given <= max(0, at - stream.latency + model.config.hop), at


def test_chunks_may_be_arrays_and_one_channel_needs_no_axis():
    model, x = made(causal=True), 0.1 * torch.randn(1, 300)
    whole = model.enhance(x)
    for chunks in (x.numpy(), x[0], x[0].double().numpy()):
        stream = Stream(model)
        assert not stream.feed(chunks[..., :0]).numel()
        joined = torch.cat([stream.feed(chunks), stream.finish()], 1)
        torch.testing.assert_close(joined, whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("chunk", "message"),
    [
        (torch.zeros(1, 100, dtype=torch.int16), "divide by 32768"),
        (torch.zeros(100, 1), r"look like \(T, C\)"),
        (torch.zeros(2, 100), "has 2 channels"),
        (torch.full((1, 100), torch.nan), "NaN"),
    ],
)
def test_chunks_that_would_be_misread_are_refused(chunk, message):
    with pytest.raises(InputError, match=message):
        Stream(made(causal=True)).feed(chunk)


def test_a_finished_stream_takes_and_gives_nothing_more():
    stream = Stream(made(causal=True))
    stream.feed(torch.randn(1, 300))
    stream.finish()
    assert stream.finish().shape == (1, 0)
    with pytest.raises(InputError, match="is finished"):
        stream.feed(torch.zeros(1, 100))


def test_a_model_that_looks_ahead_cannot_stream():
    with pytest.raises(InputError, match="a stream needs a causal one"):
        Stream(made())


def test_a_pipe_gives_as_many_samples_as_it_takes(causal, tmp_path, monkeypatch, capsys):
    samples = audio.to_int16(0.3 * noise(3, 0.2).numpy()[0])

    class Input:
        buffer = io.BytesIO(samples.astype("<i2").tobytes())

    monkeypatch.setattr("sys.stdin", Input)
    command = ["enhance", "-", "--stream", "--model", str(causal), "-o", str(tmp_path / "x.wav"), "--device", "cpu"]
    assert main(command) == 0
    assert "at 16000 Hz with a delay of 4 ms" in capsys.readouterr().err
    expected = enhance(made(causal=True), samples.astype(np.float32) / 2**15, RATE)
    np.testing.assert_allclose(audio.read(tmp_path / "x.wav").samples[0], expected, atol=1e-4)
    Input.buffer = io.BytesIO(b"")
    assert main([*command, "--force"]) == 2 and "standard input: holds no audio" in capsys.readouterr().err


# --- the command -------------------------------------------------------------------------------------------


def test_a_folder_is_enhanced_and_what_is_broken_is_named(causal, tmp_path, capsys):
    for name in ("a.wav", "sub/b.flac"):
        audio.write(tmp_path / "in" / name, noise(1, 0.2).numpy(), RATE)
    (tmp_path / "in/c.wav").write_bytes(b"nothing")
    command = ["enhance", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--model", str(causal), "--device", "cpu"]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "c.wav: not audio that can be read" in said and "2 done, 0 skipped, 1 failed" in said
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.*")) == ["a.wav", "b.flac"]
    assert main(command) == 2 and "0 done, 2 skipped, 1 failed" in capsys.readouterr().err


def test_a_file_that_is_there_is_not_taken_for_the_result(causal, tmp_path, capsys):
    for name in ("a.wav", "b.wav"):
        audio.write(tmp_path / name, noise(1, 0.1).numpy(), RATE)
    command = ["enhance", str(tmp_path / "a.wav"), "-o", str(tmp_path / "b.wav"), "--model", str(causal)]
    assert main(command) == 2 and "b.wav: exists already; give --force" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0


def test_a_scan_that_does_not_work_here_is_told_once(causal, tmp_path, capsys):
    for name in ("a.wav", "b.wav"):
        audio.write(tmp_path / "in" / name, noise(1, 0.1).numpy(), RATE)
    command = ["enhance", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--model", str(causal), "--scan", "triton"]
    assert main(command) == 2
    assert capsys.readouterr().err.count("\n") == 1
    scan.use(None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-", "-o", "x.wav"], "live audio comes from standard input"),
        (["x.wav", "--stream", "-o", "y.wav"], "live audio comes from standard input"),
        (["-", "--stream", "--pcs", "-o", "x.wav"], "are for files, not for --stream"),
        (["x.wav", "-o", "y.wav", "--mix", "2"], "expected a share from 0 to 1"),
    ],
)
def test_mistakes_are_one_line(causal, arguments, message, capsys):
    assert main(["enhance", *arguments, "--model", str(causal)]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
