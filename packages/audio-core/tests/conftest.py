from pathlib import Path

import pytest
from audio_core import audio
from audio_core.data.manifest import File, scan

from .data_files import RATE, ramp


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
