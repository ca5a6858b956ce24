"""Folders of latents and codes, in both layouts."""

import dataclasses
import json

import numpy as np
import pytest
from audio_core import latents as stored
from audio_core.testing import refused
from audio_gen.config.conditioners import CodecSource
from audio_gen.config.language import LanguageModelConfig
from audio_gen.config.models import LMConfig
from audio_gen.data.corpus import Corpus
from audio_gen.data.latents import Encoded
from audio_gen.recipe.data import Data

from .data_toys import MARK, OTHER, Toy, ramp, same, save, save_npy


def corpus(root, model=None, fingerprint=b"", **settings):
    return Corpus(Data(root=root, **{"held_out": 0, **settings}), model or Toy(), root.parent / "run", fingerprint)


def names(found):
    return sorted(item.place.name for items in found.learned for item in items)


def test_a_crop_says_where_it_begins_and_what_is_real(tmp_path):
    save(tmp_path / "in/a.safetensors", ramp(4, 100), seconds_start=3, seconds_total=14, timestamps=[0.2, 0.9])
    source = corpus(tmp_path / "in").training(0)
    starts = set()
    for index in range(20):
        sample = source[index]
        start = int(sample.values[0, 0])
        starts.add(start)
        assert sample.values.shape == (4, 8) and sample.real.all()
        assert sample.values[3, 7] == start + 7
        assert sample.facts["seconds_start"] == 3 + start // 10  # ten frames are a second
        assert sample.facts["seconds_total"] == 14
        assert sample.facts["timestamps"] == pytest.approx((0.2 + 0.7 * start / 100, 0.2 + 0.7 * (start + 8) / 100))
    assert len(starts) > 5
    assert max(starts) > 10  # so that a second has passed


def test_samples_are_functions_of_seed_and_index(tmp_path):
    for name in "abc":
        save(tmp_path / f"in/{name}.safetensors", ramp(4, 50, ord(name)))
    found = corpus(tmp_path / "in")
    once, again, other = found.training(1), corpus(tmp_path / "in").training(1), found.training(2)
    forwards = [once[index] for index in range(9)]
    backwards = [again[index] for index in reversed(range(9))][::-1]
    assert all(map(same, forwards, backwards))
    assert not all(same(sample, other[index]) for index, sample in enumerate(forwards))
    for epoch in range(3):
        assert sorted(sample.facts["relpath"] for sample in forwards[3 * epoch : 3 * epoch + 3]) == [
            "a.safetensors",
            "b.safetensors",
            "c.safetensors",
        ]


def test_short_items_are_followed_by_zeros_that_are_not_real(tmp_path):
    save(tmp_path / "in/a.safetensors", ramp(4, 6, 1), samples=450)
    sample = corpus(tmp_path / "in", Toy(scale=2.0)).training(0)[0]
    assert sample.real.tolist() == [True] * 5 + [False] * 3  # the fifth holds half a frame of audio
    assert sample.values[0].tolist() == [0.5, 1, 1.5, 2, 2.5, 0, 0, 0]


def test_the_layout_of_stable_audio_tools(tmp_path):
    root = tmp_path / "in"
    for at in range(3):
        mask = [1] * 5 + [0] * 15
        save_npy(
            root / f"0/000000000{at:04d}.npy", ramp(4, 20, at), mask, seconds_start=at, seconds_total=2, prompt="a horn"
        )
    details = {"model_config": {"sample_rate": 1000, "audio_channels": 1, "model": {"downsampling_ratio": 100}}}
    (root / "details.json").write_text(json.dumps(details))
    found = corpus(root)
    assert (len(found), found.kind, found.fingerprint) == (3, "latents", b"")
    sample = found.training(0)[0]
    assert sample.real.tolist() == [True] * 5 + [False] * 3
    assert not sample.values[:, 5:].any()  # what fills the item up is none of it
    assert sample.facts["prompt"] == "a horn"
    assert sample.facts["seconds_start"] == sample.values[0, 0]
    assert "padding_mask" not in sample.facts
    (root / "details.json").write_text(json.dumps({"model_config": {"sample_rate": 44100}}))
    assert "rate of 44100, and the model has 1000" in refused(corpus, root)
    (root / "details.json").write_text(json.dumps({"model": OTHER.hex(), "downsampling_ratio": 100}))
    assert f"codec {OTHER.hex()}, and the model's is {MARK.hex()}" in refused(corpus, root, fingerprint=MARK)
    (root / "details.json").write_text(json.dumps({"downsampling_ratio": 50}))
    assert "hop of 50, and the model has 100" in refused(corpus, root)


