"""Files that may be wrong and files that must never be half-written."""

from pathlib import Path

import pytest
from audio_core.files import InputError, note, read_json, read_text, reason, replacing, write_text


def names(folder: str | Path) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def test_a_replaced_file_is_the_old_one_until_the_new_one_is_whole(tmp_path):
    target = tmp_path / "deep" / "a.txt"
    write_text(target, "old")
    with replacing(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
        assert temporary.suffix == ".txt"
    assert target.read_text() == "new"
    assert names(target.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failed_write_leaves_the_old_file_and_no_temporary_one(tmp_path, error):
    target = tmp_path / "a.txt"
    write_text(target, "old")
    with pytest.raises(error), replacing(target) as temporary:
        temporary.write_text("half")
        raise error
    assert names(tmp_path) == ["a.txt"]
    assert target.read_text() == "old"


def test_a_folder_takes_the_place_of_a_full_folder(tmp_path):
    target = tmp_path / "bundle"
    for text in ("old", "new"):
        with replacing(target) as temporary:
            temporary.mkdir()
            (temporary / text).write_text(text)
    assert names(target) == ["new"]
    assert names(tmp_path) == ["bundle"]


def test_a_failed_folder_is_removed_whole(tmp_path):
    with (
        pytest.raises(InputError, match="bundle: cannot be written: No space"),
        replacing(tmp_path / "b" / "bundle") as t,
    ):
        t.mkdir()
        (t / "part").write_text("half")
        raise OSError(28, "No space left on device")
    assert names(tmp_path / "b") == []


def test_an_existing_file_is_only_overwritten_by_force(tmp_path):
    target = tmp_path / "a.txt"
    write_text(target, "old")
    with pytest.raises(InputError, match="exists already; give --force"), replacing(target, force=False):
        pass
    assert target.read_text() == "old"


def test_reading_says_in_one_line_what_is_wrong(tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(InputError, match=r"a\.json: No such file or directory$"):
        read_json(path)
    with pytest.raises(InputError, match="Is a directory"):
        read_text(tmp_path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="is not a text file"):
        read_json(path)
    path.write_text("[" * 100_000)
    with pytest.raises(InputError, match="not valid JSON"):
        read_json(path)
    with pytest.raises(InputError, match="larger than 10 bytes"):
        read_text(path, limit=10)
    path.write_text('{"é": 1}', encoding="utf-8")
    assert read_json(path) == {"é": 1}


def test_a_reason_is_one_line_and_never_empty():
    assert reason(ValueError("two\n  lines")) == "two lines"
    assert reason(OSError(2, "No such file", "x")) == "No such file"
    assert reason(KeyError()) == "KeyError"


def test_a_note_goes_to_standard_error(capsys):
    note("careful")
    assert capsys.readouterr() == ("", "careful\n")
