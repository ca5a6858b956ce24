"""Every format of `export`, from the command: what is written, and its facts."""

import json
import re
import sys
from pathlib import Path

import pytest
import torch
from audio_core import audio, bundle, command
from audio_core.testing import noise
from audio_soundstream import FORMATS, cli
from audio_soundstream.config import SoundStreamConfig, TinyStreamConfig
from audio_soundstream.export import write
from audio_soundstream.model import SoundStream, TinyStream, spread
from audio_soundstream.recipe import Recipe

FILES = {"c": "soundstream.c", "c-int8": "soundstream_integer.c"}


@pytest.fixture
def saved(tmp_path):
    def save(config) -> str:
        model = SoundStream(config) if isinstance(config, SoundStreamConfig) else TinyStream(config)
        spread(model)
        model.quantizer.load_codebooks(0.3 * torch.randn_like(model.quantizer.codebooks))
        bundle.save(model.eval(), tmp_path / "toy", "audio-soundstream", "0", "# A toy")
        return str(tmp_path / "toy")

    return save


@pytest.mark.parametrize("format", list(FORMATS))
def test_every_format_is_written_and_told(saved, tmp_path, capsys, format):
    toy = saved(TinyStreamConfig(4, 16, layers=2, size=16, causal=True))
    out = tmp_path / f"made{FORMATS[format]}"
    arguments = ["export", toy, "--format", format, "-o", str(out), "--json"]
    if format.endswith("int8"):
        audio.write(tmp_path / "noise.wav", noise(0, 1.0).numpy(), 16000)
        arguments += ["--calibrate", str(tmp_path / "noise.wav")]
    assert cli.main(arguments) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["format"] == format and sum(facts["files"].values()) > 1000
    assert facts["macs_per_second"]["encoder"] > 0
    if format in FILES:
        assert (out / FILES[format]).exists() and facts["memory_bytes"] > 0 and facts["boards"]
    if format == "tflite-int8" and sys.platform == "linux":
        assert facts["arena_bytes"] > 0 and facts["input"]["samples"] == facts["frames"] * 256
    assert cli.main(arguments[:-2] if format.endswith("int8") else arguments) == 2  # it is there
    assert "--force" in capsys.readouterr().err


def test_what_is_told_to_people_names_flash_memory_and_boards(saved, tmp_path, capsys):
    toy = saved(TinyStreamConfig(4, 16, layers=2, size=16, causal=True))
    assert cli.main(["export", toy, "--format", "c-int8", "-o", str(tmp_path / "c")]) == 0
    text = capsys.readouterr().out
    assert all(word in text for word in ("flash", "memory", "ESP32-S3", "estimated, not measured"))


def test_the_loads_that_the_readme_claims_are_those_that_the_export_estimates():
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)`[^|]*\| (\d+) % \| (\d+) % \| (\d+) % \| (\d+) % \|$", readme, re.M)
    assert [row[0] for row in rows] == ["ultra_tiny", "tiny", "small", "medium", "full", "ladder"]
    boards = ("ESP32, plain C", "Cortex-M4F", "Cortex-M7", "ESP32-S3, if vectorised")
    for name, *claims in rows:
        config = command.load_recipe(Recipe, "audio_soundstream", f"tinystream-{name}").model
        loads = {row["board"]: row["load"] for row in write._boards(TinyStream(config), integer=True)}
        assert [round(100 * loads[board]) for board in boards] == [int(claim) for claim in claims]


def test_a_folder_with_other_things_is_not_replaced(saved, tmp_path, capsys):
    toy = saved(TinyStreamConfig(4, 16, layers=2, size=16, causal=True))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    assert cli.main(["export", toy, "--format", "c", "-o", str(tmp_path / "mine"), "--force"]) == 2
    assert "thesis.txt" in capsys.readouterr().err and (tmp_path / "mine/thesis.txt").exists()


def test_what_a_format_cannot_do_is_one_line(saved, tmp_path, capsys):
    toy = saved(SoundStreamConfig(4, 8, layers=2, size=8))
    for arguments, text in (
        (["--format", "tflite-int8"], "SoundStream"),
        (["--format", "c", "--calibrate", toy], "has none"),
        (["--format", "c", "--best"], "of a run"),
        ([], "holds no training run"),
    ):
        assert cli.main(["export", toy, *arguments, "-o", str(tmp_path / "out")]) == 2
        line = capsys.readouterr().err
        assert text in line and line.count("\n") == 1
