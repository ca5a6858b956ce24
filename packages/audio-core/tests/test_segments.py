"""Segments: the order of an epoch, the very samples of the files, several sources cut alike."""

import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import warm
from audio_core import audio
from audio_core.data import augment, pack
from audio_core.data.combine import Aligned, Mixture
from audio_core.data.manifest import File, inspect_file, scan
from audio_core.data.seeds import mix, shuffled
from audio_core.data.segments import Fixed, Segments, cut
from audio_core.files import InputError
from torch.utils.data import DataLoader, Subset

from .data_files import RATE, ramp

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
    one, two = File(Path("a.wav"), 8000, 1, 10), File(Path("b.wav"), 16000, 4, 10)
    with pytest.raises(InputError, match=r"differ in rate \(a\.wav has 8000, b\.wav has 16000\); say which"):
        Segments([one, two], frames=5)
    with pytest.raises(InputError, match=r"b\.wav: has 4 channels, which cannot become 2"):
        Segments([one, two], frames=5, rate=8000, channels=2)
    with pytest.raises(InputError, match="at least one audio file"):
        Segments([], frames=5)
    with pytest.raises(InputError, match="at least 1 sample long"):
        Segments([one], seconds=1e-9)
    with pytest.raises(ValueError, match="as frames or as seconds"):
        Segments([one])
    with pytest.raises(InputError, match="all, first or centre, not last"):
        Fixed([one], frames=5, take="last")


def test_surround_becomes_stereo_as_in_a_whole_file(tmp_path):
    audio.write(tmp_path / "a.wav", ramp(100, 6), RATE)
    segment = Fixed([inspect_file(tmp_path / "a.wav")], frames=100, channels=2)[0]
    assert np.array_equal(segment, audio.read(tmp_path / "a.wav", channels=2).samples)


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
    softer = Fixed(items, frames=700, take="centre", augment=augment.Gain(-6, 0))
    assert torch.equal(softer[1], softer[1]) and 0.5 <= float(softer[1].norm() / centre[1].norm()) < 1
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
