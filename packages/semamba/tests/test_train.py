"""Training: a run learns, resumes to the bit, joins processes, and ends in a bundle that enhances."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import warm
from audio_core import audio, config
from audio_core.files import InputError
from audio_core.testing import noise
from audio_core.train.results import results, states
from audio_semamba import PACKAGE, load
from audio_semamba.config import DiscriminatorConfig
from audio_semamba.data.pairs import scan_pairs
from audio_semamba.discriminator import MetricDiscriminator
from audio_semamba.recipe import Exponential, Recipe
from audio_semamba.train import release, train, trained
from safetensors.torch import load_file

RATE = 16000
MODEL = {
    "n_fft": 64,
    "hop": 32,
    "window": 64,
    "channels": 4,
    "blocks": 1,
    "state": 4,
    "expand": 2,
    "phase": "correction",
}


pytestmark = pytest.mark.usefixtures("warm_pools")


@pytest.fixture(scope="module")
def speech(tmp_path_factory) -> Path:
    """Tones whose loudness rises and falls, and their noisy partners."""
    folder = tmp_path_factory.mktemp("speech")
    time = np.arange(RATE) / RATE
    for at in range(6):
        clean = 0.3 * np.sin(2 * np.pi * (200 + 90 * at) * time) * np.sin(2 * np.pi * 3 * time) ** 2
        hiss = noise(at, 1.0, RATE)[0].numpy()
        audio.write(folder / f"clean/{at}.wav", clean[None].astype(np.float32), RATE)
        audio.write(folder / f"noisy/{at}.wav", (clean + 0.5 * hiss)[None].astype(np.float32), RATE)
    scan_pairs(folder / "clean", folder / "noisy", folder / "data.jsonl", quiet=True)
    return folder


def toy(speech: Path, **settings) -> Recipe:
    plain = {
        "data": {"train": str(speech / "data.jsonl"), "held_out": ["0", "1"], "seconds": 0.5},
        "model": MODEL,
        "weights": {"metric": 0, "oversuppression": 1},
        "epochs": None,
        "steps": 4,
        "batch": 2,
        "workers": 0,
        "evaluate_every": 2,
        "save_every": 2,
        "log_every": 1,
    }
    return config.build(Recipe, plain | settings)


def test_the_model_learns_and_becomes_a_bundle(speech, tmp_path):
    recipe = toy(speech, steps=60, optimizer={"lr": 0.01}, evaluate_every=60, save_every=60)
    outcome = train(recipe, tmp_path / "run", "cpu", quiet=True)
    assert outcome and outcome.steps == 60 and "si_sdr" in outcome.table()
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    losses = [line["total"] for line in lines if line["kind"] == "train"]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:5])
    clean, noisy = (audio.read(speech / f"{side}/0.wav").samples for side in ("clean", "noisy"))
    enhanced = load(tmp_path / "run/bundle").enhance(torch.from_numpy(noisy)).numpy()
    assert np.square(enhanced - clean).sum() < 0.5 * np.square(noisy - clean).sum()
    assert {path.name for path in (tmp_path / "run/audio/step-00000060").glob("*.wav")} >= {
        "clip0-clean.wav",
        "clip0-enhanced.wav",
        "clip1-noisy.wav",
    }
    release(tmp_path / "run", tmp_path / "best", best=True)
    assert "PESQ" in (tmp_path / "best/README.md").read_text()
    with pytest.raises(InputError, match="no training run"):
        trained(tmp_path / "nowhere")


GAN = {"weights": {"metric": 0.05}, "discriminator": {"width": 4, "workers": 1}, "average": 0.9}


def test_a_stopped_training_ends_in_the_same_weights(speech, tmp_path):
    """The discriminator included, which begins pretrained; its file is not needed to go on."""
    PACKAGE.save(MetricDiscriminator(DiscriminatorConfig(4)), tmp_path / "begin", "# A test")
    gan = GAN | {"discriminator": GAN["discriminator"] | {"pretrained": str(tmp_path / "begin")}}
    train(toy(speech, **gan), tmp_path / "whole", "cpu", quiet=True)
    train(toy(speech, **gan, steps=2), tmp_path / "parts", "cpu", quiet=True)
    shutil.rmtree(tmp_path / "begin")
    outcome = train(toy(speech, **gan), tmp_path / "parts", "cpu", quiet=True)
    assert outcome and outcome.steps == 4
    for name in ("generator", "generator.average", "discriminator"):
        whole, parts = (load_file(states(tmp_path / run)[4] / f"{name}.safetensors") for run in ("whole", "parts"))
        assert whole.keys() == parts.keys() and all(torch.equal(whole[key], parts[key]) for key in whole), name
    assert 1 <= results(tmp_path / "parts")["pesq"] <= 4.7


def test_a_training_begins_with_the_weights_of_a_bundle(speech, tmp_path):
    train(toy(speech, steps=2), tmp_path / "first", "cpu", quiet=True)
    begin = str(tmp_path / "first" / "bundle")
    still = {"optimizer": {"lr": 0.0, "betas": [0.8, 0.99]}, "average": 0.0}
    train(toy(speech, steps=1, pretrained=begin, **still), tmp_path / "second", "cpu", quiet=True)
    first, second = (dict(trained(tmp_path / name)[1].named_parameters()) for name in ("first", "second"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = toy(speech, steps=1, pretrained=begin, model=MODEL | {"state": 2})
    with pytest.raises(InputError, match=r"another network; give model\.state=4 too"):
        train(other, tmp_path / "third", "cpu", quiet=True)
    assert (
        not (tmp_path / "third").exists() or not (tmp_path / "third" / "recipe.yaml").exists()
    )  # nothing to go on from
    assert f"begun with the weights of {begin}" in (tmp_path / "second" / "bundle" / "README.md").read_text()


def test_a_rate_that_ends_before_the_steps_is_refused(speech):
    with pytest.raises(InputError, match="the rate is 0 after 4200 of 5000 steps"):
        toy(speech, steps=5000, schedule={"kind": "Cosine", "total": 4200})


@pytest.mark.parametrize("causal", [False, True])
def test_two_processes_equal_one_with_the_joint_batch(speech, tmp_path, causal):
    model = MODEL | {"causal": causal}
    train(toy(speech, steps=2, batch=4, model=model), tmp_path / "one", "cpu", quiet=True)
    settings = [f"{key}={json.dumps(value)}" for key, value in {"steps": 2, "epochs": None, "batch": 2}.items()]
    settings += [f"data.train={speech / 'data.jsonl'}", 'data.held_out=["0","1"]', "data.seconds=0.5", "workers=0"]
    settings += [f"model.{key}={value}" for key, value in model.items()]
    settings += ["weights.metric=0", "weights.oversuppression=1", "save_every=2"]
    command = ["-m", "audio_semamba", "train", "advanced", *settings, "-o", tmp_path / "two", "--device", "cpu"]
    result = warm.run(*command, processes=2)
    assert result.returncode == 0, result.stderr
    one, two = (trained(tmp_path / name)[1].state_dict() for name in ("one", "two"))
    for (name, value), other in zip(one.items(), two.values(), strict=True):
        if not name.endswith(
            ("conv.bias", "up.bias")
        ):  # a norm follows: their gradients are rounding, which Adam makes steps of
            torch.testing.assert_close(other, value, rtol=1e-4, atol=1e-4, msg=name)


def test_two_processes_train_a_discriminator(speech, tmp_path):
    settings = [f"data.train={speech / 'data.jsonl'}", 'data.held_out=["0","1"]', "data.seconds=0.5", "workers=0"]
    settings += [f"model.{key}={value}" for key, value in MODEL.items()] + ["steps=2", "epochs=null", "batch=1"]
    settings += ["discriminator.width=4", "discriminator.workers=1", "save_every=2"]
    command = ["-m", "audio_semamba", "train", "advanced", *settings, "-o", tmp_path / "run", "--device", "cpu"]
    result = warm.run(*command, processes=2)
    assert result.returncode == 0, result.stderr
    assert results(tmp_path / "run")["step"] == 2 and (tmp_path / "run/bundle/model.safetensors").exists()


def test_the_rate_falls_by_one_per_cent_after_each_epoch():
    schedule = Exponential(epoch=10)
    assert [schedule(update) for update in (0, 9, 10, 25)] == pytest.approx([1, 1, 0.99, 0.99**2])


def test_recordings_shorter_than_a_window_can_be_validated_on(speech, tmp_path):
    audio.write(tmp_path / "click.wav", np.full((1, 20), 0.1, np.float32), RATE)
    scan_pairs(tmp_path, tmp_path, tmp_path / "valid.jsonl", quiet=True)
    data = {"train": str(speech / "data.jsonl"), "valid": str(tmp_path / "valid.jsonl"), "seconds": 0.5}
    assert train(toy(speech, data=data, steps=1), tmp_path / "run", "cpu", quiet=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data": {"seconds": 0.001}}, "the spectra need 33 samples"),
        ({"data": {"seconds": 0.02}, "weights": {"metric": 0, "spectral": 1}}, "the spectra need 513 samples"),
        ({"data": {"seconds": 0.01}, "weights": {"metric": 1}}, "the discriminator needs 16 frames"),
        ({"model": {"n_fft": 8, "hop": 4, "window": 8}, "weights": {"metric": 1}}, "the discriminator needs 16 frames"),
        ({"model": {"n_fft": 32, "hop": 16, "window": 32}, "data": {"seconds": 0.02}, "weights": {"metric": 1}}, "32"),
    ],
)
def test_samples_too_small_for_a_loss_are_refused(speech, settings, message):
    with pytest.raises(InputError, match=message):
        toy(speech, **settings)


def test_a_training_without_validation_says_so(speech, tmp_path):
    recipe = toy(speech, data={"train": str(speech / "data.jsonl"), "seconds": 0.5}, steps=1)
    outcome = train(recipe, tmp_path / "run", "cpu", quiet=True)
    assert outcome and "nothing was held out" in outcome.table()
