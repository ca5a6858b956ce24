"""Manifests and remembered headers: what a scan finds, keeps and refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from audio_core import audio
from audio_core.data.headers import scan_cached
from audio_core.data.manifest import Manifest, find_audio, scan
from audio_core.files import InputError

from .data_files import RATE, ramp

# --- manifest --------------------------------------------------------------------------------------------------


def test_a_scan_lists_what_can_be_read_and_says_why_the_rest_cannot(folder):
    path = folder.parent / "lists" / "all.jsonl"
    result = scan(folder, path, progress=False)
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert rows[0] == {"path": "../music/a.wav", "rate": RATE, "channels": 1, "frames": 2000}
    names = ["a.wav", "b/two.flac", "c/deep/three.wav", "z.wav", "ä ö.wav"]
    assert [row["path"] for row in rows] == [f"../music/{name}" for name in names]
    assert [item.path for item in result.items] == [folder / name for name in names]
    assert [Path(each.name).name for each in result.unreadable] == ["broken.wav"]
    assert result.unreadable[0].cause.startswith("not audio that can be read (Format not recognised)")
    loaded = Manifest.load(path).items
    assert [item._replace(path=item.path.resolve()) for item in loaded] == result.items


def test_a_scan_is_the_same_for_any_number_of_workers_and_any_order_of_inputs(folder):
    inputs = [folder, folder / "a.wav", folder / "missing.wav"]
    texts = []
    for workers, order in [(1, inputs), (7, inputs[::-1])]:
        result = scan(order, folder / "all.jsonl", workers, progress=False)
        texts.append((folder / "all.jsonl").read_text("utf-8"))
        assert sorted(Path(each.name).name for each in result.unreadable) == ["broken.wav", "missing.wav"]
    assert texts[0] == texts[1]
    assert len(texts[0].splitlines()) == 5


def test_decoding_finds_what_headers_hide(tmp_path):
    audio.write(tmp_path / "good.wav", ramp(100), RATE)
    audio.write(tmp_path / "cut.flac", np.random.default_rng(0).uniform(-1, 1, (1, 20_000)), RATE)
    (tmp_path / "cut.flac").write_bytes((tmp_path / "cut.flac").read_bytes()[:9000])
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan]), RATE, "FLOAT")
    assert len(scan(tmp_path, tmp_path / "all.jsonl", progress=False).items) == 3
    result = scan(tmp_path, tmp_path / "all.jsonl", progress=False, check=True)
    assert [item.path.name for item in result.items] == ["good.wav"]
    causes = {Path(each.name).name: each.cause for each in result.unreadable}
    assert causes["nan.wav"] == "holds NaN or infinity at sample 1"
    assert "cut.flac" in causes


def test_a_scan_of_nothing_is_an_error_and_writes_nothing(tmp_path):
    with pytest.raises(InputError, match=r"no audio files found; known are .*wav"):
        scan(tmp_path, tmp_path / "all.jsonl")
    (tmp_path / "a.wav").write_text("x")
    with pytest.raises(InputError, match=r"a\.wav: not audio .*; none of 1 files can be read"):
        scan(tmp_path, tmp_path / "all.jsonl")
    assert not (tmp_path / "all.jsonl").exists()


def test_names_of_any_kind_survive_the_manifest(tmp_path):
    names = ["two\nlines.wav", "next\u2028line.wav", "日本.wav", os.fsdecode(b"no utf \xff.wav")]
    for name in names:
        audio.write(tmp_path / name, ramp(10), RATE)
    scan(tmp_path, tmp_path / "all.jsonl", progress=False)
    assert "日本" in (tmp_path / "all.jsonl").read_text("utf-8")
    assert {item.path.name for item in Manifest.load(tmp_path / "all.jsonl").items} == set(names)


def test_links_are_followed_but_not_round_in_circles(tmp_path):
    audio.write(tmp_path / "there" / "a.wav", ramp(10), RATE)
    (tmp_path / "here" / "in").mkdir(parents=True)
    (tmp_path / "here" / "other").symlink_to(tmp_path / "there")
    (tmp_path / "here" / "in" / "back").symlink_to(tmp_path / "here")
    (tmp_path / "there" / "across").symlink_to(tmp_path / "here")
    assert find_audio(tmp_path / "here") == [tmp_path / "here" / "other" / "a.wav"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not valid JSON"),
        ("[1]", "line 2: expected path, rate, channels, frames, found list"),
        ('{"path": "a.wav", "rate": 1, "frames": 3}', "line 2: expected path, .*, found frames, path, rate"),
        (
            '{"path": "a.wav", "rate": 1, "chanels": 1, "frames": 3}',
            "line 2: expected path, .*; is chanels meant to be channels?",
        ),
        (
            '{"path": "a.wav", "rate": 8e3, "channels": 1, "frames": 3}',
            "rate must be a whole number above 0 and at most 2.53, not 8000.0",
        ),
        ('{"path": "a.wav", "rate": 1, "channels": true, "frames": 3}', "channels must be .* not True"),
        ('{"path": "a.wav", "rate": 1, "channels": 1, "frames": 0}', "frames must be .* not 0"),
        (f'{{"path": "a.wav", "rate": 1, "channels": 1, "frames": {10**50}}}', "frames must be .* not 10{39}$"),
        (f'{{"path": "{"b" * 300}", "rate": 1, "channels": 1, "frames": 3}}', "1 of 2 files are missing"),
        ('{"path": "", "rate": 1, "channels": 1, "frames": 3}', "path is no file name: ''"),
        ('{"path": "b.wav", "rate": 1, "channels": 1, "frames": 3}', r"1 of 2 files are missing, .*b\.wav \(line 2\)"),
    ],
)
def test_a_wrong_manifest_is_one_line_that_says_where(tmp_path, line, message):
    audio.write(tmp_path / "a.wav", ramp(10), RATE)
    good = '{"path": "a.wav", "rate": 8000, "channels": 1, "frames": 10}'
    (tmp_path / "all.jsonl").write_text(f"{good}\n{line}\n")
    with pytest.raises(InputError, match=rf"all\.jsonl.*{message}") as error:
        Manifest.load(tmp_path / "all.jsonl")
    assert "\n" not in str(error.value)


def test_rows_carry_any_further_facts(tmp_path):
    for name in ("one.wav", "two.wav"):
        audio.write(tmp_path / name, ramp(10), RATE)
    facts = {"one.wav": {"text": "a cat\u2028", "label": 3, "partner": "two.wav", "tags": ["a", None]}, "two.wav": {}}
    items = scan(tmp_path, tmp_path / "all.jsonl", progress=False, facts=lambda path: facts[path.name]).items
    assert [dict(item.facts) for item in items] == list(facts.values())
    assert Manifest.load(tmp_path / "all.jsonl").items == items
    rows = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert rows[1] == {"path": "two.wav", "rate": RATE, "channels": 1, "frames": 10}
    for wrong, message in (({"rate": 1}, "rate cannot be a fact"), ({"x": float("nan")}, "cannot be written as JSON")):
        with pytest.raises(InputError, match=rf"one\.wav: .*{message}"):
            scan(tmp_path, tmp_path / "all.jsonl", progress=False, facts=lambda path, wrong=wrong: wrong)


def test_the_level_of_a_whole_file_is_a_fact(tmp_path):
    audio.write(tmp_path / "a.wav", np.array([[0.5] * 99_999 + [-1.0], [0.5] * 100_000]), RATE, "FLOAT")
    audio.write(tmp_path / "silence.wav", np.zeros((1, 10)), RATE)
    (tmp_path / "z.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:-4] + b"\0\0\xc0\x7f")  # ends with NaN
    result = scan(tmp_path, tmp_path / "all.jsonl", progress=False, level=True)
    assert result.items[0].facts == {"peak_db": 0.0, "rms_db": pytest.approx(20 * np.log10(0.5), abs=1e-3)}
    assert result.items[1].facts == {"peak_db": -200.0, "rms_db": -200.0}
    assert result.unreadable[0].cause == "holds NaN or infinity at sample 99999"


# --- headers ---------------------------------------------------------------------------------------------------


def test_headers_are_read_once_and_again_only_where_a_file_changed(folder, tmp_path, monkeypatch):
    cache, read, info = tmp_path / "run" / "headers.jsonl", [], audio.info
    monkeypatch.setattr(audio, "info", lambda path: read.append(Path(path).name) or info(path))
    first = scan_cached(folder, cache, progress=False)
    assert first == scan(folder, tmp_path / "all.jsonl", progress=False)._replace(items=first.items)
    assert [item.path.name for item in first.items] == ["a.wav", "two.flac", "three.wav", "z.wav", "ä ö.wav"]
    read.clear()
    assert scan_cached(folder, cache, progress=False) == first
    assert read == ["broken.wav"]  # what cannot be read may have been repaired
    audio.write(folder / "a.wav", ramp(77), RATE)
    audio.write(folder / "new.wav", ramp(78), RATE)
    read.clear()
    changed = scan_cached(folder, cache, progress=False).items
    assert sorted(read) == ["a.wav", "broken.wav", "new.wav"]
    assert {item.path.name: item.frames for item in changed}["a.wav"] == 77
    same = folder / "a.wav"
    times = same.stat()
    same.write_bytes(same.read_bytes())
    os.utime(same, ns=(times.st_atime_ns, times.st_mtime_ns + 1))  # same size, another moment
    read.clear()
    scan_cached(folder, cache, progress=False)
    assert sorted(read) == ["a.wav", "broken.wav"]


def test_one_cache_remembers_several_folders(folder, tmp_path, monkeypatch):
    audio.write(tmp_path / "other" / "b.wav", ramp(10), RATE)
    cache = tmp_path / "headers.jsonl"
    (folder / "b" / "broken.wav").unlink()
    expected = [scan_cached(each, cache, progress=False) for each in (folder, tmp_path / "other")]
    monkeypatch.setattr(audio, "info", lambda path: pytest.fail(f"{path} is read again"))
    assert [scan_cached(each, cache, progress=False) for each in (folder, tmp_path / "other")] == expected


@pytest.mark.parametrize("text", ["", "{", '{"path": "a.wav"}\n', "\0" * 100, "[]\n"])
def test_a_damaged_cache_or_none_only_costs_time(folder, tmp_path, text):
    cache = tmp_path / "headers.jsonl"
    expected = scan_cached(folder, cache, progress=False)
    cache.write_text(text)
    assert scan_cached(folder, cache, progress=False) == expected
    (tmp_path / "file").write_text("not a folder")
    assert scan_cached(folder, tmp_path / "file" / "headers.jsonl", progress=False) == expected


HEADERS = """
import sys, time
from audio_core import audio
from audio_core.data import headers
info, count = audio.info, 0
def slowly(path):
    global count
    count += 1
    time.sleep(0.1)
    return info(path)
audio.info = slowly
result = headers.scan_cached(sys.argv[1], sys.argv[2], progress=False)
print(count, len(result.items))
"""


def test_of_processes_that_start_together_one_reads_the_headers(folder, tmp_path):
    (folder / "b" / "broken.wav").unlink()
    command = [sys.executable, "-c", HEADERS, folder, tmp_path / "run" / "headers.jsonl"]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    counts = sorted(child.communicate()[0].split() for child in children)
    assert counts == [["0", "5"], ["0", "5"], ["5", "5"]]


def test_an_empty_manifest_is_an_error(tmp_path):
    (tmp_path / "all.jsonl").write_text("\n")
    with pytest.raises(InputError, match="lists no files"):
        Manifest.load(tmp_path / "all.jsonl")
