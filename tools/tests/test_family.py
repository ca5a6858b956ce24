"""What all packages share, in one table: verbs, flags, exit codes, JSON, help, `python -m`, refusal of wrong arrays."""

import argparse
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audio_core import bundle, latents
from audio_core.files import InputError
from workspace import ROOT, Package, packages

BUILT = [package for package in packages(ROOT) if package.has_command]
FAMILY = [package for package in BUILT if package.name != "audio-core"]
SHIPPING = [package for package in FAMILY if importlib.import_module(package.module).PACKAGE.shipped]
FLAGS = {
    "train": "recipe settings -o --out --device --json --quiet",
    "evaluate": "bundle -o --out --force --device --json --quiet",
    "export": "source --format --best --calibrate -o --out --force --json",
    "convert": "original settings -o --out --force --json",
    "describe": "model settings --json",
    "recipes": "--json",
}
SETS = {"describe", "evaluate"}  # a package may add what its data and its protocol need


def test_every_package_holds_a_model():
    """Tests of what lies in wheels are over these."""
    assert SHIPPING == FAMILY


def every(names: list[Package]) -> Any:
    return pytest.mark.parametrize("package", names, ids=[package.name for package in names])


def cli(package: Package) -> Any:
    return importlib.import_module(f"{package.module}.cli")


def verbs(package: Package) -> dict[str, argparse.ArgumentParser]:
    actions = cli(package).parser()._actions
    (choices,) = [action.choices for action in actions if isinstance(action, argparse._SubParsersAction)]
    return choices


def flags(parser: argparse.ArgumentParser) -> set[str]:
    names = {name for action in parser._actions for name in (action.option_strings or [action.dest])}
    return names - {"-h", "--help", "-v", "--verbose"}


def run(package: Package, capsys: Any, *arguments: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = cli(package).main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


@every(FAMILY)
def test_the_common_verbs_have_the_same_flags_in_the_same_order(package):
    own = verbs(package)
    assert [name for name in own if name in FLAGS] == list(FLAGS)
    for name, words in FLAGS.items():
        expected = set(words.split())
        assert (flags(own[name]) >= expected) if name in SETS else flags(own[name]) == expected, name


@every(FAMILY)
def test_the_text_of_a_common_verb_stands_in_the_core_alone(package):
    text = (package.source / "cli.py").read_text(encoding="utf-8")
    assert not [name for name in FLAGS if f'"{name}", ' in re.sub(r"\s+", " ", text)]


@every(BUILT)
def test_a_verb_says_what_it_does_and_the_command_which_version_it_is(package, capsys):
    assert run(package, capsys, "--version") == (0, f"{package.name} {package.version}\n", "")
    for name, parser in verbs(package).items():
        code, out, err = run(package, capsys, name, "--help")
        assert code == 0 and not err and parser.description in out and out.startswith(f"usage: {package.name} {name}")


@every(BUILT)
def test_python_m_is_the_same_command(package):
    paths = os.pathsep.join(str(each.source.parent) for each in packages(ROOT))
    command = [sys.executable, "-m", package.module, "--version"]
    child = subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True)
    assert (child.returncode, child.stdout) == (0, f"{package.name} {package.version}\n")


MISTAKES = [
    (["sing"], "'sing' is not known here"),
    (["train", "no-such-recipe", "-o", "run"], "no recipe is called no-such-recipe"),
    (["train", "{recipe}", "stepps=3", "-o", "run"], "unknown key stepps; did you mean steps?"),
    (["evaluate", "no-such-bundle", "data"], "no-such-bundle: there is no such folder"),
    (["export", "no-such-bundle", "--format", "{format}"], "no-such-bundle: there is no such folder"),
    (["export", "no-such-run"], "no-such-run: there is no such folder"),
    (["export", "default", "--format", "{format}", "--best"], "--best chooses between the weights of a run"),
    (["convert", "no-such-file.pt", "-o", "bundle"], "no-such-file.pt: No such file"),
    (["describe", "no-such-model"], "no bundle, run or recipe is called no-such-model"),
    (["describe"], "the following arguments are required: model\n"),  # and not the settings, which may be left out
    (["train"], "the following arguments are required: recipe, -o/--out\n"),
]
MISTAKES_WITH_DEFAULT = [
    (["export", "default"], "default: is a bundle already{choice}"),
    (["describe", "default", "rate=1"], "default: is a bundle, which has no settings to change"),
]