def test_both_layouts_give_the_same_samples(tmp_path):
    for at in range(4):
        values = ramp(4, 12 + at, at)
        save(tmp_path / f"one/{at}.safetensors", values, prompt=f"number {at}")
        save_npy(tmp_path / f"two/{at}.npy", values, prompt=f"number {at}")
    one, two = (corpus(tmp_path / name).training(5) for name in ("one", "two"))
    for index in range(12):
        left, right = one[index], two[index]
        right.facts["relpath"] = right.facts["relpath"].replace(".npy", ".safetensors")
        assert same(left, right)


@pytest.mark.parametrize("npy", [False, True])
def test_codes_are_whole_numbers(tmp_path, npy):
    codes = np.arange(24).reshape(2, 12)
    if npy:
        save_npy(tmp_path / "in/a.npy", codes)
    else:
        save(tmp_path / "in/a.safetensors", codes)
    model = LMConfig(rate=1000, channels=1, samples=800, hop=100, lm=LanguageModelConfig(codebooks=2))
    found = corpus(tmp_path / "in", model, random_crop=False)
    sample = found.training(0)[0]
    assert found.kind == "codes"
    assert sample.values.tolist() == codes[:, :8].tolist()
    assert "these are codes, and the model takes latents" in refused(corpus, tmp_path / "in")
    more = dataclasses.replace(model, lm=LanguageModelConfig(codebooks=3))
    assert "has 2 values a frame, and the model 3" in refused(corpus, tmp_path / "in", more)
    save(tmp_path / "two/a.safetensors", ramp(4, 9))
    assert "these are latents, and the model takes codes" in refused(corpus, tmp_path / "two", model)


def test_items_of_another_codec_are_refused(tmp_path):
    save(tmp_path / "in/a.safetensors", ramp(4, 9))
    save(tmp_path / "in/b.safetensors", ramp(4, 9), mark=OTHER)
    message = refused(corpus, tmp_path / "in")
    assert "b.safetensors: was encoded by codec " + OTHER.hex() in message
    assert "a.safetensors by " + MARK.hex() in message
    (tmp_path / "in/b.safetensors").unlink()
    assert corpus(tmp_path / "in").fingerprint == MARK
    theirs = dataclasses.replace(Toy(), codec=CodecSource(name="toy", fingerprint=OTHER.hex()))
    assert f"a.safetensors: was encoded by codec {MARK.hex()}, and the model's is {OTHER.hex()}" in refused(
        corpus, tmp_path / "in", theirs
    )
    assert "the model's is " + OTHER.hex() in refused(corpus, tmp_path / "in", fingerprint=OTHER)
    assert len(corpus(tmp_path / "in", fingerprint=MARK)) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rate": 2000}, "rate of 1000, and the model has 2000"),
        ({"hop": 50}, "hop of 100, and the model has 50"),
        ({"channels": 2}, "channels of 1, and the model has 2"),
        ({"width": 5}, "has 4 values a frame, and the model 5"),
    ],
)
def test_items_that_do_not_fit_the_model_are_refused(tmp_path, change, message):
    save(tmp_path / "in/a.safetensors", ramp(4, 9))
    assert message in refused(corpus, tmp_path / "in", dataclasses.replace(Toy(), **change))


