"""What all exports share: the frame around a format, ONNX files that are checked, C text, calibration."""

import re
import sys
from pathlib import Path

import numpy as np
import onnx as files
import onnxruntime
import pytest
import torch
from audio_core import audio
from audio_core.export import c_text, calibrate, onnx
from audio_core.export.write import Format, export, sizes
from audio_core.files import InputError
from audio_core.testing import noise
from torch import Tensor, nn

# --- the frame ---------------------------------------------------------------------------------------------


def text_format(model: str, path: Path, calibration: list[Tensor]) -> dict:
    path.write_text(model + str(len(calibration)))
    return {"arena_bytes": 7}


def folder_format(model: str, path: Path, calibration: list[Tensor]) -> dict:
    c_text.write(path, {"a.c": model})
    return {"flash_bytes": {"books": 30, "rest": 12}, "memory_bytes": 9}


FORMATS = {
    "plain": Format(text_format),
    "int8": Format(text_format, integers=True),
    "c": Format(folder_format, files=("a.c", "a.h")),
}


def synthetic() -> list[Tensor]:
    return [torch.zeros(1), torch.zeros(1)]


def test_synthetic_sounds_calibrate_integers_unless_there_are_recordings(tmp_path):
    export("m", tmp_path / "a", "int8", FORMATS, synthetic)
    export("m", tmp_path / "b", "int8", FORMATS, synthetic, [torch.zeros(1)])
    export("m", tmp_path / "c", "plain", FORMATS, pytest.fail)
    assert [(tmp_path / name).read_text() for name in "abc"] == ["m2", "m1", "m0"]


