"""Shards: WebDataset tar files whose samples are read where they lie, by index."""

import io
import json
import os
import pickle
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from audio_core import audio
from audio_core.data import shards
from audio_core.data.manifest import File, scan
from audio_core.data.segments import Fixed, Segments
from audio_core.data.sharding import shard, write
from audio_core.data.shards import Shards, split
from audio_core.files import InputError
from audio_core.testing import noise

RATE = 8000
NAMES = ["a.flac", "b/two.v1.wav", "b/two_v1.wav", "c.ogg", "ä ö.wav", "z.mp3"]


@pytest.fixture
def items(tmp_path) -> list[File]:
    for number, name in enumerate(NAMES):
        audio.write(tmp_path / "music" / name, noise(number, 0.5 + 0.1 * number, RATE).numpy(), RATE)
    facts = {"a.flac": {"text": "a cat", "rate_of_speech": 3}}
    return scan(
        tmp_path / "music", tmp_path / "all.jsonl", progress=False, facts=lambda path: facts.get(path.name, {})
    ).items


@pytest.fixture
def folder(items, tmp_path) -> Path:
    shard(tmp_path / "all.jsonl", tmp_path / "shards", size=20_000, progress=False)
    return tmp_path / "shards"


def test_a_segment_of_a_shard_is_the_segment_of_its_file(items, folder):
    opened = Shards(folder)
    assert len({item.tar for item in opened.items}) > 2 and not opened.unreadable
    assert [item.key for item in opened.items] == ["a", "b/two_v1", "b/two_v1-2", "c", "z", "ä ö"]
    assert opened.items[0].facts == {"text": "a cat", "rate_of_speech": 3} and opened.items[1].facts == {}
    one, two = Segments(opened.items, frames=500, seed=3), Segments(items, frames=500, seed=3)
    for index in range(30):
        assert torch.equal(one[index], two[index])
    again = pickle.loads(pickle.dumps(one))
    assert torch.equal(again[7], two[7])
    assert len(Fixed(opened.items, frames=500)) == len(Fixed(items, frames=500))
    with pytest.raises(InputError, match=r"shard-000000\.tar:a\.flac: has 4000 samples; 3990 to 4010 was asked for"):
        opened.items[0].read(3990, 20)


