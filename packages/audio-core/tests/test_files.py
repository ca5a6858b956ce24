import subprocess
import sys
from pathlib import Path

import pytest
from audio_core.files import read_json, read_text, replacing, write_text
from audio_core.testing import refused


def test_a_file_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    with pytest.raises(KeyError), replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert list(path.parent.iterdir()) == []
    with replacing(path) as temporary:
        assert temporary.parent == path.parent and temporary.suffix == ".txt" and not path.exists()
        temporary.write_text("whole")
    assert path.read_text() == "whole"
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]


def test_a_folder_takes_the_place_of_a_full_one(tmp_path):
    path = tmp_path / "f"
    for text in ("old", "new"):
        with replacing(path) as temporary:
            temporary.mkdir()
            (temporary / text).write_text(text)
    assert [file.name for file in path.iterdir()] == ["new"]
    assert [file.name for file in tmp_path.iterdir()] == ["f"]


def test_a_file_never_takes_the_place_of_a_folder(tmp_path):
    """Writing a result to a path that happens to be a folder must not delete that folder."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "thesis.tex").write_text("x")
    assert refused(write_text, tmp_path / "d", "y") == f"{tmp_path / 'd'}: is a folder, and a file was to be written"
    assert (tmp_path / "d" / "thesis.tex").read_text() == "x"


KILLED = """
import os, signal, sys
from pathlib import Path
from audio_core.files import replacing
with replacing(sys.argv[1]) as temporary:
    print(temporary, flush=True)
    temporary.mkdir()
    (temporary / "half").touch()
    if sys.argv[2] == "between":  # the renames: the old folder is away, the new one is not there yet
        rename = Path.rename
        def once(path, target):
            rename(path, target)
            os.kill(os.getpid(), signal.SIGKILL)
        Path.rename = once
    else:
        sys.stdin.read() if sys.argv[2] == "waits" else os.kill(os.getpid(), signal.SIGKILL)
"""


def child(path, how: str) -> subprocess.Popen:
    """A process that writes to `path`, far enough to have begun."""
    process = subprocess.Popen([sys.executable, "-c", KILLED, path, how], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    process.temporary = Path(process.stdout.readline().decode().strip())
    return process


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_a_killed_process_left_is_cleared(tmp_path):
    living, killed = child(tmp_path / "f", "waits"), child(tmp_path / "f", "killed")
    killed.communicate()
    foreign = tmp_path / killed.temporary.name.replace("-", "0-")  # of another machine, on a shared disk
    foreign.mkdir()
    assert names(tmp_path) == sorted([killed.temporary.name, living.temporary.name, foreign.name])
    write_text(tmp_path / "other.txt", "of the same folder")
    assert names(tmp_path) == sorted([living.temporary.name, foreign.name, "other.txt"])
    living.communicate(timeout=30)
    assert living.returncode == 0 and names(tmp_path) == sorted([foreign.name, "f", "other.txt"])


def test_a_folder_whose_replacement_was_killed_between_two_renames_comes_back(tmp_path):
    (tmp_path / "f").mkdir()
    (tmp_path / "f/old").touch()
    child(tmp_path / "f", "between").communicate()
    assert not (tmp_path / "f").exists()
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "f"):
        raise ZeroDivisionError
    assert names(tmp_path) == ["f"] and names(tmp_path / "f") == ["old"]


def test_nothing_is_overwritten_without_force(tmp_path):
    path = tmp_path / "a"
    write_text(path, "1")

    def again():
        with replacing(path, force=False):
            raise AssertionError("never reached")

    assert refused(again) == f"{path}: exists already; give --force to overwrite it"


def test_places_that_cannot_be_written_are_one_line(tmp_path):
    write_text(tmp_path / "a", "1")
    assert refused(write_text, tmp_path / "a" / "b", "2").startswith(f"{tmp_path / 'a' / 'b'}: cannot be written: ")
    assert "cannot be written: File name too long" in refused(write_text, tmp_path / ("x" * 300), "2")
    long = tmp_path / ("ж" * 120 + ".wav")  # 244 of 255 bytes, as titles in other scripts may have
    write_text(long, "3")
    assert long.read_text() == "3"
    for name in (".", "/", ".."):
        assert refused(write_text, name, "2") == f"{name}: is no name that can be written to"


def test_text_is_utf8_of_a_sane_size(tmp_path):
    path = tmp_path / "a"
    path.write_bytes("\ufeffGröße".encode())
    assert read_text(path) == "Größe"
    assert refused(read_text, path, 5) == f"{path}: larger than 5 bytes, which no such file should be"
    path.write_bytes(b"\xff")
    assert refused(read_text, path) == f"{path}: is not a text file"
    assert refused(read_text, tmp_path / "b") == f"{tmp_path / 'b'}: No such file or directory"
    assert "null byte" in refused(read_text, "a\0b")


def test_json_that_is_broken_or_endless_is_one_line(tmp_path):
    path = tmp_path / "a.json"
    for text in ("{", "[" * 100_000, "1" * 5000, ""):
        write_text(path, text)
        assert refused(read_json, path).startswith(f"{path}: not valid JSON: ")
    write_text(path, '{"a": [1, null]}')
    assert read_json(path) == {"a": [1, None]}
