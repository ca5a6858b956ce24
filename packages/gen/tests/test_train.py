"""Training: it goes on to the bit, two processes are one, fine-tuning leaves its base alone, runs end in bundles."""

import json

import numpy as np
import pytest
import torch
import warm
from audio_core import audio, config, latents
from audio_core.files import InputError
from audio_core.latents import Latents
from audio_core.testing import noise
from audio_gen import load
from audio_gen.adapters import adapt, network
from audio_gen.cli import main
from audio_gen.finetune import merged, recipe_for
from audio_gen.recipe import Recipe
from audio_gen.train import release, train, trained

from . import toys

MARK = b"toycodec"


def write_items(folder, codes=False, count=6, rows=toys.WIDTH, shortest=30):
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for at in range(count):
        frames = shortest + 7 * at
        values = rng.integers(0, 8, (rows, frames)) if codes else rng.standard_normal((rows, frames)).astype("f4")
        facts = {"prompt": ["rain", "a dog"][at % 2]}
        latents.save(
            folder / f"{at}.safetensors", Latents(values, toys.RATE, toys.HOP, frames * toys.HOP, 1, MARK, facts)
        )
    return folder


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    return write_items(tmp_path_factory.mktemp("items") / "latents")


@pytest.fixture(scope="module")
def codes(tmp_path_factory):
    return write_items(tmp_path_factory.mktemp("items") / "codes", codes=True, rows=2)


LM = {
    "kind": "LM",
    "rate": toys.RATE,
    "channels": 1,
    "samples": 24 * toys.HOP,
    "hop": toys.HOP,
    "conditioning": {"cond_dim": 32, "conditioners": {"prompt": {"kind": "Bytes", "dim": 32, "num_heads": 1}}},
    "cross_attention_cond_ids": ["prompt"],
    "lm": {
        "codebooks": 2,
        "codebook_size": 8,
        "embed_dim": 32,
        "depth": 1,
        "dim_heads": 32,
        "cross_attn_cond_dim": 32,
        "project_cross_attn_cond": True,
    },
}


def plan(root, **settings):
    model = settings.pop("model", None) or {
        "kind": "Diffusion",
        **config.plain(toys.config(inpaints=settings.pop("inpaints", False), codec=False)),
    }
    values = {
        "data": {"root": str(root), "held_out": 3},
        "model": model,
        "optimizer": {"lr": 1e-3},
        "schedule": {"kind": "Constant"},
        "average": 0.9,
        "batch": 4,
        "workers": 0,
        "save_every": 2,
    }
    return config.build(Recipe, {**values, **settings})


def run(recipe, folder):
    return train(recipe, folder, "cpu", quiet=True)


def weights(folder, name="bundle/model.safetensors"):
    return (folder / name).read_bytes()


@pytest.mark.parametrize("kind", ["diffusion", "inpainting", "lm"])
def test_a_stopped_training_ends_in_the_same_bytes(items, codes, tmp_path, kind):
    root, settings = (codes, {"model": LM}) if kind == "lm" else (items, {"inpaints": kind == "inpainting"})
    run(plan(root, steps=4, **settings), tmp_path / "once")
    run(plan(root, steps=2, **settings), tmp_path / "twice")
    run(plan(root, steps=4, **settings), tmp_path / "twice")
    for name in ("bundle/model.safetensors", "state/step-00000004/model.safetensors"):
        assert weights(tmp_path / "once", name) == weights(tmp_path / "twice", name)
    assert load(tmp_path / "once").config == plan(root, **settings).model


def test_a_diffusion_autoencoder_learns_from_audio_and_reconstructs(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("audio_core.codec.find", lambda name: toys.ToyCodec)
    for at in range(4):
        audio.write(tmp_path / f"in/{at}.wav", 0.3 * noise(at, 0.7, toys.RATE).numpy(), toys.RATE)
    model = {"kind": "DiffusionAutoencoder", **config.plain(toys.autoencoder_config())}
    for folder, parts in (("once", (4,)), ("twice", (2, 4))):
        for steps in parts:
            run(plan(tmp_path / "in", model=model, steps=steps), tmp_path / folder)
    assert weights(tmp_path / "once") == weights(tmp_path / "twice")
    card = (tmp_path / "once/bundle/README.md").read_text()
    assert "Autoencoder that decodes by diffusion" in card
    audio.write(tmp_path / "short.wav", 0.3 * noise(9, 0.4, toys.RATE).numpy(), toys.RATE)
    settings = ["--model", str(tmp_path / "once"), "--seed", "3", "--quiet"]
    for name in ("out.wav", "again.wav"):
        assert main(["reconstruct", str(tmp_path / "short.wav"), "-o", str(tmp_path / name), *settings]) == 0
    assert main(["reconstruct", str(tmp_path / "in/0.wav"), "-o", str(tmp_path / "long.wav"), *settings]) == 2
    assert "lasts 0.7 s, and this model takes up to 0.5 s; cut it" in capsys.readouterr().err
    reconstruction = audio.read(tmp_path / "out.wav").samples
    assert reconstruction.shape == (1, 320)
    assert (tmp_path / "out.wav").read_bytes() == (tmp_path / "again.wav").read_bytes()
    code = main(["generate", "rain", "--model", str(tmp_path / "once"), "-o", str(tmp_path / "x.wav")])
    assert code == 2 and "try `reconstruct`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "fsdp"),
    [("diffusion", False), ("diffusion", True), ("masked", False), ("lm", False), ("lm", True)],
)
def test_two_processes_train_as_one(tmp_path, monkeypatch, kind, fsdp):
    """Items are shorter than the model, some more than others: in the means all real frames weigh the same."""
    monkeypatch.setenv("ACCELERATE_USE_FSDP", str(fsdp).lower())
    monkeypatch.setenv("FSDP_VERSION", "2")
    codes = kind == "lm"
    root = write_items(tmp_path / "items", codes, rows=2 if codes else toys.WIDTH, shortest=3)
    settings = {"model": LM, "average": 0.0} if codes else {"mask_padding": kind == "masked"}
    settings |= {"optimizer": {"kind": "SGD", "lr": 0.1}}  # Adam would hide a gradient of another length
    recipe = plan(root, steps=3, batch=2, **settings)
    (tmp_path / "toy.yaml").write_text(config.dump(recipe))
    line = ["-m", "audio_gen", "train", tmp_path / "toy.yaml", "-o", tmp_path / "two", "--device", "cpu"]
    result = warm.run(*line, processes=2)
    assert result.returncode == 0, result.stderr[-2000:]
    run(plan(root, steps=3, batch=4, **settings), tmp_path / "one")
    two, one = (trained(tmp_path / name)[1].state_dict() for name in ("two", "one"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-4, atol=1e-6)


def test_a_run_tells_the_loss_at_each_level_and_keeps_its_best(items, tmp_path):
    outcome = run(plan(items, steps=6, evaluate_every=3, log_every=2), tmp_path / "run")
    assert outcome.bundles == [tmp_path / "run/bundle"] and "loss_0.9" in outcome.table()
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines].count("evaluate") == 2
    card = (tmp_path / "run/bundle/README.md").read_text()
    assert "Diffusion of latents, 0.8 kHz" in card and "loss of what was held out" in card
    best = release(tmp_path / "run", tmp_path / "best", best=True)
    assert best.config == load(tmp_path / "best").config


