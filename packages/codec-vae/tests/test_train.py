"""Training: it learns, goes on to the bit, keeps its best, and ends in a bundle; every recipe takes a step."""

import dataclasses
import json

import pytest
import torch
import warm
from audio_codec_vae import load, model_config
from audio_codec_vae.models.autoencoder import Autoencoder
from audio_codec_vae.recipe import Recipe
from audio_codec_vae.task import coding
from audio_codec_vae.train import measure, release, train, trained
from audio_core import audio, command, config
from audio_core.files import InputError
from audio_core.testing import close, noise, tone
from audio_core.train.results import best_results

from . import published_configs
from .toys import CONFIGS

RATE = 800
TOY = {
    "losses": {"spectral": {"windows": [64, 16], "weighting": "none"}, "time": {"l1": 1}},
    "optimizer": {"lr": 0.002},
    "batch": 2,
    "workers": 0,
}
ADVERSARY = {"kind": "EncodecDiscriminator", "width": 2, "windows": [64]}
RECIPES = command.recipes("audio_codec_vae")


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    root = tmp_path_factory.mktemp("sounds")
    for at in range(6):
        sound = 0.4 * tone(50 + 20 * at, 1.0, RATE, 2) + 0.05 * noise(at, 1.0, RATE, 2)
        audio.write(root / f"{at}.wav", sound.numpy(), RATE)
    return root


def toy(sounds, name="oobleck", **settings) -> Recipe:
    data = {"root": str(sounds), "samples": 256, "held_out": 3}
    return config.build(Recipe, {**TOY, "data": data, "model": config.plain(CONFIGS[name]), **settings})


def run(recipe, folder):
    return train(recipe, folder, "cpu", quiet=True)


@pytest.mark.parametrize("name", ["oobleck", "lyra", "seanet", "dac"])
def test_a_stopped_training_ends_in_the_same_bytes(sounds, tmp_path, name):
    settings = {"average": 0.9, "discriminator": ADVERSARY, "save_every": 2}
    settings["losses"] = {**TOY["losses"], "balanced": name == "oobleck", "kl": {"weight": 0.01, "anneal_epochs": 2}}
    run(toy(sounds, name, steps=4, **settings), tmp_path / "once")
    run(toy(sounds, name, steps=2, **settings), tmp_path / "twice")
    run(toy(sounds, name, steps=4, **settings), tmp_path / "twice")
    for file in ("bundle/model.safetensors", "state/step-00000004/autoencoder.safetensors"):
        assert (tmp_path / "once" / file).read_bytes() == (tmp_path / "twice" / file).read_bytes()


def test_the_autoencoder_learns_and_keeps_its_best_weights(sounds, tmp_path):
    outcome = run(toy(sounds, steps=60, evaluate_every=20, log_every=20), tmp_path / "run")
    assert outcome and outcome.steps == 60 and outcome.bundles == [tmp_path / "run/bundle"]
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    distances = [line["spectral"] for line in lines if line["kind"] == "evaluate"]
    assert distances[-1] < 0.9 * distances[0]
    best = best_results(tmp_path / "run")
    assert best and best["spectral"] == pytest.approx(min(distances), rel=1e-6)
    heard = sorted(path.name for path in (tmp_path / "run/audio/step-00000060").glob("*.wav"))
    assert heard == ["clip0-decoded.wav", "clip0.wav", "clip1-decoded.wav", "clip1.wav"]


def test_a_run_becomes_a_bundle_with_folded_weights(sounds, tmp_path):
    run(toy(sounds, steps=2, evaluate_every=1), tmp_path / "run")
    model, (_, unfolded) = load(tmp_path / "run/bundle"), trained(tmp_path / "run")
    x = noise(0, 0.5, RATE, 2)[None]
    assert model.config.folded and not any("original0" in name for name in model.state_dict())
    with torch.no_grad():
        close(model(x).audio, unfolded(x).audio, 1e-5)
    assert model.fingerprint() == unfolded.fingerprint()
    card = (tmp_path / "run/bundle/README.md").read_text()
    assert "Oobleck autoencoder, 0.8 kHz, stereo" in card and "distance of spectrograms" in card
    best = release(tmp_path / "run", tmp_path / "best", best=True)
    assert best.config == load(tmp_path / "best").config
    with pytest.raises(InputError, match="no training run"):
        release(sounds, tmp_path / "other")
    with pytest.raises(InputError, match=r"model\.folded"):
        config.build(Recipe, {"model": config.plain(model.config)})


def test_two_processes_train_one_autoencoder(sounds, tmp_path):
    recipe = toy(sounds, "seanet", steps=3, discriminator=ADVERSARY, save_every=3)
    (tmp_path / "toy.yaml").write_text(config.dump(recipe))
    line = ["-m", "audio_codec_vae", "train", tmp_path / "toy.yaml", "-o", tmp_path / "run", "--device", "cpu"]
    result = warm.run(*line, processes=2)
    assert result.returncode == 0, result.stderr[-2000:]
    assert load(tmp_path / "run/bundle").bottleneck.quantizer.codebooks.abs().max() > 0
    samples = json.loads((tmp_path / "run/state/step-00000003/run.json").read_text())["samples"]
    assert samples == 3 * 2 * recipe.batch


