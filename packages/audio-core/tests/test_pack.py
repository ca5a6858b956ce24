"""Packs in HDF5: the samples of their files, whole again after a kill, refused where they are damaged."""

import pickle
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from audio_core import audio
from audio_core.data import pack
from audio_core.data.manifest import scan
from audio_core.data.segments import Segments
from audio_core.files import InputError

from .data_files import RATE, ramp

# --- pack ------------------------------------------------------------------------------------------------------


def test_a_pack_gives_back_sixteen_bits_exactly_and_names_what_is_left_out(folder):
    manifest, out = folder.parent / "all.jsonl", folder.parent / "all.h5"
    items = scan(folder, manifest, progress=False).items
    (folder / "z.wav").write_text("broken since the scan")
    packed = pack.pack(manifest, out, RATE, 1, progress=False)
    assert packed.items == 4
    assert [Path(each.name).name for each in packed.unreadable] == ["z.wav"]
    assert not (folder.parent / "all.h5.part").exists()
    tracks = pack.Pack(out).items
    assert [track.name for track in tracks] == [
        f"{out}:{n}" for n in ("a.wav", "b/two.flac", "c/deep/three.wav", "ä ö.wav")
    ]
    for item, track in zip([items[0], items[1], items[2], items[4]], tracks, strict=True):
        assert (track.rate, track.channels, track.frames) == (RATE, 1, item.frames)
        assert np.array_equal(track.read(0, track.frames), audio.read(item.path).samples)
        assert np.array_equal(track.read(500, 99), audio.read(item.path, 500, 99).samples)
    with pytest.raises(InputError, match="has 2000 samples; 1990 to 2010 was asked for"):
        tracks[0].read(1990, 20)
    with pytest.raises(InputError, match="exists already; give --force"):
        pack.pack(manifest, out, RATE, 1)
    assert pack.pack(manifest, out, RATE, 1, progress=False, force=True).items == 4


def test_rounding_to_sixteen_bits_errs_by_half_a_step_at_most(tmp_path):
    samples = np.random.default_rng(0).uniform(-1, 1 - 2**-15, (2, 100_000)).astype(np.float32)
    loud = np.array([[1.0, 1.5, -1.0, -9.0]], np.float32)
    audio.write(tmp_path / "a.wav", samples, RATE, "FLOAT")
    audio.write(tmp_path / "b.wav", loud.repeat(2, 0), RATE, "FLOAT")
    scan(tmp_path, tmp_path / "all.jsonl", progress=False)
    pack.pack(tmp_path / "all.jsonl", tmp_path / "all.h5", RATE, 2, progress=False)
    first, second = pack.Pack(tmp_path / "all.h5").items
    error = np.abs(first.read(0, first.frames) - samples)
    assert 0.9 * 2**-16 < error.max() <= 2**-16
    assert (second.read(0, 4)[0] * 2**15).tolist() == [32767, 32767, -32768, -32768]


def test_a_pack_keeps_the_facts_of_its_files(folder):
    facts = {"a.wav": {"text": "ä\u2028", "label": 3}}
    manifest, out = folder.parent / "all.jsonl", folder.parent / "all.h5"
    items = scan(folder, manifest, progress=False, facts=lambda path: facts.get(path.name, {})).items
    pack.pack(manifest, out, RATE, 1, progress=False)
    assert [track.facts for track in pack.Pack(out).items] == [item.facts for item in items]
    old = out.with_name("old.h5")
    old.write_bytes(out.read_bytes())
    with h5py.File(old, "r+") as file:
        del file["facts"]  # as in packs of version 0.1.0
    assert [track.facts for track in pack.Pack(old).items] == [{}] * 5


def test_a_pack_is_resampled_like_the_file_and_mixed_to_its_channels(tmp_path):
    samples = np.random.default_rng(0).uniform(-0.3, 0.3, (2, 100_001)).astype(np.float32)
    audio.write(tmp_path / "a.wav", samples, 44100, "FLOAT")
    scan(tmp_path, tmp_path / "all.jsonl", progress=False)
    pack.pack(tmp_path / "all.jsonl", tmp_path / "all.h5", 16000, 1, progress=False)
    track = pack.Pack(tmp_path / "all.h5").items[0]
    expected = audio.read(tmp_path / "a.wav", rate=16000, channels=1).samples
    assert track.frames == expected.shape[1]
    assert np.abs(track.read(0, track.frames) - expected).max() <= 2**-16 + 1e-6


def test_segments_of_a_pack_are_segments_of_its_files(items, folder):
    pack.pack(folder.parent / "all.jsonl", folder.parent / "all.h5", RATE, 1, progress=False)
    packed = Segments(pack.Pack(folder.parent / "all.h5").items, frames=300, seed=4)
    plain = Segments(items, frames=300, seed=4)
    assert all(torch.equal(packed[index], plain[index]) for index in range(30))
    assert packed.name(0) == plain.name(0).replace(str(folder) + "/", f"{folder.parent / 'all.h5'}:")
    again = pickle.loads(pickle.dumps(packed))
    assert torch.equal(again[7], plain[7])


KILLED = """
import sys, time
from audio_core.data import pack
copy, count = pack._copy, 0
def slowly(item, dataset, rate, channels):
    global count
    if count == 2:
        dataset[:, :100] = 7  # half an item
        dataset.file.flush()
        print("now", flush=True)
        time.sleep(60)
    copy(item, dataset, rate, channels)
    count += 1
pack._copy = slowly
pack.pack(*sys.argv[1:3], 8000, 1, progress=False)
"""