def test_a_language_model_learns(codes, tmp_path):
    outcome = run(plan(codes, steps=2, evaluate_every=1, model=LM), tmp_path / "run")
    assert {"loss", "codebook0", "codebook1"} <= set(outcome.plain())
    assert "Language model of codes" in (tmp_path / "run/bundle/README.md").read_text()


# --- fine-tuning -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base(items, tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    run(plan(items, steps=2), folder / "run")
    return folder / "run/bundle"


SHORT = ("steps=3", "batch=2", "workers=0", "data.held_out=0", "schedule.warmup=0", "optimizer.lr=0.01")


def test_fine_tuning_begins_with_the_weights_of_the_bundle(base, items, tmp_path):
    recipe = recipe_for(str(base), [f"data.root={items}", *SHORT, "optimizer.lr=0.0"])
    run(recipe, tmp_path / "run")
    assert weights(tmp_path / "run") == (base / "model.safetensors").read_bytes()
    run(recipe_for(str(base), [f"data.root={items}", *SHORT]), tmp_path / "moved")
    assert weights(tmp_path / "moved") != (base / "model.safetensors").read_bytes()


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_an_adapter_is_all_that_learns_and_can_be_merged(base, items, tmp_path, method):
    recipe = recipe_for(str(base), [f"data.root={items}", *SHORT], 2, method)
    outcome = run(recipe, tmp_path / "run")
    file = tmp_path / "run/adapter.safetensors"
    assert outcome.bundles == [file] and not (tmp_path / "run/bundle").exists()
    assert file.stat().st_size < 0.5 * (base / "model.safetensors").stat().st_size
    plain, attached = load(base), load(base)
    adapt(attached, [file])
    x, t = torch.randn(1, toys.WIDTH, toys.FRAMES), torch.tensor([0.5])
    facts = [{"prompt": "rain", "seconds_total": 0.5}]
    with torch.no_grad():
        outputs = [net(x, t, facts) for net in (plain, attached)]
        assert not torch.allclose(*outputs, atol=1e-4)
        merged(str(base), [str(file)], tmp_path / "merged")
        torch.testing.assert_close(load(tmp_path / "merged")(x, t, facts), outputs[1], rtol=1e-4, atol=1e-5)
        off = load(base)
        adapt(off, [f"{file}:0"])
        assert torch.equal(off(x, t, facts), outputs[0])
        released = release(tmp_path / "run", tmp_path / "released")
        torch.testing.assert_close(released(x, t, facts), outputs[1], rtol=1e-4, atol=1e-5)
    assert not any("adapters" in name for name in network(released).state_dict())


def test_an_adapter_goes_on_to_the_bit(base, items, tmp_path):
    for folder, parts in (("once", (4,)), ("twice", (2, 4))):
        for steps in parts:
            settings = [f"data.root={items}", *SHORT, f"steps={steps}", "save_every=2"]
            run(recipe_for(str(base), settings, 2), tmp_path / folder)
    name = "adapter.safetensors"
    assert weights(tmp_path / "once", name) == weights(tmp_path / "twice", name)


def test_an_adapter_of_other_weights_is_refused(base, items, tmp_path):
    run(recipe_for(str(base), [f"data.root={items}", *SHORT], 2), tmp_path / "run")
    run(plan(items, steps=1, seed=1), tmp_path / "other")
    with pytest.raises(InputError, match="is an adapter of model"):
        merged(str(tmp_path / "other/bundle"), [str(tmp_path / "run/adapter.safetensors")], tmp_path / "merged")
    with pytest.raises(InputError, match="adapter: needs the weights of `start`"):
        plan(items, adapter={"rank": 2})
    with pytest.raises(InputError, match="is another model than that of the recipe"):
        run(plan(items, start=str(base), inpaints=True), tmp_path / "wrong")
