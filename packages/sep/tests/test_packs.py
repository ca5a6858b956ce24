"""Packs: what they hold of each kind of data set, whole or absent, and readable in the original's form."""

import json
import os
import sys

import h5py
import numpy as np
import pytest
import soundfile
from audio_core import audio
from audio_core.files import InputError
from audio_sep.data import packed
from audio_sep.data.pack import pack

from .songs import RATE, sound, write_song

STEP = 1 / 32767


def read(path, source):
    stem = packed.stems(path, path.stem)[source]
    return stem.read(0, stem.frames)


def near(path, source, expected):
    assert np.abs(read(path, source) - expected).max() <= 1.01 * STEP  # rounded towards zero


def packing(kind, folder, out, **settings):
    return pack(kind, folder, out, **{"rate": RATE, "quiet": True} | settings)


def test_a_pack_holds_stems_accompaniment_and_mixture_as_the_original_stores_them(tmp_path):
    sounds = write_song(tmp_path / "hq/train/A - B.c", 1)
    write_song(tmp_path / "hq/test/Other", 2)
    summary = packing("musdb18", tmp_path / "hq", tmp_path / "packs")
    assert (summary.done, summary.code) == (2, 0)
    assert (tmp_path / "packs/test/Other.h5").exists()
    path = tmp_path / "packs/train/A - B.c.h5"
    for stem, samples in sounds.items():
        near(path, stem, samples)
    near(path, "accompaniment", sounds["bass"] + sounds["drums"] + sounds["other"])
    near(path, "mixture", sum(sounds.values()))
    with h5py.File(path) as file:  # as the original reads
        assert file.attrs.get_id("audio_name").dtype == "S100" and file.attrs["audio_name"].decode() == "A - B.c"
        assert file.attrs["sample_rate"] == RATE and file.attrs["sample_rate"].dtype == np.int32
        assert file["vocals"].dtype == np.int16 and file["vocals"].shape == (2, RATE)
        piece = file["vocals"][:, 500:700] / np.float32(32767)
    assert np.array_equal(piece, read(path, "vocals")[:, 500:700])


def test_a_recorded_mixture_is_kept(tmp_path):
    write_song(tmp_path / "hq/train/a", 1)
    mixture = sound(99)
    audio.write(tmp_path / "hq/train/a/mixture.wav", mixture, RATE, "FLOAT")
    packing("musdb18", tmp_path / "hq", tmp_path / "packs")
    near(tmp_path / "packs/train/a.h5", "mixture", mixture)


def test_packs_of_the_original_are_read(tmp_path):
    numbers = packed.to_int16(sound(5))
    with h5py.File(tmp_path / "song.h5", "w") as file:
        file.attrs.create("audio_name", data=b"song.wav", dtype="S100")
        file.attrs.create("sample_rate", data=RATE, dtype=np.int32)
        file.create_dataset("speech", data=numbers, dtype=np.int16)
    stem = packed.stems(tmp_path / "song.h5", "song")["speech"]
    assert (stem.rate, stem.channels, stem.frames, stem.track) == (RATE, 2, RATE, "song")
    assert np.array_equal(stem.read(30, 50), packed.to_float(numbers[:, 30:80]))


def test_what_is_packed_is_skipped_and_a_song_that_fails_is_named(tmp_path, capsys):
    for at in range(3):
        write_song(tmp_path / f"songs/song{at}", at, ("vocals", "other"))
    (tmp_path / "songs/song1/other.wav").write_bytes(b"no audio at all")
    summary = packing("songs", tmp_path / "songs", tmp_path / "packs")
    assert (summary.done, summary.skipped, summary.code) == (2, 0, 2)
    assert "song1/other.wav" in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "packs").iterdir()) == ["song0.h5", "song2.h5"]
    write_song(tmp_path / "songs/song1", 1, ("vocals", "other"))
    before = (tmp_path / "packs/song0.h5").stat().st_mtime_ns
    summary = packing("songs", tmp_path / "songs", tmp_path / "packs")
    assert (summary.done, summary.skipped, summary.code) == (1, 2, 0)
    assert (tmp_path / "packs/song0.h5").stat().st_mtime_ns == before


