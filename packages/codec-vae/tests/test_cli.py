"""The command as users meet it: its verbs, its files, and one line for every mistake."""

import json
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from audio_codec_vae import PACKAGE, cli, cost, load
from audio_codec_vae.models.autoencoder import Autoencoder
from audio_codec_vae.recipe import Recipe
from audio_core import audio, codec, command, config
from audio_core.testing import noise

from .toys import CONFIGS, autoencoder

VERBS = ("train", "export", "convert", "unwrap", "describe", "recipes", "scan")


@pytest.fixture
def run(capsys):
    """The command in this process: exit code, standard output, standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return call


@pytest.fixture
def bundle(tmp_path):
    PACKAGE.save(autoencoder("oobleck"), tmp_path / "model", "# A toy")
    return tmp_path / "model"


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """A short one, by the command."""
    root = tmp_path_factory.mktemp("training")
    for at in range(3):
        audio.write(root / f"in/{at}.wav", 0.3 * noise(at, 1.0, 800, 2).numpy(), 800)
    losses = {"spectral": {"windows": [64], "weighting": "none"}}
    settings = {"model": config.plain(CONFIGS["oobleck"]), "losses": losses, "batch": 2, "workers": 0}
    (root / "toy.yaml").write_text(config.dump(config.build(Recipe, settings)))
    line = ["train", root / "toy.yaml", f"data.root={root / 'in'}", "data.samples=256", "data.held_out=3", "steps=2"]
    code = cli.main([str(part) for part in [*line, "-o", root / "run", "--device", "cpu", "--quiet"]])
    assert code == 0
    return root / "run"


def one_line(text: str) -> bool:
    return text.count("\n") == 1 and ": error: " in text


# --- training and exporting ------------------------------------------------------------------------------------


def test_a_run_is_exported_and_unwrapped(training, run, tmp_path):
    assert (training / "bundle/config.json").exists() and (training / "best.safetensors").exists()
    code, out, err = run("export", training, "-o", tmp_path / "exported", "--best", "--json")
    assert code == 0 and json.loads(out)["format"] == "bundle"
    code, out, err = run("unwrap", training, "-o", tmp_path / "unwrapped", "--json")
    assert code == 0 and json.loads(out) == {"path": str(tmp_path / "unwrapped")} and err.count("wrote") == 1
    name = "model.safetensors"
    assert (tmp_path / "unwrapped" / name).read_bytes() == (training / "bundle" / name).read_bytes()
    code, _, err = run("unwrap", training, "-o", tmp_path / "unwrapped")
    assert code == 2 and "exists already" in err and one_line(err)


def test_what_was_held_out_and_left_out_is_told(run, training, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("0.wav", "1.wav"):
        (tmp_path / "in" / name).write_bytes((training.parent / "in" / name).read_bytes())
    (tmp_path / "in/damaged.wav").write_bytes(b"RIFF")
    recipe = training.parent / "toy.yaml"
    line = ["train", recipe, f"data.root={tmp_path / 'in'}", "data.samples=256", "data.held_out=2", "steps=1"]
    code, out, err = run(*line, "-o", tmp_path / "run", "--device", "cpu", "--json")
    assert code == 0 and json.loads(out)["step"] == 1
    assert err.count("left out") == 1 and "damaged.wav" in err and "evaluation: " in err
    code, _, err = run(*line, "batch=3", "-o", tmp_path / "run", "--device", "cpu", "--quiet")
    assert code == 2 and "another recipe (different: batch)" in err and one_line(err)


# --- checkpoints and configurations of others ------------------------------------------------------------------


@pytest.fixture
def wrapped(stored_case, tmp_path):
    """A checkpoint of a stable-audio-tools training with averaged weights, and its configuration as a file."""
    case = stored_case("oobleck_odd_stride")
    settings = {"model_type": "autoencoder", **{key: case.config[key] for key in ("sample_rate", "model")}}
    state = {f"autoencoder_ema.ema_model.{name}": value for name, value in case.state().items()}
    state |= {f"autoencoder.{name}": torch.zeros_like(value) for name, value in case.state().items()}
    torch.save({"state_dict": state, "global_step": 3}, tmp_path / "last.ckpt")
    (tmp_path / "stated.json").write_text(json.dumps(settings))
    return tmp_path / "last.ckpt"


@pytest.mark.parametrize("verb", ["convert", "unwrap"])
def test_a_checkpoint_and_its_configuration_come_in_any_order(wrapped, run, tmp_path, verb):
    stated = wrapped.with_name("stated.json")
    for at, files in enumerate(([wrapped, stated], [stated, wrapped], [wrapped, f"config={stated}"])):
        code, out, err = run(verb, *files, "-o", tmp_path / f"{at}", "--json")
        assert code == 0 and json.loads(out)["title"] == "Oobleck autoencoder", err
        assert "averaged weights" in err and "Converted from last.ckpt" in (tmp_path / f"{at}/README.md").read_text()
        assert load(tmp_path / f"{at}").decoder.layers[0].bias.abs().max() > 0
    code, _, err = run(verb, wrapped, "-o", tmp_path / "none")
    assert code == 2 and "does not say how its network is built" in err and not (tmp_path / "none").exists()


def test_a_configuration_alone_becomes_a_recipe(run, tmp_path):
    (tmp_path / "config.yaml").write_text("model: {base_channels: 8}\ntraining: {batch_size: 3}\n")
    code, out, _ = run("convert", tmp_path / "config.yaml", "-o", tmp_path / "recipe.yaml", "clip=2")
    assert code == 0 and out == f"{tmp_path / 'recipe.yaml'}\n"
    recipe = command.load_recipe(Recipe, "audio_codec_vae", str(tmp_path / "recipe.yaml"))
    assert recipe.model.encoder.base_channels == 8 and recipe.batch == 3 and recipe.clip == 2
    assert recipe.data.samples == 40960
    code, _, err = run("convert", tmp_path / "config.yaml", "-o", tmp_path / "recipe.yaml")
    assert code == 2 and "exists already" in err and one_line(err)
    code, _, err = run("convert", tmp_path / "config.yaml", "-o", tmp_path / "recipe")
    assert code == 2 and "must end in .yaml" in err


# --- describing ------------------------------------------------------------------------------------------------


def test_describe_takes_bundles_and_recipes(bundle, run):
    facts = json.loads(run("describe", bundle, "--json")[1])
    assert facts == json.loads(json.dumps(cost.describe(CONFIGS["oobleck"]))) and facts["kbps"] is None
    code, out, _ = run("describe", "oobleck-44k")
    assert code == 0 and "156,112,514" in out and "21.53 frames of 2048 samples" in out
    code, _, err = run("describe", "oobleck-44")
    assert code == 2 and "did you mean oobleck-44k?" in err and one_line(err)


def test_work_is_that_of_the_originals():
    """Multiply-adds of Stable Audio Open and of LyraCodec in 10^9 a second of stereo, counted by hand."""
    expected = {"oobleck-44k": (54.3, 54.3), "lyra": (54.3, 39.1), "dac-44k": (30.6, 69.3)}
    for name, counts in expected.items():
        facts = cost.describe(command.load_recipe(Recipe, "audio_codec_vae", name).model)
        work = [facts["macs_per_second"][part] / 1e9 for part in ("encoder", "decoder")]
        assert work == pytest.approx(counts, abs=0.05)
        assert (
            facts["parameters"]["total"]
            == facts["parameters"]["encoder"] + facts["parameters"]["decoder"] + (facts["parameters"]["bottleneck"])
        )
    assert facts["kbps"] == pytest.approx(9 * 10 * 44.1 / 512) and facts["context"]["decoder_frames"] == 10


@pytest.mark.parametrize("name", CONFIGS)
def test_every_autoencoder_is_described(name):
    facts = cost.describe(CONFIGS[name])
    model = Autoencoder(CONFIGS[name])
    assert facts["parameters"]["total"] == sum(p.numel() for p in model.parameters())
    assert cost.table(facts).startswith(facts["encoder"]) and facts["macs_per_second"]["total"] > 0
    assert (facts["context"] is None) == (model.receptive_field is None)


# --- describing and mistakes -----------------------------------------------------------------------------------


def test_recipes_and_scan(training, run, tmp_path):
    names = {"lyra", "lyra-2026", "oobleck-44k", "oobleck-16k", "oobleck-16k-small", "dac-44k", "encodec-like", "taae"}
    assert names <= set(json.loads(run("recipes", "--json")[1]))
    code, out, _ = run("scan", training.parent / "in", "-o", tmp_path / "list.jsonl", "--quiet")
    assert code == 0 and "3 files" in out and len((tmp_path / "list.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["unwrap", "none.ckpt", "-o", "x"], "none.ckpt: No such file"),
        (["unwrap", "{bundle}", "-o", "x"], "holds no training run (no recipe.yaml)"),
        (["unwrap", "none.ckpt", "-o", "x", "--best"], "--best chooses between the weights of a run"),
        (["unwrap", "{training}", "rate=48000", "-o", "x"], "is a run, which has its settings in itself"),
        (["convert", "none.ckpt", "-o", "x"], "none.ckpt: No such file"),
        (["convert", "none.json", "-o", "x.yaml"], "none.json: No such file"),
        (["export", "{bundle}", "-o", "x"], "holds no training run (no recipe.yaml)"),
        (["train", "oobleck-44k", "data.root=none", "-o", "x"], "none: no such folder"),
        (["train", "oobleck-44k", "data.sample=3", "-o", "x"], "did you mean data.samples?"),
        (["train", "oobleck-44k", "model.encoder.kind=Oobleck", "-o", "x"], "OobleckEncoder"),
    ],
)
def test_mistakes_are_named_in_one_line(bundle, training, run, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    places = {"bundle": bundle, "training": training}
    code, out, err = run(*(argument.format(**places) for argument in arguments))
    assert code == 2 and out == "" and message in err and one_line(err), err
    assert not (tmp_path / "x/bundle").exists() and not (tmp_path / "x/config.json").exists()


def test_the_model_is_found_among_the_codecs(bundle):
    """As the distribution declares it; what is installed may be another version."""
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    group, name, value = re.findall(r'entry-points\."(.+?)"\]\n(.+?) = "(.+?)"', text)[0]
    model = EntryPoint(name, value, group).load()(bundle)
    assert (group, name) == (codec.GROUP, "codec-vae") and isinstance(model, Autoencoder)


def test_help_comes_without_torch():
    code = f"""
import sys
from audio_codec_vae import cli
codes = [cli.main([*verb, "--help"]) for verb in ([], *([verb] for verb in {VERBS}))]
sys.exit("torch" in sys.modules or sum(codes))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0 and "data.root" in result.stdout, result.stderr
    lines = result.stdout.splitlines()
    assert all(len(line) <= 120 for line in lines if " | " not in line)  # lists of classes may be longer
