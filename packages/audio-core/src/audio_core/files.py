"""Files that may be wrong and files that must never be half-written."""

import json
import os
import re
import shutil
import sys
import zlib
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
    # The suffix stays last, since writers choose a format by it; machine and process keep two writers apart.
    stem = path.stem if len(os.fsencode(path.stem)) < 200 else f"{zlib.crc32(os.fsencode(path.stem)):08x}"  # of 255
    temporary = path.with_name(f".{stem}.{_machine()}-{os.getpid()}.part{path.suffix}")
    try:
        if path.exists() and not force:
            raise InputError(f"{path}: exists already; give --force to overwrite it")
        path.parent.mkdir(parents=True, exist_ok=True)
        _clear(path.parent)
        _remove(temporary)  # of an earlier process that had this one's number
        yield temporary
        if path.is_dir() and not temporary.is_dir():
            raise InputError(f"{path}: is a folder, and a file was to be written")
        if path.is_dir():  # a folder cannot be renamed onto a full one: move the old one away first
            old = path.with_name(f".{path.name}.{_machine()}-{os.getpid()}.old")
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


_cleared: set[Path] = set()  # folders; looking through a large one for each of its files would take too long


def _clear(folder: Path) -> None:
    """Remove what killed processes of this machine left in a folder, the first time this process writes there."""
    folder = folder.absolute()
    if folder in _cleared:
        return
    _cleared.add(folder)
    leftover = re.compile(rf"\.(?P<name>.+)\.{_machine()}-(?P<process>\d+)\.(?:part(?:\.[^.]*)?|(?P<old>old))")
    with suppress(OSError):  # a folder that cannot be listed, or another process that clears it too
        for path in folder.iterdir():
            match = leftover.fullmatch(path.name)
            if not match or _runs(int(match["process"])):
                continue
            if match["old"] and not path.with_name(match["name"]).exists():  # killed between a folder's two renames
                path.rename(path.with_name(match["name"]))
            else:
                _remove(path)


def _machine() -> str:
    """A short name of where process numbers mean this machine's (or container's) processes: disks may be shared."""
    try:
        space = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 (no real path, which is what Path would return)
    except OSError:
        space = ""
    return f"{zlib.crc32(f'{_host()} {space}'.encode()):08x}"


def _host() -> str:
    return os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")


def _runs(process: int) -> bool:
    """Whether a process of this machine lives; where that cannot be asked, it may."""
    if os.name != "posix":
        return True
    try:
        os.kill(process, 0)  # sends nothing
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


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
