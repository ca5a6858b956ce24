"""What the pages show runs: every Python block, top to bottom, on sounds of a scratch folder."""

import re
from pathlib import Path

import pytest
from audio_core import audio
from audio_core.data.manifest import scan
from audio_core.testing import noise

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("docs/**/*.md")), *sorted(ROOT.glob("packages/*/README.md")), ROOT / "README.md"]
BLOCKS = {page.relative_to(ROOT): re.findall(r"```python\n(.*?)```", page.read_text(), re.S) for page in PAGES}


@pytest.mark.parametrize("page", [str(page) for page, blocks in BLOCKS.items() if blocks])
def test_the_examples_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("song.flac", "hour.flac", "speech.flac"):
        audio.write(name, noise(1, 3.0, 44_100, 2).numpy(), 44_100)
    for number in range(3):
        audio.write(f"speech/{number}.wav", noise(number, 1.5, 16_000).numpy(), 16_000)
    scan("speech", "speech.jsonl", progress=False)
    names: dict = {}
    for block in BLOCKS[Path(page)]:
        short = block.replace("steps=2000", "steps=6").replace("save_every=500", "save_every=3")
        try:
            exec(compile(short, page, "exec"), names)
        except SystemExit as leaving:  # as a program of one's own ends
            assert not leaving.code
