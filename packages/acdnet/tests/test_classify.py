"""The verb: arrays, files and pipes are classified alike, what would be misread is refused."""

import csv
import io
import json
import struct
import sys

import audio_acdnet
import numpy as np
import pytest
import torch
from audio_acdnet import cli
from audio_acdnet.classify import classify, predict, predict_file, stream
from audio_core import audio
from audio_core.files import InputError
from audio_core.testing import noise

RATE = 20000


@pytest.fixture(scope="module")
def model():
    return audio_acdnet.load()


@pytest.fixture(scope="module")
def long() -> np.ndarray:
    """Fourteen seconds in stereo at 44.1 kHz: noise, silence, noise again."""
    parts = [noise(1, 5.0, 44100, 2).numpy(), np.zeros((2, 3 * 44100)), 0.3 * noise(2, 6.0, 44100, 2).numpy()]
    return np.concatenate(parts, 1).astype(np.float32)


def test_an_array_a_file_and_a_pipe_have_one_answer(model, long, tmp_path, monkeypatch):
    """A recording of a minute was classified in ten crops in Python and in windows by the command."""
    audio.write(tmp_path / "long.wav", long, 44100, "FLOAT")
    from_array = predict(model, long, 44100, threshold=0.2)
    from_file = predict_file(model, tmp_path / "long.wav", 3, 0.2)
    assert from_array == from_file and from_file.seconds == 14 and from_file.events
    assert classify(model, long, 44100) == from_file.top
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((tmp_path / "long.wav").read_bytes())))
    assert predict_file(model, "-", 3, 0.2) == from_file
    assert all(event.end <= 6.6 or event.start >= 6.4 for event in from_file.events)  # silence is in no event


def test_a_clip_has_no_timeline(model, tmp_path):
    clip = noise(3, 2.0, RATE).numpy()
    audio.write(tmp_path / "clip.wav", clip, RATE, "FLOAT")
    prediction = predict(model, torch.from_numpy(clip), RATE)
    assert prediction.events is None and prediction == predict_file(model, tmp_path / "clip.wav")
    assert [row[:3] for row in prediction.rows()] == [(0, 2, prediction.top[0][0])]
    assert classify(model, clip[0], RATE, top=1) == prediction.top[:1]
    assert predict(model, np.zeros(RATE, np.float32), RATE).top == []


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.full(RATE, 9000, np.int16), "holds int16, not floats in -1 to 1; divide by 32768"),
        (np.ones((RATE, 2), np.float32), r"look like \(T, C\); pass the transpose"),
        (np.full(RATE, np.nan, np.float32), "holds NaN or infinity at sample 0"),
        (np.zeros((1, 0), np.float32), "is empty"),
    ],
)
def test_arrays_that_would_be_misread_are_refused(model, samples, message):
    with pytest.raises(InputError, match=message):
        classify(model, samples, RATE)


def wav(samples: np.ndarray, rate: int, frames: int) -> bytes:
    """A 16-bit WAV file whose header claims `frames`, as a program that cannot seek back writes it."""
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 0xFFFFFFFF, b"WAVE", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16)
    return head + struct.pack("<4sI", b"data", min(2 * frames, 0xFFFFFFFF)) + audio.to_int16(samples).tobytes()


def test_a_pipe_is_read_as_it_comes_and_named_when_it_is_cut(model, monkeypatch, capsys):
    samples = noise(4, 12.0, RATE).numpy()[0]

    def piped(data: bytes, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        code = cli.main(["classify", "-", *arguments])
        return code, *capsys.readouterr()

    code, out, _ = piped(wav(samples, RATE, 1 << 31), "--json")
    assert code == 0 and json.loads(out)["seconds"] == 12 and json.loads(out)["file"] == "-"
    events = json.loads(out)["events"]
    code, out, _ = piped(wav(samples, RATE, 1 << 31), "--stream", "--json")
    assert code == 0 and len(out.splitlines()) == len(events)
    code, _, err = piped(wav(samples, RATE, 13 * RATE))
    assert code == 2 and "standard input: is truncated: 260000 samples promised, 240000 came" in err
    code, _, err = piped(b"ID3" + bytes(100))
    assert code == 2 and "is no WAV file with a header" in err and err.count("\n") == 1


def test_a_stream_reads_no_further_than_it_must(model):
    """An event is told while the recording goes on: a pipe that never ends is answered."""

    class Endless(io.RawIOBase):
        count = 0

        def read(self, size: int = -1) -> bytes:
            self.count += size
            assert self.count < 2 * 8 * RATE, "eight seconds were read and no event was told"
            loud = self.count < 2 * 3 * RATE
            return head.read(size) if head.tell() < 44 else (noise_bytes[:size] if loud else bytes(size))

    noise_bytes = audio.to_int16(0.5 * noise(5, 1.0, RATE).numpy()[0]).tobytes()
    head = io.BytesIO(wav(np.zeros(0, np.float32), RATE, 1 << 31))
    stdin = sys.stdin
    sys.stdin = type("Stdin", (), {"buffer": Endless()})()
    try:
        assert next(stream(model, "-", 0.05)).start == 0
    finally:
        sys.stdin = stdin


def test_events_are_written_as_a_table_and_as_labels_for_audacity(model, long, tmp_path, capsys):
    audio.write(tmp_path / "long.wav", long, 44100)
    audio.write(tmp_path / "clip, short.wav", noise(3, 2.0, RATE).numpy(), RATE)
    files = [str(tmp_path / "long.wav"), str(tmp_path / "clip, short.wav")]
    table, labels = tmp_path / "events.csv", tmp_path / "labels.txt"
    assert cli.main(["classify", *files, "--threshold", "0.2", "--json", "-o", str(table)]) == 0
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["file"], float(row["start"]), row["label"]) for row in rows] == [
        *((files[0], event["start"], event["label"]) for event in first["events"]),
        (files[1], 0.0, second["top"][0]["label"]),
    ]
    assert cli.main(["classify", files[0], "--threshold", "0.2", "-o", str(labels)]) == 0
    parts = [line.split("\t") for line in labels.read_text().splitlines()]
    assert [(float(start), float(end)) for start, end, _ in parts] == [
        (event["start"], event["end"]) for event in first["events"]
    ]
    for arguments, message in (
        ([*files, "-o", str(labels)], "belong to one recording"),
        ([files[0], "-o", str(table)], "exists already; give --force"),
        ([files[0], "-o", str(tmp_path / "x.json")], "events are written as .csv"),
        ([files[0], "--stream", "-o", str(table)], "use neither --stream"),
    ):
        capsys.readouterr()
        assert cli.main(["classify", *arguments]) == 2 and message in capsys.readouterr().err


def test_each_process_classifies_its_share(model, tmp_path, capsys, monkeypatch):
    """Under torchrun every process did every file."""
    for number in range(3):
        audio.write(tmp_path / f"{number}.wav", noise(number, 1.0, RATE).numpy(), RATE)
    monkeypatch.setenv("WORLD_SIZE", "2")
    shares = []
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        assert cli.main(["classify", str(tmp_path), "--device", "cpu", "--json"]) == 0
        shares.append([json.loads(line)["file"][-5] for line in capsys.readouterr().out.splitlines()])
    assert shares == [["0", "2"], ["1"]]