def test_one_kind_alone(tmp_path):
    save(tmp_path / "in/a.safetensors", ramp(4, 9))
    save(tmp_path / "in/b.safetensors", np.arange(36).reshape(4, 9))
    assert "b.safetensors: holds codes, and" in refused(corpus, tmp_path / "in")
    save_npy(tmp_path / "two/a.npy", np.arange(18).reshape(2, 9))
    save_npy(tmp_path / "two/b.npy", np.arange(27).reshape(3, 9))
    model = LMConfig(rate=1000, channels=1, samples=800, hop=100, lm=LanguageModelConfig(codebooks=2))
    assert "b.npy: has 3 values a frame, and" in refused(corpus, tmp_path / "two", model)


def test_damaged_items_are_named_and_the_rest_goes_on(tmp_path, capsys):
    root = tmp_path / "in"
    for name in ("cut", "empty", "good", "strange"):
        save(root / f"{name}.safetensors", ramp(4, 30))
    (root / "cut.safetensors").write_bytes((root / "cut.safetensors").read_bytes()[:-4])
    (root / "empty.safetensors").write_bytes(b"")
    (root / "strange.json").write_text("[1]")
    assert names(corpus(root)) == ["good.safetensors"]
    told = capsys.readouterr().err
    assert f"left out: {root / 'cut.safetensors'}: is cut short" in told
    assert f"left out: {root / 'empty.safetensors'}: is cut short" in told
    assert f"left out: {root / 'strange.safetensors'}: {root / 'strange.json'}: is no JSON object" in told
    (root / "good.safetensors").unlink()
    assert "holds no items to train on; " in (message := refused(corpus, root))
    assert "cut.safetensors: is cut short" in message


def test_damaged_arrays_are_named_and_the_rest_goes_on(tmp_path, capsys):
    root = tmp_path / "in"
    for name in ("cut", "empty", "flat", "good", "mask", "objects"):
        save_npy(root / f"{name}.npy", ramp(4, 30))
    (root / "cut.npy").write_bytes((root / "cut.npy").read_bytes()[:-4])
    (root / "empty.npy").write_bytes(b"")
    np.save(root / "flat.npy", np.zeros(5, np.float32))
    np.save(root / "objects.npy", np.array([[None]]), allow_pickle=True)
    (root / "mask.json").write_text('{"padding_mask": [0, 0]}')
    assert names(corpus(root)) == ["good.npy"]
    told = capsys.readouterr().err.splitlines()
    for name, cause in {"cut": "is cut short", "empty": "is cut short", "flat": "expected latents"}.items():
        assert any(f"{name}.npy: {cause}" in line for line in told), name
    assert any("mask.npy: padding_mask: expected" in line for line in told)
    assert any("objects.npy: is cut short or no array of numbers" in line for line in told)


def test_starting_reads_no_values(tmp_path, monkeypatch):
    save(tmp_path / "one/a.safetensors", ramp(4, 30))
    save_npy(tmp_path / "two/a.npy", ramp(4, 30))

    def never(*_, **__):
        raise AssertionError("values were read")

    for module, name in ((stored, "load"), (stored, "from_bytes"), (np, "load")):
        monkeypatch.setattr(module, name, never)
    monkeypatch.setattr(Encoded, "load", never)
    assert len(corpus(tmp_path / "one")) == len(corpus(tmp_path / "two")) == 1


@pytest.mark.parametrize("held_out", [0, 2])
def test_items_with_nan_give_way(tmp_path, capsys, held_out):
    """Their headers are whole, so they are met in training, or among those held out."""
    root = tmp_path / "in"
    for name in "abcd":
        save_npy(root / f"{name}.npy", ramp(4, 8, ord(name)))
    bad = ramp(4, 8)
    bad[2, 3] = np.nan
    np.save(root / "c.npy", bad)
    found = corpus(root, held_out=held_out)
    source = found.tests() if held_out else found.training(0)
    for index in range(2 if held_out else 12):
        sample = source[index]
        assert sample.values.isfinite().all()
        assert sample.facts["relpath"] != "c.npy"
        assert source.name(index) == str(root / sample.facts["relpath"])
    told = capsys.readouterr().err
    assert told.count("passed over: ") == 1
    assert "c.npy: the latents hold NaN or infinity" in told


