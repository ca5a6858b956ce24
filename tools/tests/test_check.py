import subprocess
from pathlib import Path

import check
import check_chapters
import check_documents
import pytest

HATCH = """
[envs.default]
workspace.members = [{ path = "packages/audio-core" }, { path = "packages/sep" }]
[envs.default.scripts]
test = "pytest"
[envs.docs.scripts]
build = "zensical build"
"""
CLI = """
import argparse
def parser():
    parser = argparse.ArgumentParser("audio-core")
    verbs = parser.add_subparsers(required=True)
    info = verbs.add_parser("info")
    info.add_argument("path")
    info.add_argument("--json", action="store_true")
    return parser
def main(argv=None):
    parser().parse_args(argv)
    return 0
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small workspace in which every rule is content."""
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    write(tmp_path, "hatch.toml", HATCH)
    for folder, name, needs in (
        ("audio-core", "audio-core", '"torch>=2", "PyYAML"'),
        ("sep", "audio-sep", '"torch"'),
    ):
        module = name.replace("-", "_")
        write(
            tmp_path,
            f"packages/{folder}/pyproject.toml",
            f'[project]\nname = "{name}"\ndependencies = [{needs}]\n',
        )
        write(tmp_path, f"packages/{folder}/CHANGELOG.md", "# Changelog\n\n## 0.1.0\n\nFirst.\n")
        write(tmp_path, f"packages/{folder}/src/{module}/__about__.py", '__version__ = "0.1.0"\n')
        write(tmp_path, f"packages/{folder}/src/{module}/__init__.py", "from .__about__ import __version__\n")
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text)


def with_command(root: Path, cli: str = CLI) -> None:
    write(root, "packages/audio-core/src/audio_core/cli.py", cli)
    with (root / "packages/audio-core/pyproject.toml").open("a") as file:
        file.write('scripts = { audio-core = "audio_core.cli:main" }\n')
    write(root, "packages/audio-core/src/audio_core/__main__.py", "")


def core(root: Path, name: str, text: str) -> list[str]:
    """What the import rules say of one file of the core."""
    write(root, f"packages/audio-core/src/audio_core/{name}", text)
    return check.check_imports(root)


def test_a_right_workspace_has_no_findings(root):
    with_command(root)
    write(root, "README.md", "[licence](hatch.toml)\n\n```sh\naudio-core info a.wav\n```\n")
    assert [line for rule in check.RULES for line in rule(root)] == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("dsp/mel.py", "import torch\nfrom ..files import InputError\nfrom .stft import stft\n"),
        ("train/fit.py", "from audio_core.data import pack\nfrom .. import chunk, __version__\n"),
        ("config.py", "def load():\n    import yaml\n"),
        ("cli.py", "def run():\n    from .train import fit\n"),
        ("data/__init__.py", "from .segments import Segments\n"),
    ],
)
def test_imports_of_earlier_rooms_pass(root, name, text):
    assert core(root, name, text) == []


@pytest.mark.parametrize(
    ("name", "text", "finding"),
    [
        ("config.py", "from .dsp import mel", "audio_core.config may not import audio_core.dsp"),
        ("dsp/mel.py", "from .. import audio", "audio_core.dsp may not import audio_core.audio"),
        ("data/__init__.py", "from ..chunk import run", "audio_core.data may not import audio_core.chunk"),
        ("chunk.py", "def f():\n    from . import batch", "audio_core.chunk may not import audio_core.batch"),
        ("cli.py", "import audio_core.train.fit", "audio_core.cli may not import audio_core.train"),
        ("helpers.py", "from .files import note", "audio_core.helpers has no place"),
    ],
)
def test_an_import_of_a_later_room_is_found(root, name, text, finding):
    (line,) = core(root, name, text)
    assert line.startswith(f"packages/audio-core/src/audio_core/{name}:") and finding in line


