"""Recordings that are inpainted, continued and varied: what is kept is kept sample for sample."""

import numpy as np
import pytest
from audio_core.files import InputError
from audio_gen.editing import BLEND, continued, inpaint, pasted, regions_of, varied

from . import toys

RATE = 1600  # twice the model's


@pytest.fixture(autouse=True)
def toy_codec(monkeypatch):
    monkeypatch.setattr("audio_core.codec.find", lambda name: toys.ToyCodec)


def recording(seconds=0.5, channels=2, seed=0):
    rng = np.random.default_rng(seed)
    return (0.3 * rng.standard_normal((channels, round(seconds * RATE)))).astype(np.float32)


@pytest.mark.parametrize("inpaints", [True, False])
def test_kept_regions_are_the_recording_itself(inpaints):
    sound = recording()
    result = inpaint(toys.model(inpaints=inpaints), sound, RATE, [(0.0, 0.15), (0.35, 0.5)], "rain", seed=1, steps=3)
    assert result.shape == sound.shape and result.dtype == np.float32
    assert np.array_equal(result[:, :240], sound[:, :240]) and np.array_equal(result[:, 560:], sound[:, 560:])
    gap = slice(240, 560)
    assert np.isfinite(result).all() and not np.allclose(result[:, gap], sound[:, gap], atol=0.05)


def test_gaps_of_a_long_recording_are_filled_where_they_are():
    sound = recording(3.0)
    result = inpaint(toys.model(), sound, RATE, [(0, 1.0), (1.2, 2.9)], "rain", seed=1, steps=2)
    changed = np.flatnonzero((result != sound).any(0))
    assert result.shape == sound.shape
    assert changed.min() >= 1600 and set(changed) <= {*range(1600, 1920), *range(4640, 4800)}
    assert len(changed) > 400
    with pytest.raises(InputError, match=r"from 1 to 2 s nothing is kept, and this model generates up to 0.5 s"):
        inpaint(toys.model(), sound, RATE, [(0, 1.0), (2.0, 3.0)], "rain", seed=1, steps=2)


def test_a_gap_is_filled_without_what_is_to_be_filled_later(monkeypatch):
    """Nor with the same noise."""
    heard, seeds = [], []

    def made(model, part, rate, regions, prompt, seed, **settings):
        heard.append(regions)
        seeds.append(seed)
        return part

    monkeypatch.setattr("audio_gen.editing._inpainted", made)
    keep = [(0, 1.0), (1.1, 1.2), (1.3, 3.0)]
    inpaint(toys.model(), recording(3.0), RATE, keep, "rain", seed=4)
    first, second = heard
    assert seeds == [4, 5] and len(first) == 2  # before and between; not the second gap
    assert sum(end - start for start, end in first) == 800 - 320 and sum(end - start for start, end in second) == 640


def test_a_short_gap_has_no_step():
    sound, made = np.full((1, 400), 0.5, np.float32), np.zeros((1, 400), np.float32)
    result = pasted(sound, made, [(0, 100), (110, 400)], 10_000)  # 10 samples, where a fade takes 100
    assert np.abs(np.diff(result[0])).max() < 0.13


def test_a_step_beside_a_kept_region_fades():
    sound, made = np.ones((1, 400), np.float32), np.zeros((1, 400), np.float32)
    result = pasted(sound, made, [(100, 200)], 1000)
    count = round(BLEND * 1000)
    assert (result[0, 100:200] == 1).all() and (result[0, : 100 - count] == 0).all()
    assert (np.diff(result[0, 199 : 201 + count]) < 0.11).all() and result[0, 200] < 1
    assert np.allclose(result[0, 200 : 200 + count], result[0, 99 : 99 - count : -1])


@pytest.mark.parametrize("seconds", [0.1, 1.7])
def test_a_continued_recording_begins_with_itself(seconds):
    sound = recording(0.7)
    result = continued(toys.model(), sound, RATE, seconds, "rain", seed=4, steps=2)
    assert result.shape == (2, sound.shape[1] + round(seconds * RATE))
    assert np.array_equal(result[:, : sound.shape[1]], sound)
    assert np.isfinite(result).all() and result[:, sound.shape[1] :].std() > 0.01
    again = continued(toys.model(), sound, RATE, seconds, "rain", seed=4, steps=2)
    assert np.array_equal(result, again)


def test_a_variation_is_nearer_to_the_recording_where_its_strength_is_less():
    sound = recording(0.5, channels=1)
    model = toys.model()
    most, least = (varied(model, sound, RATE, strength, "rain", seed=2, steps=6) for strength in (1.0, 0.05))
    codec = varied(model, sound, RATE, 1e-6, "rain", seed=2, steps=6)
    assert most.shape == sound.shape
    assert np.abs(least - codec).mean() < 0.2 * np.abs(most - codec).mean()


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ([(0.2, 0.1)], "keep: expected seconds such as 0:4, a start before an end, got 0.2:0.1"),
        ([(-1, 0.1)], "a start before an end, got -1:0.1"),
        ([(0.0, 9.0)], "keep: all of the recording is kept, so there is nothing to generate"),
        ([(2.0, 3.0)], "keep: 2 s lies behind the end of the audio, 0.5 s"),
    ],
)
def test_regions_that_cannot_be_are_refused(keep, message):
    with pytest.raises(InputError, match=message):
        inpaint(toys.model(), recording(), RATE, keep, "rain", seed=1)


def test_regions_are_joined_and_cut_at_the_end():
    assert regions_of([(0.3, 9.0), (0.0, 0.1), (0.05, 0.2)], 800, RATE) == [(0, 320), (480, 800)]


def test_negative_prompts_keep_the_other_conditions():
    item = {"prompt": "rain", "seconds_total": 2.0}
    result = varied(toys.model(), recording(), RATE, 0.5, item, "wind", seed=1, steps=2)
    assert np.isfinite(result).all()


@pytest.mark.parametrize("settings", [{"seconds": 0}, {"seconds": 1, "context": 0.5}, {"seconds": 1, "context": 0}])
def test_lengths_that_cannot_be_are_refused(settings):
    with pytest.raises(InputError, match=r"expected (a length|seconds) above 0"):
        continued(toys.model(), recording(), RATE, prompt="rain", seed=1, **settings)


def test_audio_that_is_none_is_refused():
    with pytest.raises(InputError, match="audio: holds NaN"):
        varied(toys.model(), np.full((1, 100), np.nan, np.float32), RATE, seed=1)
    with pytest.raises(InputError, match="audio: holds int16"):
        inpaint(toys.model(), np.zeros((1, 100), np.int16), RATE, [(0, 0.01)], seed=1)
    with pytest.raises(InputError, match=r"audio: lasts 1 s, and this model takes up to 0.5 s; cut it"):
        varied(toys.model(), recording(1.0), RATE, seed=1)


def test_one_sample_is_a_recording():
    sound = np.full((1, 1), 0.1, np.float32)
    assert varied(toys.model(), sound, RATE, seed=1, steps=2).shape == (1, 1)
    assert continued(toys.model(), sound, RATE, 0.1, seed=1, steps=2).shape == (1, 161)
