"""Samples of training: the original's sequences and formulas, and samples that depend on seed and index alone."""

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from audio_core import config
from audio_core.data.seeds import mix
from audio_core.files import InputError
from audio_core.testing import close
from audio_sep.data import legacy, packed
from audio_sep.data.augment import augmented, longer, pitched
from audio_sep.data.places import Extent, Windows
from audio_sep.data.samples import Held, Mixtures, power, summed
from audio_sep.recipe import Augment, Data
from torch.utils.data import DataLoader

RATE = 8000


@dataclass(frozen=True)
class Memory:
    """A recording in memory."""

    samples: np.ndarray
    track: str
    rate: int = RATE

    @property
    def name(self):
        return self.track

    @property
    def channels(self):
        return self.samples.shape[0]

    @property
    def frames(self):
        return self.samples.shape[1]

    def read(self, start, frames):
        assert start >= 0 and start + frames <= self.frames
        return self.samples[:, start : start + frames]


def recordings(seed, seconds=(2.0, 0.3, 1.1), channels=2):
    rng = np.random.default_rng(seed)
    sounds = [rng.uniform(-0.5, 0.5, (channels, round(length * RATE))).astype(np.float32) for length in seconds]
    return [Memory(sound, f"song{at}") for at, sound in enumerate(sounds)]


def corpus(**kinds):
    return {source: recordings(at, **settings) for at, (source, settings) in enumerate(kinds.items())}


def build(**settings):
    return config.build(Data, {"seconds": 0.25} | settings)


# --- as the original ---------------------------------------------------------------------------------------


def test_the_sequences_of_segments_equal_the_original(stored_case):
    case = stored_case("segment_sampler")
    for remix, mixes in ((True, case.config["mixaudio_remix"]), (False, case.config["mixaudio_aligned"])):
        seeds = legacy.seeds(2, remix)
        for source, size, seed in zip(case.config["source_order"], case.config["index_sizes"], seeds, strict=True):
            expected = case.outputs[f"remixing_{str(remix).lower()}_{source}"].flatten(0, 1).tolist()
            count = mixes.get(source, 1)
            order = legacy.Order(size, count, seed)
            assert [order(at) for at in range(len(expected))] == expected
            again = legacy.Order(size, count, seed)
            for at in (30, 2, 17, 0, 35):  # a resumed run begins anywhere, and a test looks back
                assert again(at) == expected[at]


def test_augmentations_equal_the_original(stored_case):
    case = stored_case("augmentor")
    stereo, mono = (case.inputs[name].numpy() for name in ("stereo", "mono"))
    loud = Augment(gain_db=(-10, 10), swap=True, polarity=True)
    turned = Augment(swap=True, polarity=True)  # the original turns it, though its recipe says no
    draw = np.random.RandomState(case.config["random_seed"])
    for call, expected in zip(case.config["calls"], case.outputs["stereo_calls"], strict=True):
        steps = loud if call == "vocals" else turned
        close(torch.from_numpy(augmented(stereo, steps, draw)).double(), expected, 1e-6)
    draw = np.random.RandomState(case.config["mono_seed"])
    for expected in case.outputs["mono_calls"]:
        close(torch.from_numpy(augmented(mono, Augment(gain_db=(-30, 10)), draw)), expected, 1e-6)


def test_pitch_equals_the_original(stored_case):
    case = stored_case("pitch_shift")
    draw = np.random.RandomState(case.config["random_seed"])
    for at, semitones in enumerate(case.outputs["semitones"].tolist()):
        x = case.inputs["mono" if at == 3 else "stereo"].numpy()
        expected = case.outputs[f"call{at}"].numpy()
        assert np.abs(pitched(x, semitones) - expected).max() <= 1e-7
        assert np.abs(augmented(x, Augment(pitch=4), draw) - expected).max() <= 1e-7


def test_mixed_segments_equal_the_original(stored_case):
    case = stored_case("dataset_mix")
    files = {name: Memory(packed.to_float(case.inputs[name].numpy()), name, 44100) for name in "abc"}
    for at, item in enumerate(case.config["items"]):
        for source, entries in item.items():
            segments = [(files[name], start) for name, start in entries]
            x = summed(segments, Augment(mix=len(segments)), 2000, 44100, 2, np.random.default_rng(0))
            close(torch.from_numpy(x), case.outputs[source][at], 1e-6)