@pytest.mark.parametrize(
    ("name", "text", "finding"),
    [
        ("nn/conv.py", "import yaml", "yaml belongs to audio_core.config"),
        ("metrics.py", "def f():\n    from pesq import pesq", "pesq is not declared"),
        ("audio.py", "from torchaudio.functional import resample", "torchaudio belongs to tests only"),
        ("nn/conv.py", "import einops", "einops is not declared"),
        ("nn/conv.py", "from audio_sep import model", "never imports a sibling (audio_sep)"),
    ],
)
def test_a_library_out_of_place_or_undeclared_is_found(root, name, text, finding):
    (line,) = core(root, name, text)
    assert finding in line


def test_a_package_may_use_the_core_but_no_sibling(root):
    source = "packages/sep/src/audio_sep"
    write(root, f"{source}/task.py", "from .recipe import Recipe\nimport audio_core.train.player\n")
    write(root, f"{source}/data.py", "import soundfile\nimport audio_acdnet\n")
    assert check.check_imports(root) == [
        f"{source}/data.py:1: soundfile belongs to audio_core.audio",
        f"{source}/data.py:2: a package never imports a sibling (audio_acdnet); they meet through entry points",
    ]


CHAPTERS = {
    "config.py": "",
    "recipe.py": "from audio_core.train import plan\nfrom .config import Config\n",
    "data/__init__.py": "from ..config import Config\n",
    "data/mix.py": "from . import stems\nfrom ..recipe import Recipe\n",
    "data/stems.py": "",
    "models/__init__.py": "from . import unet\n",
    "models/unet.py": "from ..config import Config\n",
    "task.py": "from . import recipe\nfrom .models.unet import UNet\n",
    "train.py": "from .config import Config\nfrom .data import mix\nfrom .task import Task\n",
    "separate.py": "from . import SHIPPED, __about__, models\nfrom audio_core import batch\n",
    "evaluate.py": "from .separate import separate\n",
    "cost.py": "from . import config, models\n",
    "original.py": "from .models import unet\n",
    "export.py": "from .cost import macs\n",
    "cli.py": (
        "from . import SHIPPED\nif TYPE_CHECKING:\n    from .evaluate import Result\n"
        "def run():\n    from .train import train\n    from .separate import separate\n"
    ),
    "__main__.py": "from .cli import main\n",
}


def sep(root: Path, name: str, text: str) -> list[str]:
    """What the rule of chapters says of a package of all chapters after one more line in one of them."""
    for chapter, lines in {**CHAPTERS, name: CHAPTERS.get(name, "") + text}.items():
        write(root, f"packages/sep/src/audio_sep/{chapter}", lines)
    return [line.removeprefix("packages/sep/src/audio_sep/") for line in check_chapters.check_chapters(root)]


def test_a_package_of_all_chapters_passes(root):
    assert sep(root, "config.py", "") == []


@pytest.mark.parametrize(
    ("name", "text", "finding"),
    [
        ("config.py", "from .recipe import Recipe", "config may not import recipe"),
        ("recipe.py", "from .models import UNet", "recipe may not import models"),
        ("data/mix.py", "from .. import task", "data may not import task"),
        ("models/unet.py", "from ..recipe import Recipe", "models may not import recipe"),
        ("models/unet.py", "from audio_core.data import manifest", "a model knows nothing of data"),
        ("separate.py", "from audio_core import train", "separate may not import audio_core.train: inference loads no"),
        ("separate.py", "def f():\n    import accelerate", "separate may not import accelerate: inference loads no"),
        ("separate.py", "from .data.mix import stems", "separate may not import data"),
        ("separate.py", "from .evaluate import table", "separate may not import evaluate"),
        ("evaluate.py", "from .task import Task", "evaluate may not import task"),
        ("train.py", "def f():\n    from .evaluate import evaluate", "train may not import evaluate"),
        ("original.py", "from .separate import separate", "original may not import separate"),
        ("cost.py", "import audio_sep.cli", "cost may not import cli"),
        ("cli.py", "from .config import Config", "cli imports config before a verb runs"),
        ("remix.py", "", "remix is no chapter; see CHAPTERS and THEMES in check_chapters.py"),
        ("remix/__init__.py", "", "remix is no chapter; see CHAPTERS and THEMES in check_chapters.py"),
    ],
)
def test_an_import_against_the_order_of_the_chapters_is_reported(root, name, text, finding):
    (line,) = sep(root, name, text)
    assert line.startswith(f"{name}:") and finding in line


