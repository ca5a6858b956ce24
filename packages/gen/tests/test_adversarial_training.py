"""Runs of adversarial post-training: they go on to the bit, two processes are one, and bundles take eight steps."""

import pytest
import torch
import warm
from audio_core import config
from audio_core.files import InputError
from audio_gen import PACKAGE, cli, load
from audio_gen.config import LMConfig
from audio_gen.config.discriminators import ConvHeadConfig, ConvNeXtHeadConfig
from audio_gen.config.sampling import FlowSampling
from audio_gen.finetune import recipe_for
from audio_gen.generate import generate
from audio_gen.recipe import Recipe
from audio_gen.task import build
from audio_gen.train import train, trained
from safetensors.torch import load_file

from . import toys
from .test_train import LM, write_items

SMALL = ("kind=ConvNeXtHead", "channels=8", "c_mults=[1]", "strides=[4]", "num_blocks=[1]")
HEAD = tuple(f"arc.discriminator.head.{each}" for each in SMALL)
QUICK = ("steps=4", "batch=2", "workers=0", "data.held_out=0", "save_every=2", *HEAD)
SGD = ("optimizer={kind: SGD, lr: 1.0}", "arc.optimizer={kind: SGD, lr: 1.0}", "schedule.warmup=0")


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    return write_items(tmp_path_factory.mktemp("items") / "latents", shortest=3)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A rectified flow that is sampled otherwise than in few steps."""
    folder = tmp_path_factory.mktemp("base") / "bundle"
    model = toys.model(codec=False, depth=2)
    model.config = config.build(type(model.config), {**config.plain(model.config), "guidance": {"scale": 3.0}})
    PACKAGE.save(model, folder, "# A toy")
    return folder


def recipe_of(base, items, *settings):
    return recipe_for(str(base), [f"data.root={items}", *QUICK, *settings], arc=True)


def run(recipe, folder):
    return train(recipe, folder, "cpu", quiet=True)


def test_a_stopped_training_ends_in_the_same_bytes(base, items, tmp_path):
    for folder, parts in (("once", (5,)), ("twice", (3, 5))):
        for steps in parts:
            run(recipe_of(base, items, f"steps={steps}"), tmp_path / folder)
    names = "model.safetensors", "model.average.safetensors", "discriminator.safetensors"
    for name in ("bundle/model.safetensors", *(f"state/step-00000005/{each}" for each in names)):
        assert (tmp_path / "once" / name).read_bytes() == (tmp_path / "twice" / name).read_bytes()


def test_checkpointing_changes_nothing(base, items, tmp_path):
    for name, settings in (("plain", ()), ("again", ("checkpointing=true",))):
        run(recipe_of(base, items, *SGD, *settings), tmp_path / name)
    plain, again, before = (load(path).state_dict() for path in (tmp_path / "plain", tmp_path / "again", base))
    for name, value in plain.items():
        torch.testing.assert_close(again[name], value, rtol=1e-4, atol=1e-6)
    assert any(not torch.equal(value, before[name]) for name, value in plain.items())


def test_the_bundle_is_the_same_model_for_few_steps(base, items, tmp_path):
    outcome = run(recipe_of(base, items, "optimizer.lr=0.01", "data.held_out=3"), tmp_path / "run")
    assert {"loss", "loss_0.9"} <= {*outcome.plain()}
    before, after = load(base), load(tmp_path / "run")
    assert config.differences(before.config, after.config) == ["objective", "guidance"]
    assert after.config.objective == "rf_denoiser" and after.config.guidance is None
    assert after.config.default_sampling == FlowSampling(sampler="pingpong", steps=8)
    assert after.config.default_guidance.scale == 1
    assert before.state_dict().keys() == after.state_dict().keys()
    plain = generate(after, "rain", seed=1, decode=False).latents
    stated = generate(after, "rain", seed=1, decode=False, sampler="pingpong", steps=8, cfg=1.0).latents
    assert torch.equal(plain, stated)
    run(recipe_for(str(tmp_path / "run"), [f"data.root={items}", *QUICK], arc=True), tmp_path / "more")
    assert load(tmp_path / "more").config == after.config


def test_two_processes_train_as_one(base, items, tmp_path):
    """With the prompts of the next process's items, and lengths that differ."""
    recipe = recipe_of(base, items, *SGD, "average=0.0")
    (tmp_path / "toy.yaml").write_text(config.dump(recipe))
    line = ["-m", "audio_gen", "train", tmp_path / "toy.yaml", "-o", tmp_path / "two", "--device", "cpu"]
    result = warm.run(*line, processes=2)
    assert result.returncode == 0, result.stderr[-2000:]
    run(recipe_of(base, items, *SGD, "average=0.0", "batch=4"), tmp_path / "one")
    start = load(base).state_dict()
    two, one = (trained(tmp_path / name)[1].state_dict() for name in ("two", "one"))
    file = "state/step-00000004/discriminator.safetensors"
    others = [load_file(tmp_path / name / file) for name in ("two", "one")]
    for a, b in ((two, one), others):
        for name, value in b.items():
            torch.testing.assert_close(a[name], value, rtol=1e-4, atol=1e-6)
    copied = {name: f"backbone.{name}" for name in start if f"backbone.{name}" in others[1]}
    assert len(copied) > 20
    for new in (one, {name: others[1][copy] for name, copy in copied.items()}):
        assert max(float((value - start[name]).abs().max()) for name, value in new.items()) > 1e-4


