"""Long files in pieces: written whole or not at all, in the same memory for an hour."""

from pathlib import Path

import numpy as np
import pytest
import torch
import warm
from audio_core import audio
from audio_core.chunk import process_file
from audio_core.files import InputError
from torch import Tensor


def names(folder: str | Path) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def identity(samples: Tensor) -> Tensor:
    return samples


# --- files -----------------------------------------------------------------------------------------------------


def test_a_file_comes_back_as_it_was(tmp_path):
    samples = np.random.default_rng(0).uniform(-0.9, 0.9, (2, 200_001)).astype(np.float32)
    audio.write(tmp_path / "a.wav", samples, 44100, "FLOAT")
    assert process_file(identity, tmp_path / "a.wav", tmp_path / "b.wav", 30_000, encoding="FLOAT", batch=2) == 0
    back = audio.read(tmp_path / "b.wav")
    assert back.rate == 44100
    assert np.array_equal(back.samples, samples)


def test_a_file_gets_the_rate_and_channels_that_the_model_wants_and_those_it_makes(tmp_path):
    audio.write(tmp_path / "a.wav", 0.5 * np.ones((2, 44101)), 44100, "FLOAT")
    channels = set()

    def model(samples: Tensor) -> Tensor:
        channels.add(samples.shape[1])
        return samples.repeat(1, 3, 1) * 4

    clipped = process_file(model, tmp_path / "a.wav", tmp_path / "b.flac", 5000, rate=16000, channels=1, progress=False)
    info = audio.info(tmp_path / "b.flac")
    assert (info.rate, info.channels, info.frames) == (16000, 3, 16001)
    assert channels == {1}
    assert 3 * 15990 < clipped <= 3 * 16001  # all but the ends, which the resampler rounds off


def test_a_model_that_fails_half_way_leaves_no_file(tmp_path):
    audio.write(tmp_path / "a.wav", np.zeros((1, 1000)), 8000)
    calls = iter([1, 2, 0])
    with pytest.raises(ZeroDivisionError):
        process_file(lambda x: x + 1 / next(calls) - 1, tmp_path / "a.wav", tmp_path / "b.wav", 100)
    with pytest.raises(InputError, match=r"b\.wav: the result holds NaN"):
        process_file(lambda x: x / 0, tmp_path / "a.wav", tmp_path / "b.wav", 100)
    with pytest.raises(ValueError, match=r"one file holds \(C, T\), the model returned \(2, 1, "):
        process_file(lambda x: torch.stack([x, x], 1), tmp_path / "a.wav", tmp_path / "b.wav", 100)
    assert names(tmp_path) == ["a.wav"]


def halves(samples: Tensor) -> dict[str, Tensor]:
    return {"loud": samples, "soft": samples / 2, "unused": samples * 0}


def test_several_files_are_written_in_one_pass(tmp_path):
    samples = np.random.default_rng(0).uniform(-0.9, 0.9, (2, 20_001)).astype(np.float32)
    audio.write(tmp_path / "a.wav", samples, 8000, "FLOAT")
    targets = {"soft": tmp_path / "out/soft.wav", "loud": tmp_path / "loud.wav"}
    process_file(halves, tmp_path / "a.wav", targets, 3000, encoding="FLOAT")
    assert np.array_equal(audio.read(targets["loud"]).samples, samples)
    assert np.array_equal(audio.read(targets["soft"]).samples, samples / 2)
    assert names(tmp_path) == ["a.wav", "loud.wav", "out"] and names(tmp_path / "out") == ["soft.wav"]


def test_of_several_files_all_are_written_or_none(tmp_path, monkeypatch):
    """The disk fills up when the second of two files is closed: neither replaces what was there."""
    audio.write(tmp_path / "a.wav", np.zeros((1, 1000)), 8000)
    for name in ("loud", "soft"):
        (tmp_path / f"{name}.wav").write_text("old")
    close = audio.Writer.close
    for full in ("loud", "soft"):

        def failing(self, full=full):
            if self.path.stem == full:
                raise InputError(f"{self.path}: cannot be written to its end (is the disk full?)")
            close(self)

        monkeypatch.setattr(audio.Writer, "close", failing)
        with pytest.raises(InputError, match=f"{full}.wav: cannot be written"):
            process_file(halves, tmp_path / "a.wav", {n: tmp_path / f"{n}.wav" for n in ("loud", "soft")}, 100)
        assert names(tmp_path) == ["a.wav", "loud.wav", "soft.wav"]
        assert (tmp_path / "loud.wav").read_text() == (tmp_path / "soft.wav").read_text() == "old"


