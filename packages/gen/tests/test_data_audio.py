"""Folders of audio, and what the original makes of a recording."""

import dataclasses
import math
import pickle

import numpy as np
import pytest
from audio_core import audio
from audio_core.data.manifest import scan
from audio_core.data.pack import pack
from audio_core.testing import close, refused
from audio_gen.data import turns
from audio_gen.data.audio import Recording, crop, usable
from audio_gen.data.corpus import Corpus
from audio_gen.data.places import InFolder
from audio_gen.recipe.data import Data
from torch import from_numpy

from .data_toys import Toy, ramp, same, save, tone


@dataclasses.dataclass
class Given:
    """An item of samples that are there."""

    samples: np.ndarray
    name: str = "given"
    rate: int = 10

    @property
    def channels(self):
        return len(self.samples)

    @property
    def frames(self):
        return self.samples.shape[1]

    def read(self, start, frames):
        return self.samples[:, start : start + frames]


def corpus(root, model=None, **settings):
    return Corpus(Data(root=root, **{"held_out": 0, **settings}), model or Toy(), root.parent / "run")


def given(tmp_path, samples, channels):
    return usable(channels, None)(Recording(InFolder(tmp_path / "a.wav", tmp_path), Given(samples.numpy()), {}))


@pytest.mark.parametrize(("name", "start"), [("short", 0), ("long", 0), ("long", 133)])
def test_a_crop_equals_the_original(stored_case, tmp_path, name, start):
    case = stored_case("data_padcrop")
    out = {key: case.outputs[f"{name}{'_offset133' if start else ''}_{key}"] for key in ("chunk", "times", "padding")}
    rate, size = case.config["sample_rate"], case.config["n_samples"]
    recording = given(tmp_path, case.inputs[name], 2)
    samples, real, facts = crop(recording, start, size, rate, 2, {})
    close(from_numpy(samples), out["chunk"], 1e-7)
    assert real == int(out["padding"].sum())
    times = [*facts["timestamps"], facts["seconds_start"], facts["seconds_total"]]
    assert times == pytest.approx(out["times"].tolist(), abs=1e-12)


@pytest.mark.parametrize(
    ("source", "taken", "channels", "name"),
    [
        ("short", 1, 2, "stereo_from_mono"),
        ("four", 4, 2, "stereo_from_4"),
        ("four", 4, 1, "mono_from_4"),
        ("four", 3, 2, "set_channels_2_from_3"),
        ("four", 3, 1, "set_channels_1_from_3"),
    ],
)
def test_channels_equal_the_original(stored_case, tmp_path, source, taken, channels, name):
    case = stored_case("data_padcrop")
    recording = given(tmp_path, case.inputs[source][:taken], channels)
    samples, *_ = crop(recording, 0, recording.item.frames, 10, channels, {})
    expected = case.outputs[name]
    close(from_numpy(samples), expected.reshape(expected.shape[-2:]), 1e-6)


def test_any_length_rate_and_channels(tmp_path):
    root = tmp_path / "in"
    tone(root / "long.wav", 20.0, 1000, 1)
    tone(root / "below/short.flac.wav", 0.35, 2000, 2)
    tone(root / "high.wav", 3.0, 3000, 4)
    model = Toy(channels=2)
    found = corpus(root, model, quiet_db=-200)
    source = found.training(0)
    assert found.kind == "audio"
    for index in range(9):
        sample = source[index]
        assert sample.values.shape == (2, 800) and sample.real.shape == (8,)
        assert sample.facts["sample_rate"] == 1000
        if sample.facts["relpath"] == "below/short.flac.wav":
            assert sample.real.tolist() == [True] * 4 + [False] * 4  # 350 samples in frames of 100
            assert not sample.values[:, 350:].any()
            assert (sample.facts["seconds_start"], sample.facts["seconds_total"]) == (0, 1)
            assert sample.facts["timestamps"] == (0, 1)
        else:
            assert sample.real.all()
        assert sample.facts["path"] == str(root / sample.facts["relpath"])