def test_a_theme_has_its_own_arrows_and_says_why_it_exists(root, monkeypatch):
    monkeypatch.setitem(check_chapters.THEMES, "audio_sep", {"remix": ("evaluate",), "export": ("remix",)})
    assert sep(root, "remix/__init__.py", '"""Stems mixed anew, for listeners."""\nfrom .. import evaluate\n') == []
    write(root, "packages/sep/src/audio_sep/export.py", "from .remix import remix\n")
    assert check_chapters.check_chapters(root) == []
    (line,) = sep(root, "remix/__init__.py", "from ..train import train\n")[1:]
    assert line == "remix/__init__.py:1: remix may not import train"
    assert sep(root, "remix/__init__.py", "") == ["remix/__init__.py: stands beside the chapters and does not say why"]


def test_a_model_or_verb_that_loads_training_through_another_module_is_reported(root):
    source = "packages/sep/src"
    sep(root, "config.py", "")
    write(root, f"{source}/audio_sep/__init__.py", "SHIPPED = 1\n")
    write(root, f"{source}/audio_sep/models/unet.py", "from .. import config\n")
    for name in ("train/__init__.py", "train/plan.py", "batch.py"):
        write(root, f"packages/audio-core/src/audio_core/{name}", "")
    write(root, f"{source}/audio_sep/recipe.py", "")
    assert check_chapters.check_inference(root) == []

    write(root, f"{source}/accelerate.py", "")
    write(root, f"{source}/torch.py", "")
    write(root, "packages/audio-core/src/audio_core/batch.py", "import accelerate\n")
    write(root, f"{source}/audio_sep/recipe.py", "import torch\n")
    write(root, f"{source}/audio_sep/models/unet.py", "import importlib\nimportlib.import_module('audio_sep.recipe')\n")
    assert check_chapters.check_inference(root) == [
        "audio-sep: audio_sep.recipe imports torch",
        "audio-sep: audio_sep.models imports audio_sep.recipe",
        "audio-sep: audio_sep.separate imports accelerate",
    ]
    write(root, f"{source}/audio_sep/separate.py", "1 / 0\n")
    assert check_chapters.check_inference(root)[1:] == [
        "audio-sep: audio_sep.models, audio_sep.separate does not import: ZeroDivisionError: division by zero"
    ]


def test_what_load_imports_when_it_is_called_is_reported(root):
    source = "packages/sep/src/audio_sep"
    write(root, f"{source}/model.py", "def load(name):\n    from . import train\n")
    write(root, f"{source}/train.py", "")
    write(root, f"{source}/__init__.py", "from .model import load\n")
    assert check_chapters.check_inference(root) == []  # nothing to load comes with it
    write(root, f"{source}/default/config.json", "{}")
    assert check_chapters.check_inference(root) == ["audio-sep: audio_sep.model and load() imports audio_sep.train"]


def test_long_files_and_a_large_core_are_found(root):
    for room in range(17):
        text = '"""What it is\nfor."""\n\n' + "x = 1\n" * 390 + "# why\n" * 5
        write(root, f"packages/audio-core/src/audio_core/dsp/room{room}.py", text)
    write(root, "tools/demo.py", "\n" * 401)
    write(root, "packages/sep/src/audio_sep/cli.py", "\n" * 251)
    assert check.check_sizes(root) == [
        "tools/demo.py: 401 lines, over 400",
        "packages/sep/src/audio_sep/cli.py: 251 lines, over 250",
        f"packages/audio-core: 6632 lines of code, over {check.CORE_LINES}",
    ]


def test_a_version_without_its_changelog_entry_a_stray_member_and_a_missing_command_are_found(root):
    write(root, "packages/sep/CHANGELOG.md", "# Changelog\n\n## Unreleased\n\nMore.\n\n## 0.0.9\n")
    write(root, "hatch.toml", HATCH.replace('{ path = "packages/sep" }', ""))
    write(root, "packages/audio-core/src/audio_core/cli.py", CLI)
    assert check.check_packages(root) == [
        "packages/audio-core: [project.scripts] should be {'audio-core': 'audio_core.cli:main'}",
        "packages/audio-core: has no __main__.py, so `python -m audio_core` is not its command",
        "packages/sep: is not among the members of hatch.toml",
        "packages/sep: version 0.1.0, but the changelog begins at '0.0.9'",
    ]


