"""A lock on a run's folder, so that one training at a time writes to it. It ends with its process, however it ends."""

import os
import socket
from pathlib import Path

from ..files import InputError, reason

try:
    import fcntl
except ImportError:  # Windows: nothing is locked
    fcntl = None  # type: ignore[assignment]

# One open descriptor for each folder: closing a second one of the file would release the lock of the first.
_held: dict[Path, int] = {}


def lock(folder: Path) -> bool:
    """Lock `folder` for this process until `unlock` or its end. Where another process holds it, an error names that.

    Returns whether the lock is new. A lock by fcntl is not inherited, so the loader workers of a killed training do
    not keep it.
    """
    key, path = folder.resolve(), folder / ".lock"
    if fcntl is None or key in _held:
        return False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {reason(error)}") from error
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        holder = " ".join(os.read(file, 200).decode(errors="replace").split()) or "another process"
        os.close(file)
        raise InputError(f"{folder}: {holder} is training here; wait for its end or choose another folder") from None
    except OSError:  # a file system without locks
        os.close(file)
        return False
    try:
        os.truncate(file, 0)
        os.write(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    except OSError as error:
        os.close(file)
        raise InputError(f"{path}: cannot be written: {reason(error)}") from error
    _held[key] = file
    return True


def unlock(folder: Path) -> None:
    if (file := _held.pop(folder.resolve(), None)) is not None:
        os.close(file)