def test_weights_that_are_best_are_told_by_the_first_distance_that_is_learnt_from():
    recipes = [{"losses": {"spectral": None, "time": {"l2": 1}}}, {"losses": {"spectral": None, "mel": {}}}, {}]
    assert [measure(_task(config.build(Recipe, {**each, "model": _small()}))) for each in recipes] == [
        "l2",
        "mel",
        "spectral",
    ]


def _small():
    shape = {"base_channels": 2, "c_mults": [[1, 1]], "strides": [2]}
    return {"encoder": {"kind": "LyraEncoder", **shape}, "decoder": {"kind": "LyraDecoder", **shape}}


def _task(recipe):
    return coding(recipe, Autoencoder(recipe.model))


@pytest.mark.parametrize("samples", [7, 32])
def test_samples_too_short_for_model_or_losses_are_refused(sounds, samples):
    with pytest.raises(InputError, match=r"data\.samples: model and losses need 33"):
        toy(sounds, data={"samples": samples})
    with pytest.raises(InputError, match="need 64"):
        toy(sounds, data={"samples": samples}, discriminator=ADVERSARY)


# --- recipes -----------------------------------------------------------------------------------------------

NARROW = {"channels": 16, "base_channels": 2, "d_model": 2, "n_filters": 2, "transformer_depths": (1, 1)}


def tiny(recipe: Recipe) -> Recipe:
    """The recipe with narrow networks and short samples, and all else as it is."""
    model = recipe.model
    coders = {}
    for side in ("encoder", "decoder"):
        coder = getattr(model, side)
        names = [name for name in NARROW if hasattr(coder, name)]
        names = [name for name in names if not (name == "channels" and hasattr(coder, "n_filters"))]  # those of audio
        coders[side] = dataclasses.replace(coder, **{name: NARROW[name] for name in names})
    if hasattr(model.encoder, "d_model"):  # whose decoder takes what it gives
        width = 2 * 2 ** len(model.encoder.strides)
        coders["decoder"] = dataclasses.replace(coders["decoder"], latent_dim=width)
        model = dataclasses.replace(model, bottleneck=dataclasses.replace(model.bottleneck, input_dim=width))
    if hasattr(model.encoder, "base_channels") and model.encoder.group_norm:
        coders = {side: dataclasses.replace(coder, base_channels=32) for side, coder in coders.items()}
        shapes = {"c_mults": ((1, 1), (1, 1)), "strides": (8, 8)}
        coders = {side: dataclasses.replace(coder, **shapes) for side, coder in coders.items()}
    adversary = recipe.discriminator and dataclasses.replace(recipe.discriminator, width=2, warmup=0)
    data = dataclasses.replace(recipe.data, samples=4096)
    settings = {"discriminator": adversary, "data": data, "batch": 2}
    return dataclasses.replace(recipe, model=dataclasses.replace(model, **coders), **settings)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_takes_a_step(name):
    recipe = tiny(command.load_recipe(Recipe, "audio_codec_vae", name))
    torch.manual_seed(0)
    task = _task(recipe)
    accelerator = _joined(task)
    batch = torch.stack([0.3 * noise(at, 4096 / 8000, 8000, recipe.model.channels) for at in range(2)])
    values = task.step(batch, 0)
    assert all(value.isfinite() for value in values.values()), values
    assert ("discriminator" in values) == (recipe.discriminator is not None)
    assert {player.updates for player in task.players.values()} == {1} and accelerator.sync_gradients


def _joined(task):
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    for player in task.players.values():
        player.join(accelerator)
        player.net.train()
    return accelerator


LYRA = {"model": {"base_channels": 128}, "training": {}}
LYRA_2026 = {
    "hyperparameters": {
        "model": {"in_channels": 1, "base_channels": 128},
        "data": {"sample_rate": 44100},
        "training": {},
    }
}
OURS = {"evaluate_every", "save_every", "data.held_out"}  # what the configurations do not say


@pytest.mark.parametrize(
    ("name", "original", "differing"),
    [
        ("lyra", LYRA, OURS),
        ("lyra-2026", LYRA_2026, OURS | {"clip"}),  # which stands in its program
        ("oobleck-44k", published_configs.ALL["stable_audio_2_0_vae"](), set()),
        # The original's decoder upsamples in the encoder's order.
        ("encodec-like", published_configs.ALL["encodec_musicgen_rvq"](), {"model.decoder.ratios"}),
    ],
)
def test_recipes_are_the_trainings_of_the_originals(name, original, differing):
    stated = model_config.understood(original)
    recipe = config.build(Recipe, {**stated.training, "model": config.plain(stated.model)})
    assert set(config.differences(command.load_recipe(Recipe, "audio_codec_vae", name), recipe)) == differing


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_says_what_it_is_and_fits_its_frames(name):
    recipe = command.load_recipe(Recipe, "audio_codec_vae", name)
    pretransform = recipe.model.pretransform
    assert f"at {recipe.model.rate / 1000:g} kHz" in RECIPES[name]
    assert recipe.data.samples % (recipe.model.encoder.ratio * (pretransform.ratio if pretransform else 1)) == 0
