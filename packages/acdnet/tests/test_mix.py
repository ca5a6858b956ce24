"""Training items against the authors' numbers: levels, mixes, crops, and whole batches replayed to the bit."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from audio_acdnet import crops
from audio_acdnet.data import mix
from audio_core.testing import Case, close

FIXTURES = Path(__file__).with_name("fixtures")


def case(name: str) -> Case:
    return Case.load(FIXTURES / name)


def near(actual: np.ndarray, expected: torch.Tensor, relative: float) -> None:
    close(torch.as_tensor(np.asarray(actual)), expected, relative)


def toy(count: int = 6, seed: int = 0, **settings) -> mix.Mixes:
    draw = np.random.default_rng(seed)
    sounds = [draw.integers(-9000, 9000, 3000 + 500 * i).astype(np.int16) for i in range(count)]
    return mix.Mixes(sounds, [i % 3 for i in range(count)], 3, 20000, 4001, **settings)


def test_levels_are_those_of_the_authors_for_each_of_their_rates():
    known = case("gain_a_weighting")
    for rate, size in known.config["a_weight"]:
        assert mix.window_size(rate) == size
        near(mix.a_weighting_db(rate), known.outputs[f"a_weight_{rate}_{size}"], 1e-12)
    for sound, rate in known.config["sounds"]:
        near(mix.levels(known.inputs[sound].numpy(), rate), known.outputs[f"gain_A_{sound}_{rate}"], 1e-9)


def test_a_crop_shorter_than_one_window_has_a_level():
    hum = 0.5 * np.sin(np.arange(1000) * 0.3)
    assert mix.levels(hum, 20000).shape == (1,)
    assert mix.levels(hum, 20000)[0] > mix.levels(0.1 * hum, 20000)[0] + 19.9


def test_mixes_are_those_of_the_authors():
    known = case("between_class_mix")
    for number, (one, other, ratio, rate) in enumerate(known.config["mixes"]):
        first, second = known.inputs[one].numpy(), known.inputs[other].numpy()
        loudest = [mix.levels(sound, rate).max() for sound in (first, second)]
        near(loudest, known.outputs[f"g{number}"], 1e-9)
        near(mix.mix(first.astype(float), second.astype(float), ratio, rate), known.outputs[f"mix{number}"], 1e-9)


def test_stretching_cropping_and_amplifying_are_those_of_the_authors():
    known = case("helpers_waveform")
    sound, length = known.inputs["sound"].numpy(), known.config["input_length"]
    for number, drawn in enumerate(known.config["scale_uniform"]):
        factor = float(np.power(known.config["max_scale"], drawn))
        near(crops.stretch(sound, factor), known.outputs[f"scaled{number}"], 1e-10)
    for number, gain in enumerate(known.config["gain_db"]):
        near(mix.amplify(sound / crops.FULL_SCALE, gain), known.outputs[f"gained{number}"], 1e-12)
    for number, start in enumerate(known.config["crop_start"]):
        cut = crops.crop(sound, start, length) * crops.FULL_SCALE
        assert np.array_equal(cut, known.outputs[f"crop{number}"].numpy())
    # The sound between its zeros is what crops can reach; the case holds it whole.
    whole = known.outputs["padded"].numpy()
    last = len(whole) - length
    assert np.array_equal(crops.crop(sound, last, length) * crops.FULL_SCALE, whole[last:])


def test_ten_crops_are_those_of_the_authors():
    known = case("helpers_waveform")
    ten = crops.crops(known.inputs["sound"].numpy(), known.config["input_length"], known.config["n_crops"])
    assert np.array_equal(ten, known.outputs["multi_crop"].numpy())


def test_one_crop_is_the_middle_and_a_short_clip_lies_between_zeros():
    sound = np.arange(1, 102, dtype=np.int16)
    assert crops.crops(sound, 11, 1)[0, 5] * crops.FULL_SCALE == 51
    short = crops.crops(sound[:3], 11, 10)
    assert short.shape == (10, 11)
    assert [np.count_nonzero(row) for row in short] == [3] * 10  # none of it is lost


def test_a_part_of_a_stretched_sound_equals_the_same_part_of_the_whole():
    sound = np.random.default_rng(1).integers(-999, 999, 1000).astype(np.int16)
    whole = np.pad(crops.stretch(sound, 1.1), 150)
    for start in (0, 100, 149, 150, 777, len(whole) - 300):
        assert np.array_equal(crops.crop(sound, start, 300, 1.1) * crops.FULL_SCALE, whole[start : start + 300]), start


@pytest.mark.parametrize("name", ["train_batch_seed42", "train_batch_seed42_weak"])
def test_batches_of_the_authors_generator_are_replayed(name):
    """Every draw in its order, every rounding at its place. Not to the bit on processors whose numpy has another
    `power`, therefore the tolerance; it is 0 here."""
    known = case(name)
    setting = known.config
    sounds = [known.inputs[f"s{i}"].numpy() for i in range(setting["n_sounds"])]
    speed = 1.25 if setting["strong_augment"] else 1.0
    mixes = mix.Mixes(sounds, setting["labels"], setting["n_class"], setting["sr"], setting["input_length"], speed)
    stream = random.Random(setting["seed"])
    for number in range(setting["n_batches"]):
        x, y = zip(*(mixes.render(mixes.draw(stream)) for _ in range(setting["batch_size"])), strict=True)
        near(np.stack(x), known.outputs[f"x{number}"][:, 0, :, 0], 1e-7)
        assert np.array_equal(np.stack(y), known.outputs[f"y{number}"].numpy())


def test_an_item_depends_on_seed_and_index_alone():
    mixes, again, other = toy(), toy(), toy(seed=0)
    other.seed = 1
    first, _ = mixes[5], mixes[6]
    assert torch.equal(first[0], again[5][0]) and torch.equal(first[1], again[5][1])
    assert not torch.equal(mixes[5][0], mixes[6][0])
    assert not torch.equal(mixes[5][0], other[5][0])


def test_an_item_is_a_mix_of_two_classes_with_shares_that_add_up_to_one():
    mixes = toy()
    ratios = []
    for index in range(60):
        x, y = mixes[index]
        assert x.shape == (1, 4001) and x.dtype == torch.float32 and x.abs().max() > 0
        assert (y > 0).sum() == 2 and float(y.sum()) == pytest.approx(1)
        ratios.append(float(y.max()))
    assert min(ratios) < 0.6 and max(ratios) > 0.9  # the share is drawn evenly


def test_the_gain_of_items_spans_the_given_decibels():
    gains = [toy(gain_db=(-30, 0)).draw(mix.SampleDraws(0, index)).gain_db for index in range(200)]
    assert -30 <= min(gains) < -28 and -2 < max(gains) <= 0
    loud, quiet = (toy(gain_db=(gain, gain))[3][0] for gain in (0, -20))
    close(quiet * 10, loud, 1e-6)


def test_without_speed_nothing_is_stretched():
    drawn = toy(speed=1.0).draw(random.Random(3))
    assert drawn.first.factor == drawn.second.factor == 1
    stretched = [toy().draw(mix.SampleDraws(1, index)).first.factor for index in range(200)]
    assert 0.8 <= min(stretched) < 0.82 and 1.22 < max(stretched) <= 1.25


def test_clips_of_one_class_cannot_be_mixed():
    with pytest.raises(ValueError, match="two classes"):
        mix.Mixes([np.ones(9, np.int16)] * 2, [1, 1], 3, 20000, 100)
