"""The C export: compiled without a warning, run under the sanitizers, equal to the integer model in every bit."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import audio_acdnet
import numpy as np
import pytest
import torch
from audio_acdnet import cost
from audio_acdnet.config import MICRO, ACDNetConfig
from audio_acdnet.export import c_code, quantise
from audio_acdnet.model import ACDNet

# A height of 8 and 59 columns: pools of 2, of 1 along the height, left out ones, and an odd end that is cut off.
TINY = ACDNetConfig(20000, 12000, (2, 8, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8), ("a", 'the "second" one\\', "ß??/"))
GLOBAL = ACDNetConfig(20000, 13000, (3, 5, 2, 3, 4, 2, 3, 4, 2, 3, 4, 6), ("a", "b"), first_pool=49, last_pool="global")
WARNINGS = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Wno-sign-conversion", "-Werror", "-O1")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g") if sys.platform == "linux" else ()


def compiled(model: quantise.IntegerModel, folder: Path, main: Path | None = None) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    assert compiler, "the C export is tested with a C compiler: install gcc"
    for name, text in c_code.sources(model).items():
        (folder / name).write_text(text, encoding="utf-8")
    files = [str(main or folder / "main.c"), str(folder / "acdnet.c"), str(folder / "acdnet_model.c")]
    program = folder / "program"
    command = [compiler, *WARNINGS, *SANITIZERS, f"-I{folder}", *files, "-lm", "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return program


def run(program: Path, values: np.ndarray, classes: int, *arguments: str) -> tuple[int, np.ndarray]:
    """sizeof(acdnet), and logits (windows, classes)."""
    done = subprocess.run([program, *arguments], input=values.astype("<i2").tobytes(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    size = int(np.frombuffer(done.stdout[:4], np.int32)[0])
    return size, np.frombuffer(done.stdout[4:], np.int16).reshape(-1, classes)


def integers(config: ACDNetConfig, map_type: str = "int8") -> tuple[quantise.IntegerModel, torch.Tensor]:
    crops = torch.randn(6, 1, config.samples) * torch.logspace(-2.5, -0.3, 6)[:, None, None]
    model = ACDNet(config).train()
    with torch.no_grad():
        for _ in range(20):
            model(crops)
    return quantise.quantise(model.eval(), [crops], map_type=map_type), crops


pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="standard streams change binary data there")
DRIVER = Path(__file__).with_name("device_driver.c")


@pytest.mark.parametrize("map_type", ["int8", "int16"])
@pytest.mark.parametrize("config", [TINY, GLOBAL, ACDNetConfig(channels=MICRO)], ids=["tiny", "global", "micro"])
def test_the_device_computes_what_the_integer_model_does_in_every_bit(config, map_type, tmp_path):
    model, crops = integers(config, map_type)
    extremes = np.array([[[-32768, 32767]], [[32767, -32768]]], np.int16).repeat(config.samples // 2 + 1, 2)
    values = np.concatenate([model.quantised(crops.numpy()), extremes[:, :, : config.samples]])
    taken = c_code._window_samples(config)
    assert taken <= config.samples
    size, logits = run(compiled(model, tmp_path, DRIVER), values[:, :, :taken], len(config.labels))
    assert np.array_equal(logits, model.integers(values))
    planned = sum(c_code.memory_of(model).values())
    assert planned <= size <= planned + 16  # what the compiler adds to align the parts


def test_windows_that_slide_share_their_columns_and_are_those_of_crops_at_their_places(tmp_path):
    model, _ = integers(TINY)
    audio = (3000 * np.random.default_rng(1).standard_normal(40_000)).astype(np.int16)
    _, logits = run(compiled(model, tmp_path, DRIVER), audio, 3, "20")
    starts = range(0, len(audio) - TINY.samples + 1, 20 * 200)
    crops = np.stack([audio[start : start + TINY.samples] for start in starts])[:, None]
    assert len(crops) == 8 and np.array_equal(logits[:8], model.integers(crops))


def test_the_shipped_model_fits_a_small_device_and_its_example_hears(tmp_path):
    model = audio_acdnet.load()
    crops = [0.1 * torch.randn(2, 1, 30225)]
    narrow, wide = quantise.quantise(model, crops), quantise.quantise(model, crops, map_type="int16")
    assert sum(c_code.memory_of(narrow).values()) < 24_000 and sum(c_code.memory_of(wide).values()) < 45_000
    assert c_code.flash(narrow) == c_code.flash(wide) < 140_000
    program = compiled(narrow, tmp_path)
    noise = (3000 * np.random.default_rng(2).standard_normal(61_000)).astype("<i2")
    said = subprocess.run([program], input=noise.tobytes() + bytes(400_000), capture_output=True)
    lines = said.stdout.decode().splitlines()
    first = re.fullmatch(r" +0\.00 to +1\.51 s  (\w+) (\d+) %", lines[0])
    logits = narrow.integers(noise[None, None, :30225])[0]
    assert said.returncode == 0 and first and first[1] == model.config.labels[logits.argmax()]
    assert float(lines[-1].split()[0]) < 3.06  # nothing is said of the silence behind


def test_the_example_answers_short_unsure_and_silent_clips(tmp_path):
    """It printed nothing for these."""
    model, _ = integers(TINY)  # its weights are random: it is sure of nothing
    program = compiled(model, tmp_path)

    def lines(audio: np.ndarray) -> list[str]:
        done = subprocess.run([program], input=audio.astype("<i2").tobytes(), capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().splitlines()

    noise = 3000 * np.random.default_rng(3).standard_normal(40_000)
    (short,) = lines(noise[:5000])
    assert re.fullmatch(r" +0\.00 to +0\.25 s  (unsure, perhaps )?.+ \d+ %", short)
    padded = np.pad(noise[:5000].astype(np.int16), (0, TINY.samples - 5000))
    logits = model.integers(padded[None, None])[0] * np.float64(model.output_scale)
    share = 100 * np.exp(logits).max() / np.exp(logits).sum()
    assert short.endswith(f"{share:.0f} %") and ("unsure" in short) == (share < 50)
    long = lines(noise)
    assert float(long[-1].split()[2]) == 2.0  # up to its end, which no full window reaches
    assert lines(np.zeros(5000)) == ["     0.00 to      0.25 s  silent"]


def test_the_header_tells_scale_and_zero_of_the_input():
    model, _ = integers(TINY)
    header = c_code.sources(model)["acdnet_model.h"]
    assert "#define ACDNET_INPUT_SCALE 3.0517578125e-05" in header and "#define ACDNET_INPUT_ZERO 0" in header
    assert f"{sum(cost.device_memory(TINY).values()):,} bytes of memory" in header


def test_the_engine_is_cpp_as_well(tmp_path):
    model, _ = integers(TINY)
    compiled(model, tmp_path)
    command = [shutil.which("g++") or shutil.which("c++"), "-Wall", "-Wextra", "-Werror", "-x", "c++", "-fsyntax-only"]
    done = subprocess.run(
        [*command, str(tmp_path / "acdnet.c"), str(tmp_path / "main.c")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_a_model_with_8_bit_input_is_refused():
    crops = torch.randn(2, 1, 12000)
    with pytest.raises(ValueError, match="16-bit audio"):
        c_code.sources(quantise.quantise(ACDNet(TINY).eval(), [crops], "int8"))