def test_the_facts_say_where_a_crop_begins(tmp_path):
    tone(tmp_path / "in/a.wav", 20.0, 2000)  # from 0 to 0.5
    (tmp_path / "in/a.json").write_text('{"seconds_start": 100, "seconds_total": 200}')
    source = corpus(tmp_path / "in", flip=False, quiet_db=-200).training(0)
    starts = set()
    for index in range(10):
        sample = source[index]
        start = float(sample.values[0, 400]) * 40 - 0.4  # seconds; the middle is free of the resampler's edges
        assert sample.facts["seconds_start"] in {100 + math.floor(start + shift) for shift in (-0.01, 0, 0.01)}
        assert sample.facts["seconds_total"] == 200
        assert sample.facts["timestamps"] == pytest.approx((start / 20, (start + 0.8) / 20), abs=1e-3)
        starts.add(sample.facts["seconds_start"])
    assert len(starts) > 3
    beginning = corpus(tmp_path / "in", random_crop=False, quiet_db=-200).training(0)
    assert {beginning[index].facts["seconds_start"] for index in range(5)} == {100}


def test_half_of_the_signs_are_flipped(tmp_path):
    tone(tmp_path / "in/a.wav", 0.8)
    found = corpus(tmp_path / "in").training(0)
    signs = [float(found[index].values.sum().sign()) for index in range(60)]
    assert 15 < signs.count(-1.0) < 45
    plain = corpus(tmp_path / "in", flip=False).training(0)
    assert {float(plain[index].values.sum().sign()) for index in range(20)} == {1.0}
    for at in range(20):
        tone(tmp_path / f"in/b{at}.wav", 0.8)
    tests = corpus(tmp_path / "in", held_out=2).tests()
    assert all(tests[index].values.sum() > 0 for index in range(len(tests)))


def test_samples_stay_within_full_scale(tmp_path):
    tone(tmp_path / "in/a.wav", 0.8, level=3.0)
    sample = corpus(tmp_path / "in", flip=False).training(0)[0]
    assert float(sample.values.max()) == 1.0


def test_quiet_clips_give_way_to_others(tmp_path):
    for name, level in (("loud", 0.5), ("quiet", 0.0009), ("silent", 0.0)):
        tone(tmp_path / f"in/{name}.wav", 0.8, level=level)
    found = corpus(tmp_path / "in")
    source = found.training(0)
    assert {source[index].facts["relpath"] for index in range(12)} == {"loud.wav"}
    assert {source.name(index) for index in range(12)} == {str(tmp_path / "in/loud.wav")}
    lower = corpus(tmp_path / "in", quiet_db=-80).training(0)
    assert {lower[index].facts["relpath"] for index in range(12)} == {"loud.wav", "quiet.wav"}


def test_where_all_is_quiet_the_search_ends(tmp_path, capsys):
    for name, level in (("quiet", 0.0009), ("silent", 0.0)):
        tone(tmp_path / f"in/{name}.wav", 0.8, level=level)
    source = corpus(tmp_path / "in").training(0)
    assert {source[index].facts["relpath"] for index in range(4)} == {"quiet.wav"}
    told = f"quiet.wav: {turns.TRIES} items in a row are quiet; the loudest of them was taken"
    assert capsys.readouterr().err.count(told) == 1


def test_files_that_cannot_be_read_are_named(tmp_path, capsys):
    root = tmp_path / "in"
    tone(root / "good.wav")
    (root / "bad.wav").write_bytes(b"RIFF")
    (root / "._good.wav").write_bytes(b"")
    tone(root / "later.wav")
    found = corpus(root)
    assert f"left out: {root / 'bad.wav'}: " in capsys.readouterr().err
    assert len(found) == 2
    (root / "later.wav").write_bytes(b"")  # between the start and its turn
    source = found.training(0)
    assert {source[index].facts["relpath"] for index in range(6)} == {"good.wav"}
    assert f"passed over: {root / 'later.wav'}" in capsys.readouterr().err


def test_channels_that_cannot_be_made_are_left_out(tmp_path, capsys):
    tone(tmp_path / "in/two.wav", channels=2)
    tone(tmp_path / "in/one.wav")
    found = corpus(tmp_path / "in", Toy(channels=3))
    assert [item.place.name for item in found.learned[0]] == ["one.wav"]
    assert "two.wav: has 2 channels, which cannot become 3" in capsys.readouterr().err


