"""The kit that the packages build their commands with: recipes, tables of settings, devices, ends."""

import argparse
import ctypes
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import ClassVar

import pytest
from audio_core import command, verbs
from audio_core.files import InputError


@dataclass(frozen=True)
class Settings:
    rate: int = 16000
    """Samples a second."""
    name: str = "x"


try:

    @dataclass(frozen=True)
    class Guarded:
        size: int = 1
        """Of what."""

except ImportError:
    pass


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An importable package with two recipes."""
    recipes = tmp_path / "audio_toy/recipes"
    recipes.mkdir(parents=True)
    (tmp_path / "audio_toy/__init__.py").write_text("")
    (recipes / "small.yaml").write_text("# for phones\nrate: 8000\n")
    (recipes / "large.yaml").write_text("name: big\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "audio_toy"
    sys.modules.pop("audio_toy", None)


def test_recipes_are_found_by_name_in_the_wheel_or_by_path(package, tmp_path):
    assert command.recipes(package) == {"large": "", "small": "for phones"}
    assert command.load_recipe(Settings, package, "small", ["name=y"]) == Settings(8000, "y")
    (tmp_path / "own.yaml").write_text("rate: 1\n")
    assert command.load_recipe(Settings, package, str(tmp_path / "own.yaml")).rate == 1
    with pytest.raises(InputError, match="no recipe is called smal; did you mean small\\?"):
        command.load_recipe(Settings, package, "smal")


def test_the_field_table_shows_type_default_and_text():
    assert command.fields(Settings).splitlines() == [
        "settings (key=value):",
        "  rate  (int, default 16000)",
        "      Samples a second.",
        "  name  (str, default x)",
    ]


def test_the_field_table_has_texts_of_classes_in_any_block():
    assert command.fields(Guarded).splitlines()[-1] == "      Of what."


def test_the_field_table_begins_with_what_is_often_changed_and_cuts_long_defaults():
    @dataclass(frozen=True)
    class Recipe(Settings):
        labels: tuple[str, ...] = tuple(f"class {number}" for number in range(50))
        FIRST: ClassVar[tuple[str, ...]] = ("labels", "rate")

    lines = command.fields(Recipe).splitlines()
    assert lines[1].startswith("  labels") and lines[1].endswith("...)") and len(lines[1]) < 120
    assert lines[2] == "  rate  (int, default 16000)" and lines[4:7] == ["", "all others:", "  name  (str, default x)"]


def test_a_device_that_is_not_there_is_refused():
    assert command.device("auto") in ("cpu", "cuda", "mps") and command.device("cpu") == "cpu"
    import torch

    missing = [
        name
        for name, there in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available()))
        if not there
    ]
    for name in missing:
        with pytest.raises(InputError, match=f"--device {name}: not available here"):
            command.device(name)
    assert missing  # no machine has both


MAPPED = """
import ctypes, sys
from audio_core import command

class Info(ctypes.Structure):
    _fields_ = [(f"field{at}", ctypes.c_size_t) for at in range(10)]

library = ctypes.CDLL(None)
library.mallinfo2.restype = Info
library.malloc.restype = ctypes.c_void_p
if sys.argv[1] == "device":
    command.device("cpu")
else:
    command.keep_memory()
    command.keep_memory(large=sys.argv[1] == "large")
for size in (16, 80):
    before = library.mallinfo2().field4  # bytes that the kernel takes back when they are freed
    block = ctypes.c_void_p(library.malloc(size * 2**20))
    print(library.mallinfo2().field4 - before >= size * 2**20)
    library.free(block)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="only glibc tells what is mapped")
@pytest.mark.parametrize(("kept", "mapped"), [("large", ["False", "False"]), ("small", ["False", "True"])])
def test_freed_memory_stays_with_the_process(kept, mapped):
    """But for large blocks, where these shall not."""
    result = subprocess.run([sys.executable, "-c", MAPPED, kept], capture_output=True, text=True, check=True)
    assert result.stdout.split() == mapped


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="only glibc tells what is mapped")
@pytest.mark.parametrize(("fsdp", "mapped"), [("false", ["False", "False"]), ("true", ["True", "True"])])
def test_freed_memory_goes_back_where_fsdp_divides_weights(fsdp, mapped, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", fsdp)
    command_line = [sys.executable, "-c", MAPPED, "device"]
    assert subprocess.run(command_line, capture_output=True, text=True, check=True).stdout.split() == mapped


ENDS = """
import atexit, sys
from audio_core import command

parser, verbs = command.program("demo", "Demo.", "1")
command.verb(verbs, "say", lambda args: print("done") or 3, "Say it.")
atexit.register(print, "the interpreter's own end")
sys.exit(command.main(parser, *([sys.argv[1:]] if len(sys.argv) > 2 else [])))
"""


@pytest.mark.parametrize(("processes", "called", "ends"), [("1", False, True), ("2", False, False), ("2", True, True)])
def test_a_command_of_several_processes_leaves_at_once(processes, called, ends):
    """Not a function called from Python, which gives its code back."""
    words = ["say", *["-v"] * called]
    environment = {**os.environ, "WORLD_SIZE": processes}
    result = subprocess.run([sys.executable, "-c", ENDS, *words], capture_output=True, text=True, env=environment)
    assert result.returncode == 3 and result.stdout.startswith("done")
    assert ("the interpreter's own end" in result.stdout) is ends


def test_each_process_of_a_machine_gets_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert command.device("auto") == command.device("cuda") == "cuda"
    monkeypatch.setenv("WORLD_SIZE", "3")
    devices = []
    for rank in ("0", "1", "2"):
        monkeypatch.setenv("LOCAL_RANK", rank)
        devices.append(command.device("auto"))
    assert devices == ["cuda:0", "cuda:1", "cuda:0"] and command.device("cpu") == "cpu"


@pytest.mark.parametrize("quiet", [True, False])
def test_a_quiet_evaluation_writes_its_report_without_a_remark(quiet, tmp_path, capsys):
    class Result:
        def plain(self):
            return {"score": 1}

        def page(self, report, folder):
            report.text("measured")

    args = argparse.Namespace(program="demo 1", line="demo evaluate", quiet=quiet)
    verbs.write_report(Result(), tmp_path / "out", "Demo", args)
    page = tmp_path / "out/report.html"
    assert "measured" in page.read_text() and capsys.readouterr().err == ("" if quiet else f"wrote {page}\n")
    assert json.loads((tmp_path / "out/results.json").read_text()) == {"score": 1}


def test_columns_align_numbers_to_the_right():
    assert command.columns([("name", "n"), ("a", 5), ("long", 12.34567)]) == "name      n\na         5\nlong  12.35"


@pytest.mark.parametrize("place", [1, 2, 4])
def test_settings_may_stand_before_and_behind_options(place, capsys):
    parser, verbs = command.program("made-up", "For this test.", "0")
    train = command.verb(verbs, "train", lambda args: print(args.recipe, args.out, *args.settings), "Train.")
    train.add_argument("recipe")
    train.add_argument("settings", nargs="*")
    train.add_argument("-o", "--out")
    words = ["small", "-o", "folder"]
    words = [*words[:place], "a=1", "b=2", *words[place:]] if place != 2 else [words[0], "a=1", *words[1:], "b=2"]
    assert command.main(parser, ["train", *words]) == 0
    assert capsys.readouterr().out == "small folder a=1 b=2\n"
    assert command.main(parser, ["train", "small", "-o", "folder", "stray"]) == 2
    assert "stray" in capsys.readouterr().err
