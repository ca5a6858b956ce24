"""ONNX files: the whole model in another program, and the example in the page beside them."""

import json
import re
import runpy
import sys

import numpy as np
import onnx as files
import onnxruntime
import pytest
import torch
from audio_core import audio
from audio_core.files import InputError
from audio_core.metrics import snr
from audio_core.testing import noise
from audio_sep import config, load
from audio_sep.cli import main
from audio_sep.export import write
from audio_sep.export.whole import Whole
from audio_sep.models import MODELS
from audio_sep.separate import Separator

RATE = 8000


def small(name: str):
    sizes = {"n_fft": 64, "hop": 15} if name.endswith("SubbandTime") else {"n_fft": 256, "hop": 50}
    settings = {"rate": RATE, "sources": ("vocals", "other"), "widths": (4, 4), **sizes}
    torch.manual_seed(0)
    return MODELS[name](getattr(config, f"{name}Config")(**settings)).eval()


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_convolutions_stand_for_transforms(name):
    """Any error here is rounding: quiet bins have phases that rounding decides."""
    model, x = small(name), noise(0, 1.001, RATE, 2)[None]
    expected = torch.stack([*model.separate(x).values()], 1)
    stems = Whole(model)(x)
    assert stems.shape == expected.shape == (1, 2, 2, 8008) and snr(stems.flatten(), expected.flatten()) > 60


@pytest.fixture(scope="module", params=["MobileNetSubbandTime", "ConditionalUNet"])
def exported(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "a.onnx"
    model = small(request.param)
    return model, path, write.export(model, path, "onnx")


def test_the_file_gives_the_stems_and_says_how_to_feed_it(exported):
    model, path, facts = exported
    files.checker.check_model(path, full_check=True)
    program = onnxruntime.InferenceSession(path)
    sizes = Separator(model).sizes
    segment, overlap = sizes["segment"], sizes["overlap"]
    metadata = program.get_modelmeta().custom_metadata_map
    assert json.loads(metadata.pop("sources")) == ["vocals", "other"]
    assert metadata == {"rate": "8000", "channels": "2", "samples": str(segment), "overlap": str(overlap)}
    (audio,), (output,) = program.get_inputs(), program.get_outputs()
    assert (audio.name, audio.shape) == ("audio", [1, 2, segment])
    assert (output.name, output.shape) == ("stems", [1, 2, 2, segment])
    x = 0.5 * noise(1, 10.0, RATE, 2)[None]
    (stems,) = program.run(None, {"audio": x.numpy()})
    expected = torch.stack([*model.separate(x).values()], 1)
    assert snr(torch.from_numpy(stems).flatten(), expected.flatten()) > 60
    assert facts["files"] == {each.name: each.stat().st_size for each in path.parent.iterdir() if "onnx" in each.name}
    assert "vocals, other of 2 channels" in write.table(facts) and "10 s at 8000 Hz" in write.table(facts)


def test_the_example_in_the_page_separates_as_the_separator_does(exported, tmp_path, monkeypatch):
    model, path, _ = exported
    (example,) = re.findall(r"^```python\n(.*?)^```$", path.with_name("a.onnx.md").read_text("utf-8"), re.M | re.S)
    (tmp_path / "separate.py").write_text(example, "utf-8")
    sizes = Separator(model).sizes
    length = 2 * sizes["segment"] - sizes["overlap"]  # two segments, the last of which is full
    audio.write(tmp_path / "song.wav", 0.2 * noise(2, length / RATE, RATE, 2).numpy(), RATE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["separate.py", str(path), "song.wav"])
    runpy.run_path("separate.py", run_name="__main__")
    expected = Separator(model)(audio.read("song.wav").samples, RATE)
    for name, stem in expected.items():
        samples, rate = audio.read(f"{name}.wav")
        assert rate == RATE and samples.shape == stem.shape
        assert np.abs(samples - stem).max() < 1e-3 < np.abs(stem).max() / 10


def test_the_command_writes_the_file_and_its_page(bundle, tmp_path, monkeypatch, capsys):
    """Without the export itself, which takes seconds."""
    monkeypatch.setattr("audio_sep.export.onnx.write", lambda model, path: path.write_bytes(b"a file"))
    assert main(["export", str(bundle), "--format", "onnx", "-o", str(tmp_path / "b.onnx"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["sources"] == ["vocals", "accompaniment"] and {*facts["files"]} == {"b.onnx", "b.onnx.md"}
    with pytest.raises(InputError, match=r"b\.onnx\.md: exists already; give --force"):
        write.export(load(bundle), tmp_path / "b.onnx", "onnx")


def test_a_missing_library_is_named_with_what_installs_it(bundle, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match=r'needs onnx, which is not installed: pip install "audio-sep\[onnx\]"'):
        write.export(load(bundle), tmp_path / "a.onnx", "onnx")
    assert not list(tmp_path.glob("*.onnx*"))