def test_lengths_and_held_out(tmp_path):
    for at, seconds in enumerate((0.5, 1.0, 2.0, 4.0)):
        tone(tmp_path / f"in/{at}.wav", seconds)
    found = corpus(tmp_path / "in", min_seconds=1.0, max_seconds=4.0, held_out=2)
    assert [item.place.name for item in found.learned[0]] == ["2.wav"]
    tests = found.tests()
    assert [tests[index].facts["relpath"] for index in range(len(tests))] == ["1.wav", "3.wav"]
    assert all(float(tests[index].values[0, 0]) == 0 and float(tests[index].values[0, 9]) > 0 for index in range(2))


def test_a_manifest_with_facts(tmp_path):
    tone(tmp_path / "sounds/a.wav")
    manifest = tmp_path / "list.jsonl"
    manifest.write_text('{"path": "sounds/a.wav", "rate": 1000, "channels": 1, "frames": 1000, "text": "a ramp"}\n')
    sample = corpus(manifest).training(0)[0]
    assert sample.facts["prompt"] == "a ramp"
    assert sample.facts["relpath"] == "sounds/a.wav"


def test_audio_beside_latents_needs_a_word(tmp_path):
    root = tmp_path / "in"
    tone(root / "a.wav")
    save(root / "a.safetensors", ramp(4, 9))
    assert "holds both latents and audio; data.kind says which" in refused(corpus, root)
    assert corpus(root, kind="audio").kind == "audio"
    assert corpus(root, kind="latents").kind == "latents"
    (root / "a.safetensors").unlink()
    assert "holds no latents" in refused(corpus, root, kind="latents")
    (root / "a.wav").unlink()
    assert "holds no latents and no audio" in refused(corpus, root)
    assert "no such folder" in refused(corpus, tmp_path / "nowhere")
    tone(root / "a.wav")
    save(tmp_path / "two/a.safetensors", ramp(4, 9))
    assert "some roots hold audio and others latents" in refused(corpus, root, more=(tmp_path / "two",))
    assert "give model.codec" in refused(corpus, root, Toy(codec=None))


def test_headers_are_remembered(tmp_path, monkeypatch):
    tone(tmp_path / "in/a.wav")
    corpus(tmp_path / "in")
    monkeypatch.setattr(audio, "info", lambda path: pytest.fail(f"{path} was opened"))
    assert len(corpus(tmp_path / "in")) == 1


def test_a_pack_gives_the_samples_of_its_folder(tmp_path):
    for at in range(5):
        (tmp_path / "in" / f"{at % 2}").mkdir(parents=True, exist_ok=True)
        samples = np.linspace(0, 0.1 * (at + 1), 700 + 300 * at, dtype=np.float32)
        audio.write(tmp_path / f"in/{at % 2}/{at}.wav", samples[None], 1000)
    (tmp_path / "prompts.csv").write_text(
        "".join(["file,prompt\n", *(f"{at % 2}/{at}.wav,tone {at}\n" for at in range(5))])
    )
    scan(tmp_path / "in", tmp_path / "in.jsonl", progress=False)
    pack(tmp_path / "in.jsonl", tmp_path / "in.h5", 1000, 1, progress=False)
    settings = {"metadata": tmp_path / "prompts.csv", "quiet_db": -200, "held_out": 3}
    pack_corpus, folder_corpus = (corpus(tmp_path / name, **settings) for name in ("in.h5", "in"))
    assert pack_corpus.kind == "audio" and len(pack_corpus) == len(folder_corpus) == 3
    # Pickled, as a loader's workers get them.
    one, other = (pickle.loads(pickle.dumps(each.training(4))) for each in (pack_corpus, folder_corpus))
    assert all(same(one[index], other[index]) for index in range(9))
    assert one.name(0) == f"{tmp_path / 'in.h5'}:{one[0].facts['relpath']}" and one[0].facts["prompt"].startswith(
        "tone"
    )
    assert all(same(a, b) for a, b in zip(pack_corpus.tests(), folder_corpus.tests(), strict=True))


def test_a_pack_that_is_none_is_refused(tmp_path):
    (tmp_path / "in.h5").write_bytes(b"no HDF5")
    assert refused(corpus, tmp_path / "no.h5") == f"{tmp_path / 'no.h5'}: no such file"
    assert refused(corpus, tmp_path / "in.h5", kind="latents") == f"{tmp_path / 'in.h5'}: holds audio and no latents"
    assert (
        refused(corpus, tmp_path / "in.h5")
        == f"{tmp_path / 'in.h5'}: cannot be read as a pack: not an HDF5 file, or cut short"
    )