def test_fsdp_is_refused(base, items, tmp_path, monkeypatch):
    assert Recipe().SHARDS and not recipe_of(base, items).SHARDS
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    (tmp_path / "toy.yaml").write_text(config.dump(recipe_of(base, items)))
    line = ["-m", "audio_gen", "train", tmp_path / "toy.yaml", "-o", tmp_path / "two", "--device", "cpu"]
    result = warm.run(*line, processes=2)
    assert result.returncode == 2 and "FSDP: this training needs whole weights in each process" in result.stderr


def test_the_command_fills_the_recipe(base, items, tmp_path, capsys):
    table = tmp_path / "prompts.csv"
    table.write_text("".join(["file,prompt\n", *(f"{at}.safetensors,sound {at}\n" for at in range(6))]))
    line = ["finetune", str(base), f"data.root={items}", f"data.metadata={table}", "--arc", *QUICK]
    assert cli.main([*line, "-o", str(tmp_path / "run"), "--device", "cpu", "--quiet"]) == 0, capsys.readouterr().err
    recipe, _ = trained(tmp_path / "run")
    settings = recipe.arc.discriminator
    assert settings.dit_hidden_layer == 1 and settings.contrastive and settings.include_grad_penalties
    assert recipe.cfg_dropout == 0 and recipe.model.objective == "rf_denoiser"
    assert cli.main([*line, "--lora", "2", "-o", str(tmp_path / "other")]) == 2
    assert "not allowed with argument" in capsys.readouterr().err
    assert cli.main(["finetune", "--help"]) == 0
    assert "adversarial post-training (ARC)" in " ".join(capsys.readouterr().out.split())


def test_the_head_fits_the_length_of_the_model():
    """Of 157 positions in the wheel's model."""
    assert recipe_for("default", [], arc=True).arc.discriminator.head == ConvHeadConfig()
    long = ["model.samples=400000", "arc.discriminator.head.kind=ConvNeXtHead"]
    assert recipe_for("default", long, arc=True).arc.discriminator.head == ConvNeXtHeadConfig()


def test_what_cannot_be_post_trained_is_refused(base, items, tmp_path):
    plain = config.plain(recipe_of(base, items))
    plain["model"] = {"kind": "Diffusion", **plain["model"]}
    with pytest.raises(InputError, match="arc: post-trains a bundle; name it by `start`"):
        run(config.build(Recipe, {**plain, "start": None}), tmp_path / "run")
    PACKAGE.save(toys.model(codec=False, depth=2, objective="v"), tmp_path / "v", "# A toy")
    with pytest.raises(InputError, match=r"is another model than that of the recipe \(different: objective"):
        run(config.build(Recipe, {**plain, "start": str(tmp_path / "v")}), tmp_path / "run")
    with pytest.raises(InputError, match="arc: post-trains rectified flows"):
        recipe_for(str(tmp_path / "v"), [], arc=True)
    PACKAGE.save(build(config.build(LMConfig, LM)), tmp_path / "lm", "# A toy")
    with pytest.raises(InputError, match="arc: post-trains diffusion models whose backbone is a DiT"):
        recipe_for(str(tmp_path / "lm"), [], arc=True)
    with pytest.raises(InputError, match="takes the prompts of other items; give batch=2 or more"):
        run(recipe_of(base, items, "batch=1"), tmp_path / "single")