@pytest.mark.parametrize(
    ("package", "arguments", "line"),
    [(package, *mistake) for package in FAMILY for mistake in MISTAKES]
    + [(package, *mistake) for package in SHIPPING for mistake in MISTAKES_WITH_DEFAULT],
)
def test_a_mistake_is_one_line_and_exit_code_2(package, arguments, line, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    formats = importlib.import_module(package.module).PACKAGE.formats
    names = {"recipe": next(iter(recipes(package, capsys))), "format": next(iter(formats), "bundle")}
    code, out, err = run(package, capsys, *(argument.format(**names) for argument in arguments))
    line = line.replace("{choice}", "; choose a --format" if formats else "\n")  # where there is a choice
    assert code == 2 and not out and line in err, err
    assert err.count("\n") == 1 and err.startswith(f"{package.name}")
    assert not list(tmp_path.iterdir())


def recipes(package: Package, capsys: Any) -> dict[str, str]:
    code, out, _ = run(package, capsys, "recipes", "--json")
    assert code == 0
    return json.loads(out)


@every(FAMILY)
def test_every_recipe_says_what_it_is_and_describes_its_model(package, capsys):
    for name, text in recipes(package, capsys).items():
        code, out, err = run(package, capsys, "describe", name, "--json")
        assert text and (code, err) == (0, "") and json.loads(out)["parameters"], name


@every(SHIPPING)
def test_the_model_in_the_wheel_is_described_and_exported(package, capsys, tmp_path):
    code, out, _ = run(package, capsys, "describe", "default", "--json")
    assert code == 0 and json.loads(out)["parameters"]
    for format in importlib.import_module(package.module).PACKAGE.formats:
        if not format.startswith("c"):  # the others need libraries; their packages test them
            continue
        target = tmp_path / format
        code, out, err = run(package, capsys, "export", "default", "--format", format, "-o", target, "--json")
        facts = json.loads(out)
        assert code == 0 and (facts["format"], facts["path"]) == (format, str(target)) and err == f"wrote {target}\n"
        assert facts["files"] == {path.name: path.stat().st_size for path in target.iterdir()}


@every(SHIPPING)
def test_a_run_called_default_does_not_stand_for_the_model_in_the_wheel(package, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "default").mkdir()
    (tmp_path / "default/recipe.yaml").write_text("a: run of the user")
    code, _, err = run(package, capsys, "export", "default")
    assert code == 2 and "default: is a bundle already" in err
    code, _, err = run(package, capsys, "export", "./default")
    assert code == 2 and "is a bundle already" not in err


@every(SHIPPING)
def test_a_run_s_folder_stands_for_the_bundle_inside(package, capsys, tmp_path):
    shipped: Path = importlib.import_module(package.module).PACKAGE.shipped["default"]
    (tmp_path / "run").mkdir()
    (tmp_path / "run/bundle").symlink_to(shipped)
    code, out, _ = run(package, capsys, "describe", tmp_path / "run", "--json")
    assert code == 0 and json.loads(out) == json.loads(run(package, capsys, "describe", "default", "--json")[1])


@every(SHIPPING)
def test_a_hub_id_names_a_model(package, capsys, monkeypatch):
    shipped: Path = importlib.import_module(package.module).PACKAGE.shipped["default"]
    monkeypatch.setattr(bundle, "download", lambda identity: shipped if identity == "owner/name" else None)
    code, out, _ = run(package, capsys, "describe", "owner/name", "--json")
    assert code == 0 and json.loads(out) == json.loads(run(package, capsys, "describe", "default", "--json")[1])


def takers() -> dict[str, Any]:
    """Of each package what takes an array from a user: (samples, rate) -> anything."""
    import audio_acdnet
    import audio_gen
    import audio_semamba
    import audio_sep
    import audio_soundstream
    from audio_codec_vae.config import AutoencoderConfig, DACDecoderConfig, DACEncoderConfig
    from audio_codec_vae.models.autoencoder import Autoencoder
    from audio_sep.models import MODELS

    network, enhancer, codec = audio_acdnet.load(), audio_semamba.load(), audio_soundstream.load()
    generator = audio_gen.load()
    separator = MODELS["UNet"](MODELS["UNet"].Config(n_fft=64, hop=32, widths=(2,)))
    encoder = DACEncoderConfig(d_model=2, strides=(2,))
    decoder = DACDecoderConfig(latent_dim=4, channels=2, rates=(2,))
    config = AutoencoderConfig(rate=16000, channels=1, encoder=encoder, decoder=decoder, bottleneck=None)
    return {
        "audio-acdnet": lambda samples, rate: audio_acdnet.classify(network, samples, rate),
        "audio-codec-vae": lambda samples, rate: latents.encode(Autoencoder(config), samples, rate),
        "audio-gen": lambda samples, rate: audio_gen.continued(generator, samples, rate, 1.0, seed=1, steps=1),
        "audio-semamba": lambda samples, rate: audio_semamba.enhance(enhancer, samples, rate),
        "audio-sep": lambda samples, rate: audio_sep.separate(separator, samples, rate),
        "audio-soundstream": lambda samples, rate: latents.encode(codec, samples, rate, codes=True),
    }


@pytest.mark.parametrize(
    ("samples", "line"),
    [
        (np.zeros(32000, np.int16), "int16"),
        (np.zeros((32000, 2), np.float32), r"look like \(T, C\)"),
        (np.full(32000, np.nan, np.float32), "NaN"),
        (np.zeros(0, np.float32), "0 samples|empty|no samples"),
        (np.zeros((1, 1, 32000), np.float32), r"has the shape \(1, 1, 32000\)"),
    ],
    ids=["integers", "axes swapped", "NaN", "empty", "three axes"],
)
def test_arrays_that_would_be_misread_are_refused_in_one_line(samples, line):
    known = takers()
    assert set(known) == {package.name for package in FAMILY}
    for take in known.values():
        with pytest.raises(InputError, match=line) as error:
            take(samples, 16000)
        assert "\n" not in str(error.value)