def test_sixteen_bits_are_rounded_as_in_the_original(stored_case):
    case = stored_case("int16_and_sdr")
    numbers = packed.to_int16(case.inputs["x"].numpy())
    np.testing.assert_array_equal(numbers, case.outputs["int16"].numpy())
    np.testing.assert_array_equal(packed.to_float(numbers), case.outputs["back"].numpy())


def test_the_originals_places_are_a_tenth_of_a_second_apart():
    extents = [Extent(44100, 44100), Extent(4410 * 9, 44100), Extent(100, 44100), Extent(44101, 44100)]
    windows = legacy.IndexedWindows(extents, 0.5, 1, 0)
    assert windows.counts == [5, 4, 1, 6]  # begin + segment < length, and one for what is shorter
    assert [windows.place(entry)[:] for entry in (0, 4, 5, 9, 15)] == [(0, 0), (0, 17640), (1, 0), (2, 0), (3, 22050)]
    with pytest.raises(InputError, match="2 segments are to be mixed, and the recordings hold 1"):
        legacy.IndexedWindows(extents[2:3], 0.5, 2, 0)


# --- random places -----------------------------------------------------------------------------------------


def test_an_epoch_has_each_window_once_and_hears_all_parts_equally_often():
    extents = [Extent(16000, RATE), Extent(900, RATE), Extent(4000, 4000)]
    windows = Windows(extents, 0.25, 2, seed=3)
    assert windows.counts == [8, 1, 4]
    for epoch in range(3):
        places = [windows.place(entry) for entry in range(13 * epoch, 13 * epoch + 13)]
        assert Counter(place.recording for place in places) == {0: 8, 1: 1, 2: 4}
    starts = [place.start for entry in range(13 * 300) if (place := windows.place(entry)).recording == 0]
    assert 0 <= min(starts) < 50 and 13950 < max(starts) <= 14000
    counts, _ = np.histogram(starts, 7, (0, 14001))
    assert counts.min() > 0.85 * counts.mean()
    assert windows(5) == [windows.place(10), windows.place(11)]


def test_random_places_lie_within_the_recording_whatever_its_length():
    for frames in (1, 2, 1999, 2000, 2001, 5000):
        windows = Windows([Extent(frames, RATE)], 0.25, 1, seed=0)
        starts = [windows.place(entry).start for entry in range(50)]
        assert min(starts) >= 0 and max(starts) <= max(0, frames - 2000)


AUGMENT = {"mix": 2, "pitch": 2, "gain_db": [-6, 6], "swap": True, "polarity": True}


@pytest.mark.parametrize("sampling", ["random", "bytesep"])
@pytest.mark.parametrize("remix", [True, False])
def test_a_sample_depends_on_seed_and_index_alone(sampling, remix):
    steps = AUGMENT if remix else AUGMENT | {"pitch": 0}
    data = build(augment={"vocals": steps, "accompaniment": steps}, sampling=sampling, remix=remix)
    sounds = corpus(vocals={}, accompaniment={})
    one, same, other = (Mixtures(data, sounds, RATE, 2, seed) for seed in (1, 1, 2))
    forwards = [one[index] for index in range(9)]
    for index in reversed(range(9)):
        for source in data.inputs:
            assert torch.equal(forwards[index][source], same[index][source])
            assert forwards[index][source].shape == (2, 2000)
    differ = sum(not torch.equal(forwards[index]["vocals"], other[index]["vocals"]) for index in range(9))
    assert differ >= 8
    assert one.name(3).count("song") == 4


def test_two_workers_draw_differently_and_give_what_none_give():
    """The original's workers share one random state, so that all draw the same augmentations."""
    data = build(augment={"vocals": AUGMENT})
    mixtures = Mixtures(data, corpus(vocals={"seconds": (0.25,)}, accompaniment={}), RATE, 2, 0)

    class Eight(torch.utils.data.Dataset):
        def __len__(self):
            return 8

        def __getitem__(self, index):
            return mixtures[index]

    alone, together = ([*DataLoader(Eight(), 2, num_workers=workers)] for workers in (0, 2))
    for one, two in zip(alone, together, strict=True):
        assert torch.equal(one["vocals"], two["vocals"])
    vocals = torch.cat([batch["vocals"] for batch in together])  # always the same recording, augmented anew
    assert len({round(float(x.square().sum()), 3) for x in vocals}) == 8


