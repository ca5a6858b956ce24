"""Training: a run learns, resumes to the bit, joins processes, and ends in a bundle that separates."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import warm
from audio_core import audio, config
from audio_core.command import load_recipe, recipes
from audio_core.files import InputError
from audio_core.train.player import Player
from audio_core.train.results import journal, results, states
from audio_sep import load, task
from audio_sep.data.pack import pack
from audio_sep.models import MODELS
from audio_sep.recipe import Recipe
from audio_sep.task import Separation
from audio_sep.train import release, train, trained
from safetensors.torch import load_file

from .songs import RATE, sound, write_song

MODEL = {"kind": "MobileNetSubbandTime", "rate": RATE, "n_fft": 128, "hop": 28, "widths": [4, 8]}


@pytest.fixture(scope="module")
def packs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("songs")
    for at in range(4):
        write_song(folder / f"songs/song{at}", at)
    pack("songs", folder / "songs", folder / "packs", RATE, quiet=True)
    return folder / "packs"


def toy(packs: Path, **settings) -> Recipe:
    plain = {
        "data": {"packs": str(packs), "held_out": ["song0", "song1"], "seconds": 0.5},
        "model": MODEL,
        "schedule": {"warmup": 2},
        "steps": 4,
        "batch": 2,
        "workers": 0,
        "evaluate_every": 2,
        "save_every": 2,
        "log_every": 1,
    }
    return config.build(Recipe, plain | settings)


def test_the_model_learns_and_becomes_a_bundle(packs, tmp_path):
    data = {"packs": str(packs), "valid": str(packs), "seconds": 0.5, "valid_seconds": 0.5}
    settings = {
        "steps": 40,
        "optimizer": {"lr": 0.01},
        "evaluate_every": 20,
        "save_every": 40,
        "average": 0.9,
        "clip": 1,
    }
    outcome = train(toy(packs, data=data, **settings), tmp_path / "run", "cpu", quiet=True)
    assert outcome and outcome.steps == 40 and "sdr_vocals" in outcome.table()
    entries = journal(tmp_path / "run")
    losses = [entry["loss"] for entry in entries if entry["kind"] == "train"]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:5])
    first, last = [entry["sdr"] for entry in entries if entry["kind"] == "evaluate"]
    assert last > first + 1
    model = load(tmp_path / "run/bundle")
    assert model.config.sources == ("vocals",) and "Separates vocals" in (tmp_path / "run/bundle/README.md").read_text()
    assert model.separate(torch.from_numpy(sound(3))[None])["vocals"].shape == (1, 2, RATE)
    names = {path.stem for path in (tmp_path / "run/audio/step-00000040").glob("*.wav")}
    assert names >= {"song0-mixture", "song0-vocals", "song0-vocals-estimate", "song2-mixture"}
    release(tmp_path / "run", tmp_path / "best", best=True)
    assert results(tmp_path / "run", best=True)["sdr"] == pytest.approx(last)
    with pytest.raises(InputError, match="no training run"):
        trained(tmp_path / "nowhere")


@pytest.mark.parametrize("sampling", ["random", "bytesep"])
def test_a_stopped_training_ends_in_the_same_weights(packs, tmp_path, sampling):
    """The original starts its optimizer, its warm-up and its order of samples anew."""
    steps = {"mix": 2, "pitch": 1, "gain_db": [-3, 3], "swap": True, "polarity": True}
    data = {"packs": str(packs), "seconds": 0.25, "sampling": sampling, "augment": {"vocals": steps}}
    settings = {"data": data, "average": 0.9, "clip": 1, "loss": "l1_wav_l1_compressed_sp"}
    train(toy(packs, **settings), tmp_path / "whole", "cpu", quiet=True)
    train(toy(packs, **settings, steps=2), tmp_path / "parts", "cpu", quiet=True)
    outcome = train(toy(packs, **settings, workers=1), tmp_path / "parts", "cpu", quiet=True)
    assert outcome and outcome.steps == 4 and "nothing was held out" in outcome.table()
    for name in ("model", "model.average"):
        whole, parts = (load_file(states(tmp_path / run)[4] / f"{name}.safetensors") for run in ("whole", "parts"))
        assert whole.keys() == parts.keys() and all(torch.equal(whole[key], parts[key]) for key in whole), name


def test_two_processes_learn_what_one_does_with_the_joint_batch(packs, tmp_path):
    """Batch norms included, in their statistics and in their gradients."""
    train(toy(packs, batch=4), tmp_path / "one", "cpu", quiet=True)
    settings = toy(packs)
    (tmp_path / "toy.yaml").write_text(config.dump(settings))
    program = (
        "import sys; from audio_core import config, command; from audio_sep.recipe import Recipe; "
        "from audio_sep.train import train; recipe = config.load(Recipe, sys.argv[1]); "
        "train(recipe, sys.argv[2], 'cpu', quiet=True); command.leave()"
    )
    result = warm.run("-c", program, tmp_path / "toy.yaml", tmp_path / "two", processes=2)
    assert result.returncode == 0, result.stderr
    losses = [[e["loss"] for e in journal(tmp_path / run) if e["kind"] == "train"] for run in ("one", "two")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    one, two = (load_file(states(tmp_path / run)[4] / "model.safetensors") for run in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-3, msg=name)


def test_a_training_begins_with_a_bundle(packs, tmp_path):
    train(toy(packs, steps=1), tmp_path / "first", "cpu", quiet=True)
    model = MODEL | {"sources": ["accompaniment"]}  # other sources may be learnt from there
    begun = toy(packs, steps=1, pretrained=str(tmp_path / "first/bundle"), seed=5, model=model)
    train(begun, tmp_path / "second", "cpu", quiet=True)  # the first step of the warm-up changes no weights
    assert f"begun with the weights of {begun.pretrained}" in (tmp_path / "second/bundle/README.md").read_text()
    first, second = (trained(tmp_path / run)[1] for run in ("first", "second"))
    for (name, one), two in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(one, two), name
    for change, name in (({"widths": [4, 4]}, "widths"), ({"sources": ["vocals", "accompaniment"]}, "sources")):
        other = toy(packs, pretrained=str(tmp_path / "first/bundle"), model=MODEL | change)
        with pytest.raises(InputError, match=rf"is another model than that of the recipe \(different: {name}\)"):
            train(other, tmp_path / "third", "cpu", quiet=True)


@pytest.mark.parametrize("kind", ["UNet", "ConditionalUNet"])
def test_models_of_several_sources_learn(packs, tmp_path, kind):
    names = ["vocals", "bass", "drums", "other"]
    data = {"packs": str(packs), "inputs": names, "held_out": ["song1"], "seconds": 0.25, "remix": False}
    model = {"kind": kind, "rate": RATE, "sources": names, "n_fft": 256, "hop": 64, "widths": [4, 4]}
    train(toy(packs, data=data, model=model, batch=4, steps=2), tmp_path / "run", "cpu", quiet=True)
    measured = results(tmp_path / "run")
    assert all(np.isfinite(measured[f"sdr_{name}"]) for name in names)


def test_recordings_shorter_than_a_window_can_be_validated_on(packs, tmp_path):
    for stem in ("vocals", "accompaniment"):
        audio.write(tmp_path / f"songs/click/{stem}.wav", np.full((2, 20), 0.1, np.float32), RATE)
    data = {"packs": str(packs), "valid": str(tmp_path / "songs"), "seconds": 0.25}
    assert train(toy(packs, data=data, steps=1), tmp_path / "run", "cpu", quiet=True)


def test_every_recipe_builds_its_model():
    for name, summary in recipes("audio_sep").items():
        recipe = load_recipe(Recipe, "audio_sep", name)
        assert summary and len(summary) < 120, name
        assert type(recipe.model) is MODELS[config.kind(type(recipe.model))].Config
        assert json.loads(json.dumps(config.plain(recipe)))["model"]["kind"]
        assert config.build(Recipe, config.parse(config.dump(recipe), name)) == recipe


def test_long_songs_are_evaluated_in_segments(packs, monkeypatch):
    recipe = toy(packs)
    net = MODELS["MobileNetSubbandTime"](recipe.model).eval()
    separation = Separation(Player(net, recipe.optimizer.build(net.parameters())), recipe)
    song = torch.from_numpy(sound(8, 5 * RATE))[None]
    whole = separation.separate(song)["vocals"]
    monkeypatch.setattr(task, "SEGMENT_SECONDS", 1)
    parts = separation.separate(song)["vocals"]
    assert parts.shape == whole.shape == song.shape
    inside = slice(RATE // 2, RATE // 2 + 2000)  # far from the end of the first segment
    assert (parts - whole)[..., inside].abs().max() < 0.02 * whole.abs().max()
    values = separation.evaluate({"vocals": song, "accompaniment": 0.1 * song.flip(-1)})
    assert values["sdr"].isfinite() and values.keys() == {"sdr", "sdr_vocals", "l1_vocals"}
