"""What the tests of all packages share: the seed, one thread each, stored cases, when to run in parallel,
torchaudio and checkpoints."""

import importlib
import os
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Before torch counts the cores: the tests' workers share them, and so do the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from audio_core.testing import Case


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """No workers where single files are named: most files run faster than a worker starts."""
    return 0 if all(".py" in argument for argument in config.args) else None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked `gpu` need a CUDA device."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("no CUDA device")


@pytest.fixture(autouse=True)
def _same_start() -> None:
    """Every test starts from the same seed, on one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def stored_case(request: pytest.FixtureRequest) -> Callable[[str], Case]:
    """A stored case by its name in the folder `fixtures` beside the test."""
    return lambda name: Case.load(request.path.parent / "fixtures" / name)


@pytest.fixture(scope="session")
def torchaudio() -> types.ModuleType:
    """An oracle for filters and resampling; what is written in Python works with any torch.

    Its compiled part loads only beside the CUDA build it was made for, so it is replaced by a stub where it does not.
    """
    try:
        return importlib.import_module("torchaudio")
    except ModuleNotFoundError:
        raise
    except (ImportError, OSError, RuntimeError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
            del sys.modules[name]
        extension = types.ModuleType("torchaudio._extension")
        extension._IS_TORCHAUDIO_EXT_AVAILABLE = extension._IS_ALIGN_AVAILABLE = False
        extension.fail_if_no_align = lambda function: function
        sys.modules[extension.__name__] = extension
        return importlib.import_module("torchaudio")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Callable[[str, Any], Path]:
    """The path of a PyTorch file with this name and these data."""

    def checkpoint(name: str, data: Any) -> Path:
        torch.save(data, tmp_path / name)
        return tmp_path / name

    return checkpoint