def test_aligned_sources_come_from_the_same_place_of_the_same_song():
    ramp = [Memory(np.arange(at, at + 9000, dtype=np.float32)[None].repeat(2, 0), f"song{at}") for at in (0, 100000)]
    shorter = [Memory(x.samples[:, :8000] / 2, x.track) for x in ramp]
    aligned = Mixtures(build(remix=False), {"vocals": ramp, "accompaniment": shorter}, RATE, 2, 0)
    for index in range(30):
        sample = aligned[index]
        heard = sample["accompaniment"] != 0
        assert torch.equal(sample["vocals"][heard], 2 * sample["accompaniment"][heard])
    remixed = Mixtures(build(), {"vocals": ramp, "accompaniment": ramp}, RATE, 2, 0)
    assert sum(torch.equal(*remixed[index].values()) for index in range(30)) == 0


# --- augmentations mean what they say ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "changed"),
    [({}, False), ({"swap": False, "polarity": False}, False), ({"swap": True}, True), ({"polarity": True}, True)],
)
def test_a_flag_that_is_off_changes_nothing(setting, changed):
    """In the original a flag in the recipe counts as on, whatever its value."""
    x = recordings(0)[0].samples
    results = [augmented(x, config.build(Augment, setting), np.random.default_rng(seed)) for seed in range(20)]
    assert any(not np.array_equal(x, result) for result in results) == changed
    same = sum(np.array_equal(x, result) for result in results)
    assert same >= 2  # of two orders of channels, or four pairs of signs, one changes nothing


def test_gains_are_in_their_range_and_pitch_keeps_the_length():
    x = recordings(0)[0].samples
    gains = [
        10 * math.log10(power(augmented(x, Augment(gain_db=(-6, 3)), np.random.default_rng(seed))) / power(x))
        for seed in range(200)
    ]
    assert -6 <= min(gains) < -5.5 and 2.5 < max(gains) <= 3
    steps = Augment(pitch=4)
    for seed in range(10):
        segment = augmented(x[:, : longer(2000, steps)], steps, np.random.default_rng(seed))
        assert segment.shape[1] >= 2000
    assert np.abs(pitched(x, 0)[:, 1:] - x[:, :-1]).max() == 0  # one sample late


# --- validation --------------------------------------------------------------------------------------------


def test_songs_are_validated_on_in_their_middle():
    sounds = corpus(vocals={}, accompaniment={})
    whole, middle = (Held(build(valid_seconds=x), sounds, RATE, 2, "vocals") for x in (0, 0.5))
    assert len(whole) == 3 and whole.songs
    assert whole[0]["vocals"].shape == (2, 16000) and middle[0]["vocals"].shape == (2, 4000)
    assert torch.equal(middle[0]["accompaniment"], whole[0]["accompaniment"][:, 6000:10000])
    assert torch.equal(middle[1]["vocals"], whole[1]["vocals"])  # shorter than half a second
    with pytest.raises(IndexError):
        whole[3]


def test_recordings_of_no_song_are_mixed_at_the_levels_in_turn():
    sounds = corpus(voice={"channels": 1}, music={"seconds": (0.4, 3.0)})
    sounds["music"] = [Memory(x.samples, f"piece{at}") for at, x in enumerate(sounds["music"])]
    data = build(inputs=["voice", "music"], valid_db=[-5, 5])
    held = Held(data, sounds, RATE, 2, "voice")
    assert len(held) == 3 and not held.songs
    for index, level in enumerate((-5, 5, -5)):
        voice, music = held[index]["voice"], held[index]["music"]
        assert voice.shape == music.shape == (2, sounds["voice"][index].frames)
        assert 10 * math.log10(power(voice.numpy()) / power(music.numpy())) == pytest.approx(level, abs=0.01)
        assert torch.equal(held[index]["voice"], voice) and music[:, -100:].any()


def test_seeds_of_sources_differ():
    assert mix(0, 0) != mix(0, 1)
    assert legacy.seeds(2, remix=True) == [8915, 1318] and legacy.seeds(2, remix=False) == [1234, 1234]
