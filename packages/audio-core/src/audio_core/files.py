"""Files that may be wrong and files that must never be half-written."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any


class InputError(Exception):
    """What a person or a network handed us is wrong. The message is one line: the file, the cause, what to do."""


def reason(error: BaseException) -> str:
    """The cause of `error` in one line, without Python's decorations."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__


@contextmanager
def replacing(path: str | Path, force: bool = True) -> Iterator[Path]:
    """A temporary path beside `path` to write a file or a folder to; it takes the place of `path` on success only."""
    path = Path(path)
    if path.name in ("", ".."):
        raise InputError(f"{path}: is no name that can be written to")
    # The suffix stays last, since writers choose a format by it; the process number keeps two writers apart.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        if path.exists() and not force:
            raise InputError(f"{path}: exists already; give --force to overwrite it")
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(temporary)  # left by a killed process of the same number
        yield temporary
        if path.is_dir() and not temporary.is_dir():
            raise InputError(f"{path}: is a folder, and a file was to be written")
        if path.is_dir():  # a folder cannot be renamed onto a full one: move the old one away first
            old = path.with_name(f".{path.name}.{os.getpid()}.old")
            _remove(old)
            path.rename(old)
            temporary.rename(path)
            _remove(old)
        else:
            temporary.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {reason(error)}") from error
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    """Clean up as far as possible: this must not hide the error that is on its way."""
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def read_text(path: str | Path, limit: int = 1 << 24) -> str:
    """The UTF-8 text of a file of at most `limit` bytes."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise InputError(f"{path}: larger than {limit} bytes, which no such file should be")
        return data.decode("utf-8-sig")  # editors on Windows write a mark in front
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not a text file") from error
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise InputError(f"{path}: {reason(error)}") from error


def write_text(path: str | Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: str | Path) -> Any:
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON: {reason(error)}") from error


def note(text: str) -> None:
    """A remark for the person at the terminal; results go to standard output, remarks do not."""
    print(text, file=sys.stderr, flush=True)