def test_packs_that_are_cut_short_or_of_another_rate_are_named(tmp_path, capsys):
    for at in range(2):
        write_song(tmp_path / f"songs/song{at}", at, ("vocals", "other"))
    packing("songs", tmp_path / "songs", tmp_path / "packs")
    path = tmp_path / "packs/song0.h5"
    os.truncate(path, path.stat().st_size // 2)
    assert packing("songs", tmp_path / "songs", tmp_path / "packs").code == 2
    assert "song0.h5: is cut short" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"song0\.h5: is cut short; pack it again"):
        packed.stems(path, "song0")
    packing("songs", tmp_path / "songs", tmp_path / "packs", rate=4000)
    assert "song1.h5: has 8000 Hz and 2 channels, not 4000 and 2; give --force" in capsys.readouterr().err
    assert packing("songs", tmp_path / "songs", tmp_path / "packs", rate=4000, force=True).done == 2
    assert packed.stems(path, "song0")["vocals"].rate == 4000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.attrs.__delitem__("sample_rate"), "is no pack that can be read"),
        (lambda file: file.attrs.modify("sample_rate", -1), "has a sample rate of -1"),
        (lambda file: file.__delitem__("vocals"), "holds no source"),
        (lambda file: file.create_dataset("x", data=np.zeros((2, 5))), "x is no int16"),
        (lambda file: file.create_group("group"), "is no pack that can be read"),
    ],
)
def test_files_that_are_no_packs_are_refused_in_a_line(tmp_path, change, message):
    packed.write(tmp_path / "a.h5", "a", RATE, [{"vocals": sound(0)}])
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        change(file)
    with pytest.raises(InputError, match=message) as caught:
        packed.stems(tmp_path / "a.h5", "a")
    assert "\n" not in str(caught.value)


def test_a_pack_that_changes_below_a_training_is_named(tmp_path):
    packed.write(tmp_path / "a.h5", "a", RATE, [{"vocals": sound(0)}])
    stem = packed.stems(tmp_path / "a.h5", "a")["vocals"]
    packed.write(tmp_path / "a.h5", "a", RATE, [{"vocals": sound(0, 100)}])
    with pytest.raises(InputError, match=r"a\.h5:vocals: has changed"):
        stem.read(50, 200)
    (tmp_path / "a.h5").unlink()
    with pytest.raises(InputError, match="no such file"):
        stem.read(0, 1)


def test_a_write_that_fails_leaves_nothing(tmp_path):
    write_song(tmp_path / "songs/a", 0, ("vocals", "other"))
    path = tmp_path / "songs/a/other.wav"
    samples = audio.read(path).samples.copy()
    samples[0, -1] = np.nan  # found only when the end is decoded
    soundfile.write(path, samples.T, RATE, "FLOAT")
    assert packing("songs", tmp_path / "songs", tmp_path / "packs").code == 2
    assert [*(tmp_path / "packs").iterdir()] == []


def test_stems_of_different_lengths_are_padded_with_a_note(tmp_path, capsys):
    sounds = write_song(tmp_path / "songs/a", 0, ("vocals", "other"), short=300)
    packing("songs", tmp_path / "songs", tmp_path / "packs", quiet=False)
    text = capsys.readouterr().err
    assert "other: up to 300 samples shorter than the longest; silence was added" in text
    near(tmp_path / "packs/a.h5", "vocals", sounds["vocals"])
    near(tmp_path / "packs/a.h5", "other", np.pad(sounds["other"], ((0, 0), (0, 300))))


def test_songs_are_resampled_and_get_the_channels_asked_for(tmp_path):
    write_song(tmp_path / "songs/a", 0, ("vocals", "other"))
    packing("songs", tmp_path / "songs", tmp_path / "packs", rate=16000, channels=1)
    stem = packed.stems(tmp_path / "packs/a.h5", "a")["vocals"]
    assert (stem.rate, stem.channels, stem.frames) == (16000, 1, 16000)
    expected = audio.read(tmp_path / "songs/a/vocals.wav", rate=16000, channels=1).samples
    assert np.abs(stem.read(0, stem.frames) - expected).max() <= 2 * STEP


def test_noise_is_what_noisy_speech_has_more(tmp_path):
    speech, noise = sound(1, channels=1), sound(2, RATE + 7, channels=1)
    for split in ("trainset_wav", "testset_wav"):
        audio.write(tmp_path / f"data/clean_{split}/p1.wav", speech, RATE, "FLOAT")
        audio.write(tmp_path / f"data/noisy_{split}/p1.wav", np.pad(speech, ((0, 0), (0, 7))) + noise, RATE, "FLOAT")
    packing("voicebank-demand", tmp_path / "data", tmp_path / "packs", channels=1)
    for split in ("train", "test"):
        path = tmp_path / f"packs/{split}/p1.h5"
        near(path, "speech", speech)
        near(path, "noise", noise[:, :RATE])


