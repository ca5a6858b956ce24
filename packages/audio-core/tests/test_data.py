"""Manifests, segments, packs, augmentations: a sample is a function of (seed, index) wherever it is computed."""

import json
import os
import pickle
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
import soundfile
import torch
import warm
from audio_core import audio
from audio_core.data import augment, pack
from audio_core.data.combine import Aligned, Mixture
from audio_core.data.headers import scan_cached
from audio_core.data.manifest import File, Manifest, find_audio, scan
from audio_core.data.seeds import mix, shuffled
from audio_core.data.segments import Fixed, Segments, cut
from audio_core.files import InputError
from torch.utils.data import DataLoader, Subset

RATE = 8000


def ramp(frames: int, channels: int = 1, base: int = 0) -> np.ndarray:
    """Sample i is (base + i) / 32768: sixteen bits that tell their own place. Channels differ in sign."""
    line = ((base + np.arange(frames)) % 32768 / 32768).astype(np.float32)
    return np.stack([line * (-1) ** at for at in range(channels)])


@pytest.fixture
def folder(tmp_path) -> Path:
    """Five files of 1000 to 5000 samples in a tree, as they come: one is wrong, one hidden, one no audio."""
    root = tmp_path / "music"
    for number, name in enumerate(["b/two.flac", "a.wav", "c/deep/three.wav", "ä ö.wav", "z.wav"]):
        audio.write(root / name, ramp(1000 * (number + 1), base=5000 * number), RATE)
    (root / "b" / "broken.wav").write_text("no audio")
    (root / "notes.txt").write_text("no audio at all")
    (root / "._a.wav").write_text("a Mac was here")
    return root


@pytest.fixture
def items(folder) -> list[File]:
    return scan(folder, folder.parent / "all.jsonl", progress=False).items


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


# --- segments --------------------------------------------------------------------------------------------------


def test_an_epoch_holds_every_number_once_in_an_order_of_its_own():
    epochs = [[shuffled(at + 50 * epoch, 50, seed=3) for at in range(50)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert [shuffled(at, 50, seed=3) for at in range(50)] == epochs[0]
    assert [shuffled(at, 50, seed=4) for at in range(50)] != epochs[0]
    assert 0 <= shuffled(10**15, 50, seed=3) < 50


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 16, 17, 1000, 4097])
def test_an_epoch_of_any_length_is_whole(length):
    assert sorted(shuffled(at, length, seed=0) for at in range(length)) == list(range(length))


def test_a_shuffled_order_is_not_permuted_in_advance():
    """The order of 2^60 numbers could not be kept anywhere, and an epoch of it never ends."""
    length = 2**60 - 1
    places = [shuffled(at, length, seed=1) for at in range(1000)]
    assert len(set(places)) == 1000 and max(places) < length
    steps = np.diff(np.array(places, float) / length)
    assert abs(np.corrcoef(steps[:-1], steps[1:])[0, 1] + 0.5) < 0.1  # -1/2 for independent places
    hundredths = Counter(place * 10 // length for place in places)
    assert min(hundredths.values()) > 60 and max(hundredths.values()) < 140


def test_every_order_of_few_items_comes_about_equally_often():
    orders = Counter(tuple(shuffled(4 * epoch + at, 4, seed=5) for at in range(4)) for epoch in range(4800))
    assert len(orders) == 24 and min(orders.values()) > 120 and max(orders.values()) < 280


def test_sources_take_turns_by_their_shares(items):
    first, second, third = (Segments(items, frames=10, seed=mix(0, at)) for at in range(3))
    equal = Mixture([first, second, third])
    assert [equal.place(index) for index in range(7)] == [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1), (0, 2)]
    assert torch.equal(equal[7], second[2]) and equal.name(7) == second.name(2)
    shared = Mixture([first, second], shares=(3, 1))
    places = [shared.place(index) for index in range(400)]
    for source, share in enumerate((3, 1)):  # by share, and without a gap or a repetition
        assert [at for which, at in places if which == source] == list(range(100 * share))
    assert {source for source, _ in places[2:6]} == {0, 1}  # evenly spread
    assert shared.place(4 * 10**15) == (0, 3 * 10**15)
    for wrong in ((1,), (1, 0), (1, 0.5)):
        with pytest.raises(ValueError, match="a whole number above 0 for each of 2 sources"):
            Mixture([first, second], shares=wrong)