def test_commands_in_the_documentation_must_parse(root):
    with_command(root)
    lines = [
        "audio-core info a.wav --json > out.json && audio-core inform a.wav",
        ".venv/bin/hatch run audio-core info \\",
        "  a.wav --jsn",
        "UV_TORCH_BACKEND=cpu hatch run tset  # a script",
        "hatch run docs:build; hatch run test packages/sep",
        "audio-sep separate a.wav",
        "pip install audio-sep",
    ]
    write(
        root,
        "docs/how-to.md",
        "# How\n```sh\n" + "\n".join(lines) + "\n```\n```python\naudio-core nothing\n```\n",
    )
    findings = check.check_commands(root)
    assert [line.split(": ")[0] for line in findings] == [f"docs/how-to.md:{line}" for line in (6, 8, 3, 4)]
    assert findings[0].endswith("no such script: tset")
    assert findings[1].endswith("there is no command audio-sep")
    assert "invalid choice: 'inform'" in findings[2]
    assert findings[3].endswith("unrecognized arguments: --jsn")


def test_only_marked_lines_of_a_console_block_are_commands():
    page = "```console\n$ hatch run test\n12 passed\n```\n\naudio-core is a package\n"
    assert list(check_documents.shell_commands(page)) == [(2, ["hatch", "run", "test"])]


def test_a_command_that_imports_torch_for_its_help_is_found(root):
    with_command(root, CLI + "import torch\n")
    write(root, "packages/audio-core/src/torch.py", "")
    assert check.check_commands(root) == [
        "audio-core --help: imports torch",
        "audio-core info --help: imports torch",
    ]


def test_a_command_with_a_slow_help_is_found(root, monkeypatch):
    monkeypatch.setattr(check_documents, "HELP_STARTS", 2)  # so that a short delay is enough
    with_command(root, CLI + "import time\nwhile time.process_time() < 0.3:\n    pass\n")
    findings = check.check_commands(root)
    assert len(findings) == 2 and all("starts of Python" in line for line in findings)


def test_a_command_that_does_not_load_is_found(root):
    with_command(root, "import nowhere\n")
    (line,) = check.check_commands(root)
    assert line == "audio-core: the command does not load: ModuleNotFoundError: No module named 'nowhere'"


def test_a_broken_link_is_found(root):
    links = "[here](other.md#part), [web](https://example.org/x), [gone](../gone.md)"
    write(root, "docs/page.md", f"# Page\n{links}\n```\n[not](a-link)\n```\n")
    write(root, "docs/other.md", "")
    assert check.check_links(root) == ["docs/page.md:2: the link to ../gone.md leads nowhere"]


def test_a_module_that_the_reference_lacks_is_found(root):
    write(root, "packages/audio-core/src/audio_core/dsp/stft.py", "")
    write(root, "packages/audio-core/src/audio_core/dsp/mel.py", "")
    write(root, "docs/reference/signals.md", "# Signals\n\n::: audio_core.dsp.stft\n")
    assert check.check_reference(root) == ["docs/reference: lacks audio_core.dsp.mel"]


def test_a_path_of_one_machine_is_found_but_a_word_in_a_path_is_not(root):
    private = "/".join(["", "work", "main"])
    write(root, "notes.md", f"see {private}/x\nfield/work/is fine\nfiles.python" + "hosted.org\n")
    (root / "sound.bin").write_bytes(b"\0 " + private.encode())
    assert check.check_private(root) == [
        "notes.md:1: names /" + "work/",
        "notes.md:3: names files.python" + "hosted",
    ]


def test_this_file_and_the_tools_pass_the_rules_of_the_workspace():
    lines = check.check_sizes(check.ROOT) + check.check_private(check.ROOT)
    assert [line for line in lines if line.startswith("tools/")] == []
