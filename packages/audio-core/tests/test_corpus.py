"""The files of a training: of folders and manifests, those that cannot be read named, some held out."""

from pathlib import Path

import pytest
from audio_core import audio
from audio_core.data.corpus import divided, listed, name_left_out
from audio_core.data.manifest import File, Unreadable, scan
from audio_core.files import InputError

from .data_files import RATE, ramp


@pytest.fixture
def folder(tmp_path) -> Path:
    for name in ("b.wav", "a/c.flac"):
        audio.write(tmp_path / "in" / name, ramp(100), RATE)
    (tmp_path / "in/broken.wav").write_bytes(b"nothing")
    return tmp_path / "in"


def test_files_are_those_of_a_folder_or_a_manifest_and_what_cannot_be_read_is_named(folder, tmp_path, capsys):
    files = listed(folder, tmp_path / "headers.jsonl")
    assert [file.path.name for file in files] == ["c.flac", "b.wav"]
    (line,) = capsys.readouterr().err.splitlines()
    assert f"left out: {folder / 'broken.wav'}: not audio" in line
    assert listed(folder, tmp_path / "headers.jsonl", quiet=True) == files and not capsys.readouterr().err
    scan(folder, tmp_path / "all.jsonl", progress=False)
    assert [file.path.name for file in listed(tmp_path / "all.jsonl", tmp_path / "none")] == ["c.flac", "b.wav"]
    assert not (tmp_path / "none").exists()


def test_what_holds_no_audio_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"none: no such folder; give a folder with audio, or a \.jsonl that `scan`"):
        listed(tmp_path / "none", tmp_path / "headers.jsonl")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/broken.wav").write_bytes(b"nothing")
    with pytest.raises(InputError, match="in: holds no audio that can be read"):
        listed(tmp_path / "in", tmp_path / "headers.jsonl", quiet=True)


def test_files_of_other_causes_are_named_alike(capsys):
    name_left_out([Unreadable("a.wav", "is too short")])
    name_left_out([Unreadable("b.wav", "is too short")], quiet=True)
    assert capsys.readouterr().err == "left out: a.wav: is too short\n"


def files(count: int) -> list[File]:
    return [File(Path(f"{at:02}.wav"), RATE, 1, 100) for at in reversed(range(count))]


def test_every_nth_file_by_path_is_held_out_from_the_first_on():
    learned, held = divided(files(7), 3)
    assert [[file.path.stem for file in each] for each in (learned, held)] == [
        ["01", "02", "04", "05"],
        ["00", "03", "06"],
    ]
    assert divided(files(7), 0) == (files(7)[::-1], [])
    assert [len(each) for each in divided(files(2), 100)] == [1, 1]
    with pytest.raises(InputError, match=r"00\.wav: is the only file, and is held out; data\.held_out=0 trains on it"):
        divided(files(1), 3)