def test_a_segment_is_the_very_piece_of_the_file_that_its_name_says(items):
    segments = Segments(items, frames=300, seed=1)
    for index in (0, 7, 123, 10**12):
        place = segments.place(index)
        expected = audio.read(items[place.item].path).samples[:, place.start : place.start + 300]
        assert torch.equal(segments[index], torch.from_numpy(expected))
        assert segments.name(index) == f"{items[place.item].path} at {place.start / RATE:.3f} s"
    assert segments[0].dtype == torch.float32 and segments[0].shape == (1, 300)


def test_offsets_reach_from_the_first_to_the_last_sample(tmp_path):
    audio.write(tmp_path / "a.wav", ramp(103), RATE)
    segments = Segments([File(tmp_path / "a.wav", RATE, 1, 103)], frames=100)
    starts = Counter(segments.place(index).start for index in range(200))
    assert sorted(starts) == [0, 1, 2, 3]
    assert min(starts.values()) > 20


def test_a_segment_depends_on_seed_and_index_and_nothing_else(items):
    first = Segments(items, seconds=0.05, seed=1, augment=augment.Gain(-6, 6))
    forwards = [first[index] for index in range(20)]
    second = Segments(items, seconds=0.05, seed=1, augment=augment.Gain(-6, 6))
    backwards = [second[index] for index in reversed(range(20))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(forwards, backwards, strict=True))
    other = Segments(items, seconds=0.05, seed=2, augment=augment.Gain(-6, 6))
    assert not any(torch.equal(forwards[index], other[index]) for index in range(20))
    with pytest.raises(IndexError):
        first[-1]


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("packed", [False, True])
def test_workers_hear_what_we_hear(items, folder, packed):
    """A pack is opened here before the workers are forked: they must not share the file."""
    if packed:
        pack.pack(folder.parent / "all.jsonl", folder.parent / "all.h5", RATE, 1, progress=False)
        items = pack.Pack(folder.parent / "all.h5").items
    noise = augment.Mix(Segments(items, frames=100, seed=9), 0, 20)
    segments = Segments(items, frames=400, seed=1, augment=augment.Chain(augment.Gain(-3, 3), noise))
    expected = torch.stack([segments[index] for index in range(40, 64)])
    for workers, context in [(0, None), (2, "fork"), *[(1, warm.CONTEXT)] * packed]:
        loader = DataLoader(Subset(segments, range(40, 64)), 4, num_workers=workers, multiprocessing_context=context)
        assert torch.equal(torch.cat(list(loader)), expected)


def test_a_short_file_is_followed_by_silence(tmp_path):
    audio.write(tmp_path / "a.wav", ramp(100, base=1), RATE)
    segments = Segments([File(tmp_path / "a.wav", RATE, 1, 100)], frames=250, rate=RATE, channels=2)
    assert torch.equal(segments[5][:, :100], torch.from_numpy(np.repeat(ramp(100, base=1), 2, 0)))
    assert segments[5].shape == (2, 250)
    assert not segments[5][:, 100:].any()