def test_a_killed_pack_goes_on_where_it_was(items, folder, monkeypatch):
    manifest, out = folder.parent / "all.jsonl", folder.parent / "all.h5"
    with subprocess.Popen([sys.executable, "-c", KILLED, manifest, out], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "now\n"
        with pytest.raises(InputError, match=r"all\.h5\.part: another process is writing it"):
            pack.pack(manifest, out, RATE, 1, progress=False)
        child.kill()
    assert not out.exists()
    with pytest.raises(InputError, match="unfinished pack: 2 of 5 files"):
        pack.Pack(folder.parent / "all.h5.part")
    copied, copy = [], pack._copy
    monkeypatch.setattr(pack, "_copy", lambda item, *rest: copied.append(item.path.name) or copy(item, *rest))
    assert pack.pack(manifest, out, RATE, 1, progress=False) == (5, [])
    assert copied == ["three.wav", "z.wav", "ä ö.wav"]
    for item, track in zip(items, pack.Pack(out).items, strict=True):
        assert np.array_equal(track.read(0, track.frames), audio.read(item.path).samples)


PACKED = """
import sys
from audio_core.data import pack
print("now", flush=True)
pack.pack(*sys.argv[1:3], 8000, 1, progress=False)
"""


@pytest.mark.parametrize("milliseconds", [0, 3, 8, 20, 35, 60, 100])
def test_a_pack_killed_at_any_moment_is_finished_by_the_next(tmp_path, milliseconds):
    """Not a moment of our choosing: the file must open whatever had been written."""
    for number in range(60):
        audio.write(tmp_path / f"{number:02d}.wav", ramp(9000, base=number * 100), RATE)
    scan(tmp_path, tmp_path / "all.jsonl", progress=False)
    out = tmp_path / "all.h5"
    command = [sys.executable, "-c", PACKED, tmp_path / "all.jsonl", out]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "now\n"
        time.sleep(milliseconds / 1000)
        child.kill()
    if not out.exists():
        pack.pack(tmp_path / "all.jsonl", out, RATE, 1, progress=False)
    for number, track in enumerate(pack.Pack(out).items):
        assert np.array_equal(track.read(0, 9000), ramp(9000, base=number * 100))


def test_an_unfinished_pack_of_something_else_is_not_touched(items, folder):
    manifest, out = folder.parent / "all.jsonl", folder.parent / "all.h5"
    part = folder.parent / "all.h5.part"
    part.write_text("my own notes")
    with pytest.raises(InputError, match=r"all\.h5\.part: is not the beginning of this pack; delete it"):
        pack.pack(manifest, out, RATE, 1)
    assert part.read_text() == "my own notes"


def test_a_foreign_or_damaged_pack_is_one_line(items, folder):
    manifest, out = folder.parent / "all.jsonl", folder.parent / "all.h5"
    with pytest.raises(InputError, match=r"all\.h5: cannot be read as a pack: .*No such file"):
        pack.Pack(out)
    pack.pack(manifest, out, RATE, 1, progress=False)
    data = out.read_bytes()
    for length in (0, 100, len(data) // 2, len(data) - 1):
        out.write_bytes(data[:length])
        with pytest.raises(InputError, match=r"all\.h5: cannot be read as a pack: not an HDF5 file, or cut short"):
            pack.Pack(out)
    with h5py.File(out, "w") as file:
        file["vocals"] = np.zeros((2, 10), np.int16)
    with pytest.raises(InputError, match=r"all\.h5: is an HDF5 file, but not one that `pack` wrote"):
        pack.Pack(out)
    with h5py.File(out, "w") as file:
        file.attrs["format"] = "audio_core.pack.1"
    with pytest.raises(InputError, match=r"all\.h5: is a damaged pack"):
        pack.Pack(out)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("frames", [10**6] * 5, "its size is not the one promised"),
        ("frames", [-5] * 5, "is a damaged pack: a rate, number of channels or length"),
        ("frames", [float("nan")] * 5, "is a damaged pack: a rate, number of channels or length"),
        ("frames", [100], "is a damaged pack: its lists are not of its 5 items"),
        ("state", None, "is a damaged pack: its lists are not of its 5 items"),
        ("names", [1, 2, 3, 4, 5], "is a damaged pack"),
        ("facts", ["[1]"] * 5, "is a damaged pack"),
        ("facts", ["{}"], "is a damaged pack: its lists are not of its 5 items"),
        ("audio/00000000", [1, 2], "cannot be read"),
    ],
)
def test_a_pack_that_promises_what_it_does_not_hold_is_one_line(items, folder, name, value, message):
    """No silence in place of samples, no gigabytes for a list that takes no room in the file, no traceback."""
    out = folder.parent / "all.h5"
    pack.pack(folder.parent / "all.jsonl", out, RATE, 1, progress=False)
    with h5py.File(out, "r+") as file:
        del file[name]
        if value is None:
            file.create_dataset(name, (1 << 40,), "u1", chunks=(1 << 20,))
        else:
            file[name] = value if isinstance(value[0], str) else np.array(value)
    with pytest.raises(InputError, match=message):
        for track in pack.Pack(out).items:
            track.read(0, track.frames)


def test_files_that_all_became_unreadable_make_no_pack(items, folder):
    for item in items:
        item.path.write_text("gone")
    with pytest.raises(InputError, match="none of 5 files can be read"):
        pack.pack(folder.parent / "all.jsonl", folder.parent / "all.h5", RATE, 1, progress=False)
    assert not list(folder.parent.glob("*.h5*"))