@pytest.mark.parametrize(("column", "home"), [("audio_filename", "."), ("audio_name", "mp3s")])
def test_a_list_names_recordings_and_their_splits(tmp_path, column, home):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/list.csv").write_text(f"split,{column}\ntrain,2004/a.wav\nvalidation,2004/b.wav\n")
    for at, name in enumerate("ab"):
        audio.write(tmp_path / "data" / home / f"2004/{name}.wav", sound(at), RATE, "FLOAT")
    packing("maestro", tmp_path / "data", tmp_path / "packs", source="violin")
    near(tmp_path / "packs/train/a.h5", "violin", sound(0))
    near(tmp_path / "packs/validation/b.h5", "violin", sound(1))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("musdb", "musdb: is no kind of data set; known are musdb18, songs"),
        ("songs", "holds no songs"),
        ("voicebank-demand", "holds no folders such as clean_trainset_wav"),
        ("maestro", "expected one list in .csv, found 0"),
    ],
)
def test_folders_of_another_kind_are_explained(tmp_path, kind, message):
    with pytest.raises(InputError, match=message):
        packing(kind, tmp_path, tmp_path / "packs")
    with pytest.raises(InputError, match="no such folder"):
        packing("songs", tmp_path / "none", tmp_path / "packs")


@pytest.mark.parametrize("text", ["name\nx\n", "split,audio_filename\n../up,a.wav\n", "split,audio_filename\ntrain,\n"])
def test_lists_that_lack_something_are_refused(tmp_path, text):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(InputError, match="expected rows with the columns split and audio_filename"):
        packing("maestro", tmp_path, tmp_path / "packs")


FFMPEG = f"""#!{sys.executable}
import json, sys
from pathlib import Path
arguments = sys.argv[1:]
source = Path(arguments[arguments.index("-i") + 1].removeprefix("file:"))
stream = int(arguments[arguments.index("-map") + 1].removeprefix("0:a:"))
streams = json.loads(source.read_text())
if stream >= len(streams):
    sys.exit(f"Stream map '0:a:{{stream}}' matches no streams.")
data = Path(streams[stream]).read_bytes()
try:
    sys.stdout.buffer.write(data)
except BrokenPipeError:
    pass
"""


@pytest.fixture
def ffmpeg(tmp_path, monkeypatch):
    """A program in place of ffmpeg, for "files" that list the WAV files of their streams."""
    tool = tmp_path / "bin/ffmpeg"
    tool.parent.mkdir()
    tool.write_text(FFMPEG)
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent))


def stem_mp4(tmp_path, name, streams=("mixture", "drums", "bass", "other", "vocals")):
    wavs = tmp_path / "wavs" / name
    sounds = write_song(wavs, 3, streams)
    path = tmp_path / f"musdb18/train/{name}.stem.mp4"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([str(wavs / f"{stem}.wav") for stem in streams]))
    return sounds


def test_stem_mp4_files_are_read_through_ffmpeg(tmp_path, ffmpeg, capsys):
    sounds = stem_mp4(tmp_path, "A - B")
    stem_mp4(tmp_path, "broken", ("mixture", "drums"))
    summary = packing("musdb18", tmp_path / "musdb18", tmp_path / "packs")
    assert (summary.done, summary.code) == (1, 2)
    assert "broken.stem.mp4: ffmpeg cannot read its bass: Stream map '0:a:2'" in capsys.readouterr().err
    path = tmp_path / "packs/train/A - B.h5"
    for stem, samples in sounds.items():
        near(path, stem, samples)
    near(path, "accompaniment", sounds["bass"] + sounds["drums"] + sounds["other"])


def test_without_ffmpeg_stem_mp4_files_are_explained(tmp_path, monkeypatch, capsys):
    stem_mp4(tmp_path, "A - B")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert packing("musdb18", tmp_path / "musdb18", tmp_path / "packs").code == 2
    assert "put ffmpeg on the PATH to read it, or take MUSDB18-HQ" in capsys.readouterr().err