@pytest.mark.parametrize(("own", "wanted"), [(44100, 16000), (16000, 44100), (11025, 16000), (48000, 8000)])
def test_a_segment_at_another_rate_is_that_part_of_the_resampled_file(tmp_path, own, wanted):
    samples = np.random.default_rng(0).uniform(-0.9, 0.9, (1, own)).astype(np.float32)
    audio.write(tmp_path / "a.wav", samples, own, "FLOAT")
    whole = audio.read(tmp_path / "a.wav", rate=wanted).samples
    item = File(tmp_path / "a.wav", own, 1, own)
    step = own // np.gcd(own, wanted)  # where both rates have a sample
    for start in (0, 3 * step, 20 * step):
        at = start * wanted // own
        piece = cut(item, start, 3000, wanted, 1)
        assert np.abs(piece - whole[:, at : at + 3000]).max() < 1e-4
    ending = cut(item, own - own // 100, 3000, wanted, 1)
    assert ending.shape == (1, 3000)
    assert ending[0, wanted // 100 - 20 : wanted // 100].any() and not ending[0, wanted // 100 + 1 :].any()


def test_only_the_segment_is_read(tmp_path, monkeypatch):
    audio.write(tmp_path / "a.wav", ramp(30_000), 16000)
    read, asked = audio.read, []
    monkeypatch.setattr(audio, "read", lambda path, start, frames: asked.append(frames) or read(path, start, frames))
    segments = Segments([File(tmp_path / "a.wav", 16000, 1, 30_000)], frames=100, rate=8000)
    for index in range(20):
        segments[index]
    assert len(asked) == 20 and max(asked) <= 200 + 2 * 1024 + 2


def test_what_does_not_fit_together_is_found_before_the_first_segment(tmp_path):
    one, two = File(Path("a.wav"), 8000, 1, 10), File(Path("b.wav"), 16000, 6, 10)
    with pytest.raises(InputError, match=r"differ in rate \(a\.wav has 8000, b\.wav has 16000\); say which"):
        Segments([one, two], frames=5)
    with pytest.raises(InputError, match=r"b\.wav: has 6 channels, which cannot become 2"):
        Segments([one, two], frames=5, rate=8000, channels=2)
    with pytest.raises(InputError, match="at least one audio file"):
        Segments([], frames=5)
    with pytest.raises(InputError, match="at least 1 sample long"):
        Segments([one], seconds=1e-9)
    with pytest.raises(ValueError, match="as frames or as seconds"):
        Segments([one])
    with pytest.raises(InputError, match="all, first or centre, not last"):
        Fixed([one], frames=5, take="last")


def test_a_file_that_became_shorter_since_its_scan_is_an_error(tmp_path):
    audio.write(tmp_path / "a.wav", ramp(100), RATE)
    with pytest.raises(InputError, match=r"a\.wav: has 100 samples; \d+ to \d+ was asked for"):
        Segments([File(tmp_path / "a.wav", RATE, 1, 10**9)], frames=50)[0]


def test_fixed_segments_cover_every_sample_once_in_file_order(items):
    fixed = Fixed(items, frames=700)
    assert len(fixed) == sum(-(-item.frames // 700) for item in items)
    at = 0
    for item in items:
        count = -(-item.frames // 700)
        joined = torch.cat([fixed[index] for index in range(at, at + count)], 1)
        assert torch.equal(joined[:, : item.frames], torch.from_numpy(audio.read(item.path).samples))
        assert not joined[:, item.frames :].any()
        at += count
    assert fixed.name(1) == f"{items[0].path} at {700 / RATE:.3f} s"
    assert sum(1 for _ in fixed) == len(fixed)  # iterating ends


def test_fixed_segments_may_be_one_a_file(items):
    first, centre = Fixed(items, frames=700, take="first"), Fixed(items, frames=700, take="centre")
    assert len(first) == len(centre) == 5
    assert [first.place(at) for at in range(5)] == [(at, 0) for at in range(5)]
    assert centre.place(0) == (0, (items[0].frames - 700) // 2)
    halved = Fixed(items, frames=350, rate=RATE // 2)
    assert len(halved) == len(Fixed(items, frames=700))
    assert all(segment.shape == (1, 350) for segment in halved)


# --- aligned ---------------------------------------------------------------------------------------------------


@pytest.fixture
def stems(tmp_path) -> dict[str, list[File]]:
    """Two recordings of two sources: the second source is the first with every sample 0.25 higher."""
    sources = {}
    for name, base in (("clean", 0), ("noisy", 8192)):
        for number, frames in enumerate((3000, 2000)):
            audio.write(tmp_path / name / f"{number}.wav", ramp(frames, base=base + 5000 * number), RATE)
        sources[name] = scan(tmp_path / name, tmp_path / f"{name}.jsonl", progress=False).items
    return sources


def test_aligned_sources_are_cut_at_the_same_place(stems):
    pairs, alone = Aligned(stems, frames=300, seed=4), Segments(stems["clean"], frames=300, seed=4)
    for index in (0, 1, 7, 10**9):
        pair = pairs[index]
        assert list(pair) == ["clean", "noisy"] and pair["clean"].shape == (1, 300)
        assert torch.equal(pair["clean"], alone[index])
        assert torch.equal(pair["noisy"], pair["clean"] + 0.25)
        assert pairs.name(index) == alone.name(index)
    with pytest.raises(TypeError, match="endless"):
        len(pairs)
    batch = next(iter(DataLoader(Subset(pairs, range(4)), 4)))
    assert batch["noisy"].shape == (4, 1, 300)


def test_aligned_sources_can_be_the_same_pieces_always(stems):
    held = Aligned(stems, frames=1600, take="all", rate=RATE, channels=2)
    fixed = Fixed(stems["noisy"], frames=1600, rate=RATE, channels=2)
    assert len(held) == len(fixed) == 4
    assert all(torch.equal(held[at]["noisy"], fixed[at]) for at in range(4))
    maybe = Aligned(stems, frames=100, take="centre", seed=3, augment=augment.Only("noisy", augment.Gain(-6, 6)))
    assert len(maybe) == 2 and torch.equal(maybe[1]["noisy"], maybe[1]["noisy"])
    assert not torch.equal(maybe[1]["noisy"], maybe[1]["clean"] + 0.25)


def test_augmentations_may_see_all_aligned_sources_or_one(stems):
    def add(parts, rng):
        return {**parts, "noise": parts["noisy"] - parts["clean"]}

    change = augment.Chain(augment.Together(augment.Gain(-12, 12)), augment.Only("clean", augment.Polarity()), add)
    pairs, plain = Aligned(stems, frames=300, seed=4, augment=change), Aligned(stems, frames=300, seed=4)
    gains = set()
    for index in range(5):
        pair, before = pairs[index], plain[index]
        assert torch.equal(pair["noise"], pair["noisy"] - pair["clean"])
        one, two = -pair["clean"] / before["clean"], pair["noisy"] / before["noisy"]
        assert torch.allclose(one, two[:1, :1], rtol=1e-5) and torch.allclose(two, two[:1, :1], rtol=1e-5)
        gains.add(round(float(two[0, 0]), 6))
    assert len(gains) == 5
    pickle.loads(pickle.dumps(augment.Together(augment.Gain(-12, 12))))
    often = augment.Sometimes(augment.Together(augment.Polarity()), 1.0)
    assert torch.equal(Aligned(stems, frames=300, augment=often)[0]["noisy"], -Aligned(stems, frames=300)[0]["noisy"])


def test_what_cannot_be_aligned_is_named_before_the_first_segment(stems, tmp_path):
    with pytest.raises(InputError, match="clean has 2 files, noisy has 1; each needs its partner"):
        Aligned({**stems, "noisy": stems["noisy"][:1]}, frames=10)
    short = [stems["noisy"][0]._replace(frames=2500), stems["noisy"][1]]
    with pytest.raises(InputError, match=r"noisy/0\.wav: has 2500 samples, but .*clean/0\.wav has 3000"):
        Aligned({**stems, "noisy": short}, frames=10)
    faster = [stems["noisy"][0], stems["noisy"][1]._replace(rate=16000)]
    with pytest.raises(InputError, match=r"noisy/1\.wav: has 16000 Hz, but .*clean/1\.wav has 8000"):
        Aligned({**stems, "noisy": faster}, frames=10, shortest=True)


def test_the_shortest_of_aligned_sources_can_decide(stems):
    short = [stems["noisy"][0]._replace(frames=2500), stems["noisy"][1]]
    held = Aligned({**stems, "noisy": short}, frames=2000, take="all", shortest=True)
    assert len(held) == 3
    assert all(part[:, :500].any() and not part[:, 500:].any() for part in held[1].values())
    pairs = Aligned({**stems, "noisy": short}, frames=2400, shortest=True, seed=1)
    assert max(pairs.places.place(index).start for index in range(50)) <= 100


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


# --- augment ---------------------------------------------------------------------------------------------------

TUNE = np.random.default_rng(5).uniform(-0.5, 0.5, (2, 8000)).astype(np.float32)
NOISE = [np.random.default_rng(at).standard_normal((1, 3000 * at)).astype(np.float32) for at in (1, 2, 5)]


def generator() -> np.random.Generator:
    return np.random.default_rng((1, 2))


@pytest.mark.parametrize(
    "change",
    [
        augment.Gain(-6, 6),
        augment.Polarity(),
        augment.SwapChannels(),
        augment.Mix(NOISE, 0, 10),
        augment.Shift(1000),
        augment.Shift(1000, circular=False),
        augment.Pitch(16000, -3, 3),
        augment.Tempo(0.8, 1.25),
        augment.Sometimes(augment.Polarity(), 1.0),
        augment.Chain(augment.Gain(-6, 6), augment.Polarity(), augment.Mix(NOISE, 0, 10)),
    ],
    ids=lambda change: type(change).__name__,
)
def test_every_augmentation_is_a_function_of_samples_and_generator(change):
    before = TUNE.copy()
    varied = change(TUNE, generator())
    assert np.array_equal(TUNE, before)  # the input is left alone
    assert (varied.shape, varied.dtype) == (TUNE.shape, np.float32)
    assert not np.array_equal(varied, TUNE)
    assert np.array_equal(pickle.loads(pickle.dumps(change))(TUNE, generator()), varied)


def test_gain_stays_in_its_range_and_fills_it():
    rng = generator()
    levels = [20 * np.log10((augment.Gain(-6, 3)(TUNE, rng) / TUNE).mean()) for _ in range(300)]
    assert -6 <= min(levels) < -5.8 and 2.8 < max(levels) <= 3


def test_the_ratio_of_signal_to_noise_is_the_one_asked_for():
    for ratio in (-5.0, 0.0, 17.5):
        for noise in ([NOISE[0]], [NOISE[2]], [np.repeat(NOISE[2], 2, 0)], [torch.from_numpy(NOISE[1])]):
            added = augment.Mix(noise, ratio, ratio)(TUNE, generator()).astype(np.float64) - TUNE
            assert 10 * np.log10(np.square(TUNE).mean(dtype=np.float64) / np.square(added).mean()) == pytest.approx(
                ratio, abs=1e-4
            )


def test_silence_has_no_ratio_and_stays():
    silence = np.zeros((2, 100), np.float32)
    assert not augment.Mix(NOISE, 0, 0)(silence, generator()).any()
    assert np.array_equal(augment.Mix([silence], 0, 0)(TUNE, generator()), TUNE)


def test_sometimes_is_as_often_as_it_says():
    rng, maybe = generator(), augment.Sometimes(augment.Polarity(), 0.3)
    flipped = sum(maybe(TUNE[:, :1], rng)[0, 0] == -TUNE[0, 0] for _ in range(2000))
    assert 0.26 < flipped / 2000 < 0.34


def test_a_shift_moves_samples_and_loses_them_only_when_told():
    rng = generator()
    for _ in range(50):
        moved = augment.Shift(5000)(TUNE, rng)
        assert np.array_equal(np.sort(moved), np.sort(TUNE))
        lost = augment.Shift(5000, circular=False)(TUNE, rng)
        empty = int((lost[0] == 0).sum())
        kept = lost[:, empty:] if not lost[0, 0] else lost[:, : 8000 - empty]
        assert np.array_equal(kept, TUNE[:, : 8000 - empty] if not lost[0, 0] else TUNE[:, empty:])


def test_pitch_and_tempo_change_one_thing_each():
    time = np.arange(32000) / 16000
    tone = (0.5 * np.sin(2 * np.pi * 500 * time) * (time < 1)).astype(np.float32)[None]

    def peak(samples: np.ndarray) -> float:
        return np.abs(np.fft.rfft(samples[0, 2000:10_000])).argmax() * 2.0

    higher = augment.Pitch(16000, 12, 12)(tone, generator())
    assert abs(peak(higher) - 1000) < 10
    assert np.square(higher[0, 17_000:]).sum() < 0.01 * np.square(higher).sum()
    faster = augment.Tempo(1.6, 1.6)(tone, generator())
    assert abs(peak(faster) - 500) < 10
    assert np.square(faster[0, 11_000:]).sum() < 0.01 * np.square(faster).sum()


def test_a_missing_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "librosa", None)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match=r'pip install "audio-core\[augment\]"'):
        augment.Pitch(16000, 1, 1)(TUNE, generator())
    with pytest.raises(InputError, match=r'pip install "audio-core\[hdf5\]"'):
        pack.Pack(tmp_path / "all.h5")