def test_targets_that_cannot_be_written_stop_the_work_before_it_begins(tmp_path):
    audio.write(tmp_path / "a.wav", np.zeros((1, 100)), 8000)
    (tmp_path / "b.wav").write_text("old")
    (tmp_path / "folder.wav").mkdir()

    def never(samples: Tensor) -> Tensor:
        raise AssertionError("the model ran")

    for targets, message in [
        ({"loud": "c.wav", "soft": "a.wav"}, r"a\.wav: the result would overwrite the input"),
        ({"loud": "c.wav", "soft": "b.wav"}, r"b\.wav: exists already; give --force"),
        ({"loud": "c.wav", "soft": "folder.wav"}, r"folder\.wav: is a folder"),
        ({"loud": "c.wav", "soft": "x/../c.wav"}, r"c\.wav: would be the result of both loud and soft"),
    ]:
        paths = {name: tmp_path / path for name, path in targets.items()}
        with pytest.raises(InputError, match=message):
            process_file(never, tmp_path / "a.wav", paths, 100, force=False)
    with pytest.raises(InputError, match=r"nowhere\.wav: No such file"):
        process_file(never, tmp_path / "nowhere.wav", tmp_path / "b.wav", 100)


def test_outputs_and_files_must_have_the_same_names(tmp_path):
    audio.write(tmp_path / "a.wav", np.zeros((1, 100)), 8000)
    with pytest.raises(ValueError, match="there are files for bass, but the model returned loud, soft, unused"):
        process_file(halves, tmp_path / "a.wav", {"bass": tmp_path / "b.wav"}, 100)
    with pytest.raises(ValueError, match="there are files for bass, but the model returned Tensor"):
        process_file(identity, tmp_path / "a.wav", {"bass": tmp_path / "b.wav"}, 100)
    with pytest.raises(ValueError, match="the model returned dict a segment"):
        process_file(halves, tmp_path / "a.wav", tmp_path / "b.wav", 100)
    with pytest.raises(ValueError, match="process_file keeps the length"):
        process_file(identity, tmp_path / "a.wav", tmp_path / "b.wav", 100, ratio=2)
    assert names(tmp_path) == ["a.wav"]


MEASURED = """
import re, sys
from pathlib import Path
import torch
from audio_core.chunk import process_file
torch.set_num_threads(1)
for source in sys.argv[1:]:
    process_file(lambda x: x, source, source + ".out.wav", 10 * 44100, encoding="FLOAT")
    print(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


def test_a_quarter_of_an_hour_takes_the_memory_of_a_minute(tmp_path):
    """Peak memory of a process after each; a quarter of an hour of this audio would fill 160 MB."""
    minute = np.random.default_rng(0).uniform(-0.9, 0.9, (1, 60 * 44100)).astype(np.float32)
    sources = {minutes: tmp_path / f"{minutes}.wav" for minutes in (1, 15)}
    try:
        for minutes, source in sources.items():
            with audio.Writer(source, 44100, 1) as writer:
                for _ in range(minutes):
                    writer.write(minute)
        result = warm.run("-c", MEASURED, *sources.values())
        assert result.returncode == 0, result.stderr
        for minutes, source in sources.items():
            target = tmp_path / f"{source.name}.out.wav"
            assert audio.info(target).frames == minutes * 60 * 44100
            for before, after in zip(audio.blocks(source), audio.blocks(target), strict=True):
                assert np.abs(before - after).max() <= 1e-6
        first, last = (int(peak) / 1024 for peak in result.stdout.split())
        assert last - first < 80, (first, last)
    finally:  # large files, which pytest would keep for three runs
        for path in tmp_path.glob("*.wav"):
            path.unlink()
