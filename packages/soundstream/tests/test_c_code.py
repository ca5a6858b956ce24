"""The C export: compiled without a warning, run under the sanitizers, equal to PyTorch's codes and to the integers'."""

import io
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from audio_core.files import InputError
from audio_core.testing import noise
from audio_soundstream.config import TinyStreamConfig
from audio_soundstream.export import c_code, calibrate, chain, quantise, write
from audio_soundstream.model import NeuralCodec, TinyStream
from audio_soundstream.sstr.bitstream import Reader

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="standard streams change binary data there")
HERE = Path(__file__).parent
WARNINGS = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wconversion", "-Wno-sign-conversion", "-Werror")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all") if sys.platform == "linux" else ()


def compiled(texts: dict[str, str], folder: Path, *flags: str, main: str | None = "device_driver.c") -> Path:
    """A program of these sources, with the driver of the tests in the place of `main.c` unless that is None."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    assert compiler, "the C export is tested with a C compiler: install gcc"
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    files = [str(folder / name) for name in texts if name.endswith(".c") and (name != "main.c" or not main)]
    files += [str(HERE / main)] if main else []
    program = folder / "program"
    command = [compiler, *WARNINGS, "-O1", *flags, f"-I{folder}", *files, "-lm", "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return program


def run(program: Path, samples: torch.Tensor, layers: int, *arguments: object) -> tuple[int, np.ndarray]:
    """sizeof(soundstream), and codes (layers, frames)."""
    done = subprocess.run([program, *map(str, arguments)], input=samples.numpy().tobytes(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    codes = np.frombuffer(done.stdout[4:], np.uint16).reshape(-1, layers).T
    return int(np.frombuffer(done.stdout[:4], np.int32)[0]), codes


def small(**settings) -> TinyStream:
    """With weights that keep sounds alive, and codebooks of the latents of one."""
    model = TinyStream(TinyStreamConfig(**({"channels": 8, "width": 20, "layers": 3, "size": 50} | settings))).eval()
    with torch.no_grad():
        for weight in model.encoder.parameters():
            torch.nn.init.kaiming_normal_(weight, nonlinearity="linear")
        rest, books = model.encode(noise(3, 6.0)[None])[0].T, []
        for _ in range(model.config.layers):
            books.append(rest[torch.randperm(len(rest))[: model.config.size]])
            rest = rest - 0.9 * books[-1][torch.cdist(rest, books[-1]).argmin(1)]
    model.quantizer.load_codebooks(torch.stack(books))
    return model


def same(program: Path, model: NeuralCodec | quantise.IntegerModel, audio: torch.Tensor, *arguments: object) -> None:
    """Codes of the program are those of the model for (1, 1, T)."""
    integer = isinstance(model, quantise.IntegerModel)
    given = quantise.recorded(audio) if integer else audio
    size, codes = run(program, given, model.config.layers, *arguments)
    assert np.array_equal(codes, model.codes(audio)[0].numpy())
    assert c_code.memory(model) <= size <= c_code.memory(model) + 16  # what the compiler adds to align the parts


# --- floating point ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ss_small", "ts_ultra_tiny", "ts_tiny"])
def test_codes_are_those_of_pytorch_on_the_clips_of_the_original(stored, name, tmp_path):
    case, model = stored(name)
    program = compiled(c_code.sources(model), tmp_path, *SANITIZERS)
    for clip in case.inputs["x"].split(1):
        same(program, model, clip)


@pytest.mark.skipif(platform.system() != "Linux", reason="arrays go in through the assembler of Linux")
@pytest.mark.parametrize("name", ["ts_medium", "ts_full", "ss_default", "ss_c16_d256"])
def test_large_models_as_well(stored, name, tmp_path, monkeypatch):
    """Their millions of numbers would take a compiler a minute, so they go in as bytes."""
    case, model = stored(name)
    lines = [".section .rodata", '.section .note.GNU-stack,"",@progbits', ".section .rodata"]

    def declared(name: str, values: np.ndarray) -> str:
        (tmp_path / f"{name}.bin").write_bytes(np.ascontiguousarray(values).tobytes())
        lines.extend([f".globl {name}", ".balign 16", f'{name}: .incbin "{tmp_path / name}.bin"'])
        return f"extern const float {name}[{values.size}];\n"

    monkeypatch.setattr(c_code.c_text, "array", declared)
    texts = c_code.sources(model)
    numbers = tmp_path / "numbers.s"
    numbers.write_text("\n".join(lines) + "\n")
    program = compiled(texts, tmp_path, str(numbers))
    for clip in case.inputs["x"].split(1):
        same(program, model, clip)


@pytest.mark.parametrize("length", [1, 256, 1531, 4351])
@pytest.mark.parametrize("settings", [{}, {"causal": True, "activation": "hardswish"}], ids=["original", "causal"])
def test_every_length_and_every_piece_gives_the_codes_of_the_whole(settings, length, tmp_path_factory):
    model = small(**settings)
    folder = tmp_path_factory.getbasetemp() / f"pieces-{len(settings)}"
    program = folder / "program"
    if not program.exists():
        program = compiled(c_code.sources(model), folder, *SANITIZERS)
    audio = noise(length, 4351 / 16000)[None, :, :length]
    for piece in (0, 1, 37, 256, 320, 1000, 100_000):
        same(program, model, audio, piece)


def test_channels_that_fill_no_lane_and_strides_of_every_kind(tmp_path):
    model = small(channels=5, strides=(2, 4, 6, 2), width=7, size=3, layers=2)
    same(compiled(c_code.sources(model), tmp_path, *SANITIZERS), model, noise(1, 0.2)[None])


def test_fewer_codebooks_are_searched_for_a_lower_bitrate(tmp_path):
    model = small()
    program = compiled(c_code.sources(model), tmp_path, *SANITIZERS)
    audio = noise(1, 0.2)[None]
    _, codes = run(program, audio, 3, 0, 2)
    assert np.array_equal(codes[:2], model.codes(audio, 2)[0].numpy()) and not codes[2].any()


def test_what_is_no_number_breaks_nothing_but_its_own_frames(tmp_path):
    model = small(causal=True)
    program = compiled(c_code.sources(model), tmp_path, "-fsanitize=address")
    audio = noise(1, 1.0)[None]
    broken = audio.clone()
    broken[..., 8000] = torch.nan
    _, codes = run(program, broken, 3)
    assert codes.max() < model.config.size
    assert np.array_equal(codes[:, :31], model.codes(audio)[0, :, :31].numpy())


def test_a_frame_comes_no_later_than_the_header_says():
    model = small()
    assert chain.lookahead(chain.layers(model)) == 1531 + 1 - 256
    assert chain.lookahead(chain.layers(small(causal=True))) == 0
    assert "#define SOUNDSTREAM_LOOKAHEAD 1276 " in c_code.sources(model)["soundstream_model.h"]


# --- integers ----------------------------------------------------------------------------------------------

LOUD = torch.cat([torch.ones(1, 1, 3000), -torch.ones(1, 1, 3000), torch.tensor([1.0, -1.0]).repeat(1, 1, 1500)], -1)


@pytest.mark.parametrize("name", ["ss_small", "ts_ultra_tiny"])
def test_integers_are_those_of_the_integer_model_in_every_bit(stored, name, tmp_path):
    case, model = stored(name)
    made = quantise.quantise(model, [0.1 * noise(2, 1.0)[None]])  # so soft that loud sounds reach all limits
    program = compiled(c_code.sources(made), tmp_path, *SANITIZERS)
    for audio in (*case.inputs["x"].split(1), LOUD, noise(1, 1.0)[None], torch.zeros(1, 1, 700)):
        same(program, made, audio)
    for piece in (1, 37, 100_000):
        same(program, made, LOUD[..., 2000:5001], piece)


def test_a_causal_model_with_hardswish_in_integers(tmp_path):
    model = small(causal=True, activation="hardswish")
    made = quantise.quantise(model, [noise(2, 1.0)[None]])
    program = compiled(c_code.sources(made), tmp_path, *SANITIZERS)
    for audio in (LOUD, noise(1, 0.5)[None], noise(4, 0.1)[None, :, :257]):
        same(program, made, audio)


@pytest.mark.parametrize("name", ["ts_ultra_tiny", "ss_small"])
def test_an_emulated_xtensa_computes_the_same_integers(stored, name, tmp_path):
    """An lx106 is no ESP32, but a 32-bit processor of the same family without floating point, and it runs in QEMU."""
    compiler, emulator = shutil.which("xtensa-lx106-elf-gcc"), shutil.which("qemu-system-xtensa")
    if not compiler or not emulator:
        pytest.skip("needs a compiler and an emulator for Xtensa: apt install gcc-xtensa-lx106 qemu-system-misc")
    case, model = stored(name)
    made = quantise.quantise(model, [0.1 * noise(2, 1.0)[None]])
    audio = torch.cat([case.inputs["x"][:1], LOUD[..., 2500:7000], noise(1, 0.2)[None]], -1)
    numbers = ", ".join(map(str, quantise.recorded(audio).flatten().tolist()))
    header = f"#include <stdint.h>\nstatic const int16_t samples[] = {{{numbers}}};\n"
    for file, text in (c_code.sources(made) | {"samples.h": header}).items():
        (tmp_path / file).write_text(text, encoding="utf-8")
    engine = [str(tmp_path / file) for file in ("soundstream.c", "soundstream_integer.c", "soundstream_model.c")]
    bare = ["-std=gnu99", "-O2", "-ffreestanding", "-nostdlib", "-mtext-section-literals"]
    bare += ["-T", str(HERE / "device_xtensa.ld"), f"-I{tmp_path}", str(HERE / "device_xtensa.c")]
    command = [compiler, *WARNINGS[2:], *bare, *engine, "-o", str(tmp_path / "program.elf")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    machine = ["-M", "sim", "-cpu", "lx106", "-semihosting", "-display", "none", "-monitor", "none", "-serial", "stdio"]
    told = subprocess.run(
        [emulator, *machine, "-kernel", str(tmp_path / "program.elf")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
    )
    codes = np.frombuffer(told.stdout, "<u2").reshape(-1, model.config.layers).T
    assert np.array_equal(codes, made.codes(audio)[0].numpy())


# --- the rest ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("integer", [False, True], ids=["float", "integer"])
def test_the_example_writes_a_stream_that_decoders_read(integer, tmp_path):
    model = small(size=300)  # codes of nine bits
    made = quantise.quantise(model, [noise(2, 1.0)[None]]) if integer else model
    program = compiled(c_code.sources(made), tmp_path, *SANITIZERS, main=None)
    for frames in (0, 8, 19):
        audio = quantise.recorded(noise(1, 1.0)[None])[..., : max(0, 256 * frames - 100)]
        done = subprocess.run([program], input=audio.numpy().tobytes(), capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        reader = Reader(io.BytesIO(done.stdout), "stream")
        packets = [packet.codes for packet in reader]
        assert reader.header.fingerprint == model.fingerprint() and reader.header.rate == 16000
        assert (reader.header.frames, reader.header.samples) == (frames, audio.shape[-1])
        codes = np.concatenate([np.zeros((3, 0), int), *packets], 1)
        assert codes.shape == (3, frames)
        if frames:
            assert np.array_equal(codes, made.codes(audio / 32768)[0].numpy())


@pytest.mark.parametrize("format", ["c", "c-int8"])
def test_an_export_is_a_folder_and_tells_what_it_costs(format, tmp_path):
    model, out = small(), tmp_path / "made"
    facts = write.export(model, out, format)
    made = quantise.quantise(model, calibrate.sounds(model.config)) if format == "c-int8" else model
    assert {path.name: path.read_text(encoding="utf-8") for path in out.iterdir()} == c_code.sources(made)
    assert facts["flash_bytes"] == c_code.flash(made) and facts["memory_bytes"] == c_code.memory(made)
    assert facts["macs_per_second"]["search"] == 3 * 50 * 20 * 62.5
    text = write.table(facts)
    assert "estimated, not measured" in text and "MB of codebooks" in text and str(facts["memory_bytes"]) in text
    with pytest.raises(InputError, match="--force"):
        write.export(model, out, format)
    write.export(model, out, format, force=True)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds notes\.txt"):
        write.export(model, out, format, force=True)
    assert (out / "notes.txt").read_text() == "mine"


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"format: expected c, c-int8.*, got 'c64'"):
        write.export(small(), tmp_path / "made", "c64")


def test_programs_in_cpp_can_use_it(tmp_path):
    for made in (small(), quantise.quantise(small(), [noise(2, 0.5)[None]])):
        for name, text in c_code.sources(made).items():
            (tmp_path / name).write_text(text, encoding="utf-8")
        command = [shutil.which("g++") or shutil.which("c++"), "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
        done = subprocess.run([*command, "-x", "c++", str(tmp_path / "main.c")], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_the_embedded_sizes_fit_small_devices():
    model = TinyStream(TinyStreamConfig(16, 128, layers=5, size=1024))  # medium
    torch.nn.init.normal_(model.quantizer.codebooks)
    made = quantise.quantise(model, [noise(2, 0.5)[None]])
    assert c_code.memory(made) < 16_000 < c_code.memory(model) < 64_000
    assert sum(c_code.flash(made).values()) < 1_000_000