def test_the_tars_are_plain_and_each_sample_stands_together(items, folder):
    names, data = [], {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for info in tar:
                names.append(info.name)
                data[info.name] = tar.extractfile(info).read()
    assert names[:4] == ["a.flac", "a.json", "b/two_v1.wav", "b/two_v1.json"]
    for item, sample in zip(items, Shards(folder).items, strict=True):
        assert data[f"{sample.key}{item.path.suffix}"] == item.path.read_bytes()
        row = json.loads(data[f"{sample.key}.json"])
        assert row == {"rate": RATE, "channels": 1, "frames": item.frames, **item.facts}


def test_only_what_is_needed_of_a_shard_is_read(tmp_path, monkeypatch):
    audio.write(tmp_path / "in" / "long.wav", noise(1, 60.0, RATE).numpy(), RATE)
    scan(tmp_path / "in", tmp_path / "all.jsonl", progress=False)
    shard(tmp_path / "all.jsonl", tmp_path / "shards", progress=False)
    item, sizes = Shards(tmp_path / "shards").items[0], []
    from audio_core.audio.section import _Window

    readinto = _Window.readinto
    monkeypatch.setattr(_Window, "readinto", lambda self, buffer: sizes.append(len(buffer)) or readinto(self, buffer))
    assert item.read(400_000, 100).shape == (1, 100)
    assert 0 < sum(sizes) < 100_000 < item.frames


def test_any_files_of_a_key_can_be_a_sample(tmp_path):
    latents = {
        f"song{at:02d}": {"npy": bytes([at]) * 300, "json": json.dumps({"rate": 21.5}).encode()} for at in range(3)
    }
    write(tmp_path / "latents.tar", latents.items())
    opened = Shards(tmp_path / "latents.tar")
    assert opened.items == [] and [sample.key for sample in opened.samples] == list(latents)
    assert opened.samples[2].content("npy") == bytes([2]) * 300
    assert opened.samples[2].facts == {"rate": 21.5}
    with pytest.raises(InputError, match=r"latents\.tar:song00: holds npy, json, but no wav"):
        opened.samples[0].content("wav")
    for key in ("a.b", "/a", "../a", "a/", ""):
        with pytest.raises(InputError, match="is no name in a shard"):
            write(tmp_path / "x.tar", [(key, {"npy": b""})])
    assert not (tmp_path / "x.tar").exists()


def test_a_tar_is_not_written_without_its_index(tmp_path):
    """Else the next call would take it for a tar of something else."""
    (tmp_path / "x.tar.index").mkdir()
    with pytest.raises(InputError, match=r"x\.tar\.index: is a folder"):
        write(tmp_path / "x.tar", [("a", {"txt": b"text"})])
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar.index"]


def test_names_are_split_as_webdataset_splits_them():
    assert split("a/b.c/d.left.wav") == ("a/b.c/d", "left.wav")
    assert split("README") is None and split("a/.hidden") is None and split("a.b/c") is None


@pytest.mark.parametrize("damage", ["none", "old", "text", "outside", "infinite", "endless"])
def test_a_tar_without_a_fitting_index_is_indexed_when_opened(items, folder, damage):
    expected = Shards(folder).samples
    for index in folder.glob("*.index"):
        if damage == "none":
            index.unlink()
        elif damage == "old":
            tar = index.with_suffix("")
            os.utime(tar, ns=(0, 1))
        elif damage == "text":
            index.write_text("{")
        elif damage == "endless":
            index.write_text(re.sub(r'"frames": \d+', f'"frames": {10**50}', index.read_text()))
        else:
            place = "[512, 99999999]" if damage == "outside" else "[1e999, 1]"
            index.write_text(index.read_text().replace('"members": {"', f'"members": {{"x": {place}, "'))
    assert Shards(folder).samples == expected
    assert all(shards.read_index(tar) for tar in folder.glob("*.tar"))  # and remembered


def test_sharding_goes_on_where_it_was_stopped(items, tmp_path, folder):
    before = {path.name: path.read_bytes() for path in folder.glob("*.tar")}
    names = sorted(before)
    (folder / names[1]).unlink()
    times = {name: (folder / name).stat().st_mtime_ns for name in names if name != names[1]}
    assert shard(tmp_path / "all.jsonl", folder, size=20_000, progress=False) == (len(names), 6, [])
    assert {path.name: path.read_bytes() for path in folder.glob("*.tar")} == before
    assert times == {name: (folder / name).stat().st_mtime_ns for name in times}


KILLED = """
import sys, time
from audio_core.data import sharding
print("now", flush=True)
sharding.shard(sys.argv[1], sys.argv[2], 20_000, progress=False)
"""


@pytest.mark.parametrize("milliseconds", [0, 2, 5, 10, 20])
def test_sharding_killed_at_any_moment_is_finished_by_the_next(items, tmp_path, folder, milliseconds):
    import time

    out, manifest = tmp_path / "killed", tmp_path / "all.jsonl"
    with subprocess.Popen([sys.executable, "-c", KILLED, manifest, out], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "now\n"
        time.sleep(milliseconds / 1000)
        child.kill()
    shard(manifest, out, 20_000, progress=False)
    expected = {path.name: path.read_bytes() for path in folder.glob("*.tar")}
    assert {path.name: path.read_bytes() for path in out.glob("*.tar")} == expected
    assert len(Shards(out).items) == 6


def test_shards_of_something_else_are_not_touched(items, tmp_path, folder):
    scan(tmp_path / "music" / "b", tmp_path / "few.jsonl", progress=False)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InputError, match=r"shard-000000\.tar: is no part of these shards; .*--force"):
        shard(tmp_path / "few.jsonl", folder, progress=False)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert shard(tmp_path / "few.jsonl", folder, progress=False, force=True).tars == 1
    assert len(Shards(folder).items) == 2
    assert sorted(path.name for path in folder.iterdir()) == ["shard-000000.tar", "shard-000000.tar.index"]
    write(folder / "mine.tar", [("a", {"txt": b"mine"})])
    with pytest.raises(InputError, match=r"mine\.tar: is no part of these shards; give another folder$"):
        shard(tmp_path / "few.jsonl", folder, progress=False, force=True)


def test_what_broke_since_the_scan_is_left_out_and_tried_again(items, tmp_path):
    manifest, out = tmp_path / "all.jsonl", tmp_path / "shards"
    whole = items[3].path.read_bytes()
    items[3].path.write_text("broken")
    audio.write(items[4].path, noise(1, 0.1, RATE).numpy(), RATE)
    for _ in range(2):
        result = shard(manifest, out, 20_000, progress=False)
        assert result.items == 4 and [Path(each.name).name for each in result.unreadable] == ["c.ogg", "z.mp3"]
        assert result.unreadable[1].cause == "is not the file that was scanned; scan again"
    assert shard(manifest, tmp_path / "each", 1, progress=False).tars == 4  # of 6 files, one in each tar
    items[3].path.write_bytes(whole)
    assert shard(manifest, out, 20_000, progress=False).items == 5
    for item in items:
        item.path.write_text("gone")
    with pytest.raises(InputError, match="none of 6 files can be read"):
        shard(manifest, tmp_path / "none", progress=False)
    assert not list(tmp_path.glob("none/*"))


def test_broken_samples_are_listed_and_the_rest_is_read(tmp_path):
    audio.write(tmp_path / "a.wav", noise(1, 0.1, RATE).numpy(), RATE)
    good = (tmp_path / "a.wav").read_bytes()
    samples = [
        ("good", {"wav": good}),
        ("cut", {"wav": good[:500]}),
        ("text", {"flac": b"no audio"}),
        ("list", {"wav": good, "json": b"[]"}),
        ("half", {"wav": good, "json": b"{"}),
    ]
    write(tmp_path / "all.tar", samples)
    for _ in range(2):  # found, then remembered
        opened = Shards(tmp_path)
        assert [item.key for item in opened.items] == ["good"]
        causes = {Path(each.name).name.split(":")[1]: each.cause for each in opened.unreadable}
        assert list(causes) == ["cut", "text", "list", "half"]
        assert "truncated" in causes["cut"] and causes["half"] == "half.json: is no JSON object"


def member(name: str, **fields) -> bytes:
    """A tar of one member, with the fields of its header as they are wanted."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        info = tarfile.TarInfo(name)
        for field, value in fields.items():
            setattr(info, field, value)
        tar.addfile(info)
    return file.getvalue()


HOSTILE = {
    "absolute": (member("/etc/passwd.wav"), "would lie outside its folder"),
    "above": (member("a/../../b.wav"), "would lie outside its folder"),
    "symlink": (member("a.wav", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "is a link or a device"),
    "hard link": (member("a.wav", type=tarfile.LNKTYPE, linkname="b"), "is a link or a device"),
    "device": (member("a.wav", type=tarfile.CHRTYPE), "is a link or a device"),
    "huge": (member("a.wav")[:124] + b"77777777777\0" + member("a.wav")[136:], "no tar file|is truncated"),
    "twice": (member("a.wav")[:512] + member("a.wav"), "holds a.wav twice"),
    "deep": (member("a.wav", type=tarfile.GNUTYPE_LONGNAME)[:512] * 3000 + member("a.wav"), "no tar file"),
    "text": (b"these are no blocks" * 100, "no tar file"),
    "empty": (b"", "no tar file|is truncated"),
    "gzip": (b"\x1f\x8b\x08" + bytes(600), "no tar file .*; compressed ones cannot"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_tar_is_one_line(tmp_path, kind):
    data, message = HOSTILE[kind]
    (tmp_path / "x.tar").write_bytes(data)
    with pytest.raises(InputError, match=rf"x\.tar: .*({message})") as error:
        Shards(tmp_path / "x.tar")
    assert "\n" not in str(error.value) and not (tmp_path / "x.tar.index").exists()


def test_a_tar_cut_short_anywhere_is_one_line(folder):
    tar = sorted(folder.glob("*.tar"))[1]
    data = tar.read_bytes()
    end = max(sum(place) for sample in Shards(tar).samples for place in sample.members.values())
    for length in [*range(0, end, 997), end]:
        tar.write_bytes(data[:length])
        with pytest.raises(InputError, match=r"\.tar: is (truncated|no tar file)"):
            Shards(tar)


def test_mutated_tars_never_end_in_anything_but_a_line(folder):
    tar = sorted(folder.glob("*.tar"))[0]
    data, rng = tar.read_bytes(), np.random.default_rng(0)
    for seed in range(300):
        mutated = bytearray(data)
        for at in rng.integers(0, 1024, 3):  # of the headers
            mutated[at] = rng.integers(256)
        tar.write_bytes(mutated)
        try:
            for item in Shards(tar).items:
                item.read(0, 10)
        except InputError as error:
            assert "\n" not in str(error), seed


def test_a_folder_without_tars_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"holds no \.tar files; `audio-core shard` writes them"):
        Shards(tmp_path)
    with pytest.raises(InputError, match=r"none\.tar: No such file"):
        Shards(tmp_path / "none.tar")


def test_what_a_killed_process_left_beside_the_shards_is_no_foreign_tar(tmp_path):
    for name in "ab":
        audio.write(tmp_path / f"in/{name}.wav", noise(1, 0.2).numpy(), 16000)
    scan(tmp_path / "in", tmp_path / "list.jsonl", progress=False)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/.shard-000000.0123-1.part.tar").write_bytes(b"half")
    assert shard(tmp_path / "list.jsonl", tmp_path / "out", progress=False).tars
