"""The audio files of a folder without a manifest: headers are read once and kept in a cache file.

The cache is a manifest whose rows also hold each file's size and time of change. An entry is valid while both are the
same. Keep the cache beside the training run, so that the folder with the audio may be read-only. Where the cache cannot
be written, or is damaged, headers are read again.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..files import InputError, read_text, replacing
from .manifest import LIMIT, File, Scan, Unreadable, find_audio, inspect_file, inspect_files, parse_row, row

_SIZE, _CHANGED = "bytes", "changed_ns"  # facts of a row of the cache


def scan_cached(folder: str | Path, cache: str | Path, progress: bool = True) -> Scan:
    """Every audio file below `folder`, sorted. Headers come from `cache`, where it has them.

    Of several processes that start at the same time, as under torchrun, one reads and the others wait for the cache.
    """
    paths, cache = find_audio(folder), Path(cache)
    with alone(cache):
        cached = _load(cache)

        def checked(path: Path) -> File | Unreadable:
            try:
                status = path.stat()
            except OSError:
                return inspect_file(path)  # whose result holds the cause
            facts = {_SIZE: status.st_size, _CHANGED: status.st_mtime_ns}
            entry = cached.get(path.absolute())
            if entry and entry.facts == facts:
                return entry._replace(path=path)
            file = inspect_file(path)
            return file._replace(facts=facts) if isinstance(file, File) else file

        results = inspect_files(paths, checked, progress=progress)
        files = [file for file in results if isinstance(file, File)]
        fresh = {**cached, **{file.path.absolute(): file._replace(path=file.path.absolute()) for file in files}}
        if fresh != cached:
            with suppress(InputError), replacing(cache) as temporary:
                temporary.write_text("".join(row(file, str(path)) for path, file in fresh.items()), "utf-8")
    plain = [file._replace(facts={}) for file in files]
    return Scan(plain, [file for file in results if isinstance(file, Unreadable)])


def _load(cache: Path) -> dict[Path, File]:
    try:
        lines = read_text(cache, LIMIT).split("\n")
        files = [parse_row(line, cache, number) for number, line in enumerate(lines, 1) if line]
    except InputError:  # not there yet, or damaged
        return {}
    return {file.path: file for file in files}


@contextmanager
def alone(cache: Path) -> Iterator[None]:
    """Lock a file for the `with` block, where the file system has locks; other processes wait."""
    try:
        import fcntl  # not on Windows

        cache.parent.mkdir(parents=True, exist_ok=True)
        file = cache.open("ab")
    except (ImportError, OSError):
        yield
        return
    with file:  # closing it ends the lock
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
