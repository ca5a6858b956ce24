import importlib
import sys
import types
from pathlib import Path

import pytest
from audio_core import audio
from audio_core.data.manifest import File, scan

from .data_files import RATE, ramp


@pytest.fixture(scope="session")
def torchaudio():
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
def folder(tmp_path) -> Path:
    """Five files of 1000 to 5000 samples in a tree, as they come: one is wrong, one hidden, one no audio."""
    root = tmp_path / "music"
    for number, name in enumerate(["b/two.flac", "a.wav", "c/deep/three.wav", "ä ö.wav", "z.wav"]):
        audio.write(root / name, ramp(1000 * (number + 1), base=5000 * number), RATE)
    (root / "b" / "broken.wav").write_text("no audio")
    (root / "notes.txt").write_text("no audio at all")
    (root / "._a.wav").write_text("a Mac was here")
    return root


@pytest.fixture
def items(folder) -> list[File]:
    return scan(folder, folder.parent / "all.jsonl", progress=False).items