def test_an_export_is_replaced_only_when_forced_and_never_with_other_files(tmp_path):
    facts = export("one", tmp_path / "x", "c", FORMATS, synthetic)
    assert facts["format"] == "c" and facts["path"] == str(tmp_path / "x") and facts["files"] == {"a.c": 3}
    with pytest.raises(InputError, match="--force"):
        export("two", tmp_path / "x", "c", FORMATS, synthetic)
    export("two", tmp_path / "x", "c", FORMATS, synthetic, force=True)
    assert (tmp_path / "x/a.c").read_text() == "two"
    (tmp_path / "x/thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match=r"holds thesis\.txt, which no export does"):
        export("three", tmp_path / "x", "c", FORMATS, synthetic, force=True)
    assert (tmp_path / "x/thesis.txt").exists() and (tmp_path / "x/a.c").read_text() == "two"


def test_formats_that_do_not_exist_or_take_no_calibration_are_refused(tmp_path):
    with pytest.raises(InputError, match="expected plain, int8, c, got 'pdf'"):
        export("m", tmp_path / "x", "pdf", FORMATS, synthetic)
    with pytest.raises(InputError, match="--format plain has none"):
        export("m", tmp_path / "x", "plain", FORMATS, synthetic, synthetic())
    assert not list(tmp_path.iterdir())


def test_the_table_of_sizes_adds_up_parts(tmp_path):
    lines = sizes(export("m", tmp_path / "x", "c", FORMATS, synthetic)).splitlines()
    rows = [re.split(r"  +", line.strip()) for line in lines]
    assert rows == [
        ["bytes"],
        ["a.c", "1"],
        ["constants in flash", "42"],
        ["books", "30"],
        ["rest", "12"],
        ["memory", "9"],
    ]
    assert sizes(export("m", tmp_path / "y", "plain", FORMATS, synthetic)).splitlines()[-1].endswith(" 7")


# --- ONNX --------------------------------------------------------------------------------------------------


class Step(nn.Module):
    """A layer with a state: two inputs and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.drop = nn.Conv1d(2, 3, 3, padding=1), nn.Dropout(0.5)

    def forward(self, audio: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        y = self.drop(self.conv(audio)) + state[..., None]
        return y, y.mean(-1)


def write(module: nn.Module, path: Path) -> None:
    batch, time = torch.export.Dim("batch"), torch.export.Dim("time")
    onnx.export(
        module,
        path,
        {"audio": torch.randn(2, 2, 30), "state": torch.randn(2, 3)},
        ("frames", "next"),
        {"audio": {0: batch, 2: time}, "state": {0: batch}},
        {"rate": "16000"},
        "audio-core[onnx]",
    )


def test_a_module_becomes_one_file_for_any_batch_and_length(tmp_path):
    module = Step()
    write(module, tmp_path / "step.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["step.onnx"]
    assert {entry.key: entry.value for entry in files.load(tmp_path / "step.onnx").metadata_props}["rate"] == "16000"
    session = onnxruntime.InferenceSession(tmp_path / "step.onnx")
    audio, state = torch.randn(5, 2, 71), torch.randn(5, 3)
    results = session.run(["frames", "next"], {"audio": audio.numpy(), "state": state.numpy()})
    with torch.no_grad():
        for result, expected in zip(results, module(audio, state), strict=True):
            assert np.allclose(result, expected.numpy(), atol=1e-5)


def doubled(kind: int, shape: tuple[int, ...]) -> files.ModelProto:
    value = files.helper.make_tensor_value_info
    node = files.helper.make_node("Add", ["x", "x"], ["y"])
    graph = files.helper.make_graph([node], "main", [value("x", kind, shape)], [value("y", kind, shape)])
    return files.helper.make_model(graph, opset_imports=[files.helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize(
    ("x", "expected", "words"),
    [
        (torch.ones(4), torch.full((4,), 2.01), r"y: the ONNX file is off by 0\.01"),
        (torch.ones(4), torch.full((1, 4), 2.0), r"y: the ONNX file gives the shape \(4,\), the model \(1, 4\)"),
        (torch.arange(4), torch.tensor([0, 2, 4, 7]), r"y: only 75% of the values"),
    ],
)
def test_a_file_that_computes_something_else_is_not_kept(x, expected, words, tmp_path):
    kind = files.TensorProto.FLOAT if x.is_floating_point() else files.TensorProto.INT64
    onnx.save(doubled(kind, (4,)), tmp_path / "right.onnx", [({"x": x}, {"y": 2 * x})], {}, "audio-core[onnx]")
    with pytest.raises(RuntimeError, match=words):
        onnx.save(doubled(kind, (4,)), tmp_path / "wrong.onnx", [({"x": x}, {"y": expected})], {}, "audio-core[onnx]")
    assert [path.name for path in tmp_path.iterdir()] == ["right.onnx"]


def test_every_example_is_compared_and_all_results_are_given(tmp_path):
    x = torch.ones(4)
    examples = [({"x": x}, {"y": 2 * x}), ({"x": 3 * x}, {})]
    results = onnx.save(doubled(files.TensorProto.FLOAT, (4,)), tmp_path / "a.onnx", examples, {}, "")
    assert [result["y"].tolist() for result in results] == [[2.0] * 4, [6.0] * 4]
    with pytest.raises(RuntimeError, match="y: the ONNX file is off by 1"):
        wrong = [examples[0], ({"x": 3 * x}, {"y": 7 * x})]
        onnx.save(doubled(files.TensorProto.FLOAT, (4,)), tmp_path / "b.onnx", wrong, {}, "")


def test_a_model_without_finite_values_is_refused(tmp_path):
    x = torch.full((4,), torch.nan)
    with pytest.raises(InputError, match="gives y that are not finite"):
        onnx.save(doubled(files.TensorProto.FLOAT, (4,)), tmp_path / "x.onnx", [({"x": x}, {"y": x})], {}, "")


@pytest.mark.parametrize("library", ["onnx", "onnxruntime", "onnxscript"])
def test_a_missing_library_is_named_with_what_installs_it(library, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(InputError, match=rf'needs {library}, .*: pip install "audio-core\[onnx\]"'):
        write(Step(), tmp_path / "x.onnx")


# --- C text and calibration --------------------------------------------------------------------------------


def test_arrays_of_c_are_whole_and_their_lines_short():
    values = np.arange(-300, 300, dtype=np.int16).reshape(2, 300)
    text = c_text.array("numbers", values)
    assert text.startswith("static const int16_t numbers[600] = {\n") and text.endswith("};\n")
    assert max(map(len, text.splitlines())) <= 118
    assert [int(number) for number in re.findall(r"-?\d+(?=,)", text)] == values.ravel().tolist()


def test_floats_of_c_are_the_same_floats_again():
    values = np.random.default_rng(0).standard_normal(100).astype(np.float32) * np.logspace(
        -30, 30, 100, dtype=np.float32
    )
    text = c_text.array("numbers", np.append(values, np.float32(3)))
    numbers = re.findall(r"\S+(?=f,)", text)
    assert np.array_equal(np.array(numbers, np.float64).astype(np.float32)[:-1], values) and numbers[-1] == "3."


def test_defines_stand_in_columns():
    text = c_text.defines("X", [("RATE", 16000, "samples a second"), ("LOW", -128, "")])
    assert text == "#define X_RATE 16000  /* samples a second */\n#define X_LOW -128"
    assert c_text.header("X_H", text).splitlines()[:2] == ["#ifndef X_H", "#define X_H"]


def test_recordings_for_calibration_are_spread_over_all_files(tmp_path):
    for at in range(7):
        audio.write(tmp_path / f"{at}.wav", noise(at, 0.01).numpy(), 16000)
    paths, each = calibrate.select([str(tmp_path)], 3)
    assert [path.name for path in paths] == ["0.wav", "3.wav", "6.wav"] and each == 1
    paths, each = calibrate.select([str(tmp_path)], 24)
    assert len(paths) == 7 and each == 4


def test_noise_is_coloured_down_to_the_slope_that_is_asked_for():
    rng = np.random.default_rng(0)
    slopes = []
    for _ in range(20):
        magnitudes = np.abs(np.fft.rfft(calibrate.coloured_noise(rng, 8192, 2.0)))
        frequency = np.arange(1, len(magnitudes) + 1)
        slopes.append(np.polyfit(np.log(frequency[10:]), np.log(magnitudes[10:]), 1)[0])
    assert -2.2 < min(slopes) < -1.6 and -0.4 < max(slopes) < 0.1
