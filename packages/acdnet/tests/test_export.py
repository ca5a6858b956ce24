"""Exports from the command: every format, its facts, and what it refuses."""

import json
import platform
import sys
from dataclasses import replace
from pathlib import Path

import audio_acdnet
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from audio_acdnet import FORMATS, cli
from audio_acdnet.config import ACDNetConfig
from audio_acdnet.export import calibrate
from audio_acdnet.export.write import export
from audio_acdnet.model import ACDNet
from audio_core import audio, bundle
from audio_core.files import InputError
from audio_core.testing import noise, tone

TINY = ACDNetConfig(20000, 12000, (2, 8, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8), ("dog", "sea ★"))


def settled(config: ACDNetConfig) -> ACDNet:
    """A model whose normalisations have seen the calibration sounds."""
    model = ACDNet(config).train()
    with torch.no_grad():
        for crops in calibrate.sounds(config):
            model(crops)
    return model.eval()


@pytest.fixture
def stored(tmp_path):
    bundle.save(settled(TINY), tmp_path / "tiny", "audio-acdnet", "0.1.0", "")
    return tmp_path / "tiny"


def run(capsys, *arguments) -> tuple[int, str, str]:
    capsys.readouterr()
    code = cli.main([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def session(path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options)


def exported(source: str, format: str, target: Path, model: ACDNet, capsys) -> dict:
    """The facts of an export from the command, after the checks that hold for every format."""
    code, out, err = run(capsys, "export", source, "--format", format, "--json")
    facts = json.loads(out)
    assert code == 0 and err == f"wrote {target}\n" and facts["path"] == str(target)
    files = list(target.iterdir()) if target.is_dir() else [target]
    assert facts["files"] == {path.name: path.stat().st_size for path in files}
    assert facts["parameters"] == sum(weight.numel() for weight in model.parameters())
    return facts


def computes_alike(path: Path, model: ACDNet) -> None:
    """The ONNX file has the model's logits for a batch of another size, and tells what they are."""
    config = model.config
    crops = torch.cat(calibrate.sounds(config)[:1])[:5] / config.gain
    with torch.no_grad():
        expected = model(crops * config.gain).numpy()
    logits = session(path).run(None, {"audio": crops.numpy()})[0]
    assert np.abs(logits - expected).max() < 1e-5 * np.abs(expected).max()
    facts = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert facts["rate"] == "20000" and json.loads(facts["labels"]) == ["dog", "sea ★"]


@pytest.mark.parametrize("format", [format for format in FORMATS if format != "onnx-int8"])
def test_each_format_is_written_under_a_name_of_its_own_and_tells_what_it_costs(format, stored, capsys, monkeypatch):
    monkeypatch.chdir(stored.parent)
    facts = exported("tiny", format, Path(f"tiny{FORMATS[format]}"), ACDNet(TINY), capsys)
    if format == "onnx":
        computes_alike(Path("tiny.onnx"), bundle.load(stored, [ACDNet]))
    if format.startswith("c"):
        assert facts["memory_bytes"] == sum(facts["memory"].values()) and facts["flash_bytes"] > 2000
    if format == "tflite-int8" and sys.platform == "linux" and platform.machine() == "x86_64":
        assert facts["arena_bytes"] > 10_000 and facts["input"]["type"] == "int8"
    code, _, err = run(capsys, "export", stored, "--format", format)
    assert code == 2 and "--force" in err and err.count("\n") == 1
    assert not list(stored.parent.glob(".*"))  # nothing half-written is left


def test_onnx_takes_audio_within_1_whatever_level_the_model_hears(tmp_path):
    model = settled(replace(TINY, normalisation="full_scale_twice"))
    export(model, tmp_path / "model.onnx", "onnx")
    computes_alike(tmp_path / "model.onnx", model)


def test_onnx_in_8_bits_stays_close_and_is_a_third_of_the_size(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = audio_acdnet.load()
    crops = calibrate.sounds(model.config)  # those that the command takes as well
    path = Path("micro-acdnet-int8.onnx")
    facts = exported("default", "onnx-int8", path, model, capsys)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]  # nothing half-written is left
    with torch.no_grad():
        expected = model(crops[0]).numpy()
    logits = session(path).run(None, {"audio": crops[0].numpy()})[0]
    assert np.square(logits - expected).mean() < 0.1 * expected.var()
    assert (logits.argmax(-1) == expected.argmax(-1)).sum() >= 14  # of 16 sounds
    assert facts["files"][path.name] < 0.4 * 4 * facts["parameters"]


def test_recordings_of_any_kind_set_the_scales(stored, capsys, tmp_path):
    audio.write(tmp_path / "sounds/hum.flac", tone(220, 1.0, 44100, 2).numpy(), 44100)
    audio.write(tmp_path / "sounds/short.wav", noise(1, 0.1, 8000).numpy(), 8000)
    arguments = ["export", stored, "--format", "c", "--json", "-o"]
    code, _, _ = run(capsys, *arguments, tmp_path / "one", "--calibrate", tmp_path / "sounds")
    assert code == 0 and run(capsys, *arguments, tmp_path / "other")[0] == 0
    one, other = ((tmp_path / name / "acdnet_model.c").read_text() for name in ("one", "other"))
    assert one != other
    code, _, err = run(capsys, *arguments, tmp_path / "third", "--calibrate", tmp_path / "nothing")
    assert code == 2 and "nothing" in err and not (tmp_path / "third").exists()


def test_the_sounds_made_here_are_the_same_every_time_and_of_all_levels():
    one, other = (torch.cat(calibrate.sounds(TINY)) for _ in range(2))
    assert torch.equal(one, other) and one.shape == (calibrate.COUNT, 1, 12000) and one.isfinite().all()
    peaks = one.abs().amax((1, 2))
    assert peaks.max() > 0.9 and peaks.min() < 0.05


def test_the_shipped_model_is_exported_when_none_is_named_and_overwritten_when_forced(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("micro-acdnet-c").mkdir()
    Path("micro-acdnet-c/acdnet_model.c").write_text("of an earlier export")
    code, out, err = run(capsys, "export", "--format", "c", "--force")
    assert code == 0 and err == "wrote micro-acdnet-c\n" and "multiply-adds a window" in out
    assert '"clock_tick"' in (tmp_path / "micro-acdnet-c/acdnet_model.c").read_text()


def test_a_folder_with_other_things_is_not_replaced(stored, tmp_path):
    model = bundle.load(stored, [ACDNet])
    export(model, tmp_path / "mine", "c")
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match=r"holds thesis\.txt, which no export does"):
        export(model, tmp_path / "mine", "c", force=True)
    assert (tmp_path / "mine/thesis.txt").exists()


@pytest.mark.parametrize(("format", "library"), [("onnx", "onnxscript"), ("onnx-int8", "onnxruntime")])
def test_what_is_not_installed_is_named_with_the_command_that_installs_it(format, library, stored, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    code, _, err = run(capsys, "export", stored, "--format", format, "-o", stored.parent / "x.onnx")
    assert code == 2 and library in err and 'pip install "audio-acdnet[onnx]"' in err and err.count("\n") == 1


def test_mistakes_are_one_line(stored, capsys, tmp_path):
    code, _, err = run(capsys, "export", stored, "--format", "onnx", "--best")
    assert code == 2 and "--best chooses between the weights of a run" in err
    code, _, err = run(capsys, "export", stored, "-o", tmp_path / "x")
    assert code == 2 and "holds no training run" in err
    code, _, err = run(capsys, "export", stored, "--format", "onnx", "--calibrate", tmp_path)
    assert code == 2 and "--format onnx has none" in err
    with pytest.raises(InputError, match=r"expected onnx, .*, got 'pdf'"):
        export(ACDNet(TINY), tmp_path / "x", "pdf")
    code, _, err = run(capsys, "export", tmp_path / "nowhere", "--format", "c")
    assert code == 2 and "nowhere" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("format", "value", "words"),
    [("c", float("nan"), "not finite"), ("c", 1e38, "infinite"), ("onnx", float("nan"), "logits that are not finite")],
)
def test_weights_that_are_no_numbers_or_too_large_are_refused(format, value, words, capsys, tmp_path):
    model = settled(TINY)
    with torch.no_grad():
        model.seeing.conv5.weight.fill_(value)
    bundle.save(model, tmp_path / "bad", "audio-acdnet", "0.1.0", "")
    code, _, err = run(capsys, "export", tmp_path / "bad", "--format", format, "-o", tmp_path / "x.onnx")
    assert code == 2 and words in err and err.count("\n") == 1 and not (tmp_path / "x.onnx").exists()


def test_sums_that_may_leave_32_bits_are_refused(capsys, tmp_path):
    model = settled(replace(TINY, channels=(2, 8, 3, 4, 4, 5, 5, 6, 2100, 7, 7, 8)))
    with torch.no_grad():
        model.seeing.conv10.weight.fill_(0.01)  # all as large as the largest
    bundle.save(model, tmp_path / "wide", "audio-acdnet", "0.1.0", "")
    code, _, err = run(capsys, "export", tmp_path / "wide", "--format", "c-16x8", "-o", tmp_path / "x")
    assert code == 2 and "conv10: its sums may need more than 32 bits" in err and err.count("\n") == 1