def test_the_next_item_stands_in_for_one_that_is_held_out(tmp_path):
    for at in range(10):
        save_npy(tmp_path / f"in/{at}.npy", ramp(4, 8) if at != 4 else np.full((4, 8), np.nan, np.float32))
    tests = corpus(tmp_path / "in", held_out=2).tests()
    assert [tests[index].facts["relpath"][0] for index in range(5)] == ["0", "2", "6", "6", "8"]


def test_where_nothing_can_be_read_the_search_ends(tmp_path):
    save_npy(tmp_path / "in/a.npy", np.full((4, 8), np.nan, np.float32))
    assert "a.npy: the latents hold NaN or infinity" in refused(corpus(tmp_path / "in").training(0).__getitem__, 0)


def test_an_item_that_changes_its_codec_under_way_gives_way(tmp_path, capsys):
    for name in "ab":
        save(tmp_path / f"in/{name}.safetensors", ramp(4, 8))
    source = corpus(tmp_path / "in").training(0)
    save(tmp_path / "in/a.safetensors", ramp(4, 8), mark=OTHER)
    assert {source[index].facts["relpath"] for index in range(8)} == {"b.safetensors"}
    assert "passed over: " in capsys.readouterr().err


def test_lengths_outside_the_limits_are_left_out(tmp_path, capsys):
    for frames in (5, 10, 20):
        save(tmp_path / f"in/{frames}.safetensors", ramp(4, frames))
    assert names(corpus(tmp_path / "in", min_seconds=1.0)) == ["10.safetensors", "20.safetensors"]
    assert names(corpus(tmp_path / "in", min_seconds=1.0, max_seconds=1.0)) == ["10.safetensors"]
    assert "left out: 2 items" in capsys.readouterr().err
    assert "3 are shorter or longer" in refused(corpus, tmp_path / "in", min_seconds=9.0)


def test_every_nth_is_held_out_and_its_beginning_tested(tmp_path):
    for at in range(6):
        save(tmp_path / f"in/{at}.safetensors", ramp(4, 20, 100 * at))
    found = corpus(tmp_path / "in", held_out=3)
    assert names(found) == [f"{at}.safetensors" for at in (1, 2, 4, 5)]
    tests = found.tests()
    assert [int(tests[index].values[0, 0]) for index in range(len(tests))] == [0, 300]
    assert corpus(tmp_path / "in").tests() is None


def test_roots_take_turns(tmp_path):
    for name, count in (("one", 3), ("two", 1)):
        for at in range(count):
            save(tmp_path / f"{name}/{name}{at}.safetensors", ramp(4, 8))
    found = corpus(tmp_path / "one", more=(tmp_path / "two",))
    source = found.training(0)
    taken = [source[index] for index in range(6)]
    assert len(found) == 4
    assert [sample.index for sample in taken] == list(range(6))
    assert [sample.facts["relpath"][:3] for sample in taken] == ["one", "two"] * 3
    assert len({sample.facts["relpath"] for sample in taken}) == 4
    save(tmp_path / "two/other.safetensors", ramp(4, 8), mark=OTHER)
    assert "all items must be of one codec" in refused(corpus, tmp_path / "one", more=(tmp_path / "two",))


def test_roots_of_the_same_items_are_cut_at_other_places(tmp_path):
    for name in ("one", "two"):
        save(tmp_path / f"{name}/a.safetensors", ramp(4, 500))
    source = corpus(tmp_path / "one", more=(tmp_path / "two",)).training(0)
    starts = [int(source[index].values[0, 0]) for index in range(12)]
    assert starts[::2] != starts[1::2]
