"""The audio files of a folder without a manifest: their headers are read once and remembered in a cache file.

The cache is a manifest whose rows also hold each file's size and time of change. An entry counts while both are as they
were. The cache belongs beside the training run, so that the folder with the audio may be read-only. Where it cannot be
written, or is damaged, headers are read again.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..files import InputError, read_text, replacing
from .manifest import LIMIT, File, Scan, Unreadable, find_audio, look, look_at_all, parsed, row

_SIZE, _CHANGED = "bytes", "changed_ns"  # facts of a row of the cache


def remembered(folder: str | Path, cache: str | Path, workers: int = 8, progress: bool = True) -> Scan:
    """Every audio file below `folder`, sorted; headers come from `cache` where they stand there.

    Processes that start at the same time, as under torchrun, do not all read: one does, the others wait for the cache.
    """
    paths, cache = find_audio(folder), Path(cache)
    with _alone(cache):
        known = _load(cache)

        def checked(path: Path) -> File | Unreadable:
            try:
                status = path.stat()
            except OSError:
                return look(path)  # which says what is wrong
            facts = {_SIZE: status.st_size, _CHANGED: status.st_mtime_ns}
            entry = known.get(path.absolute())
            if entry and entry.facts == facts:
                return entry._replace(path=path)
            file = look(path)
            return file._replace(facts=facts) if isinstance(file, File) else file

        results = look_at_all(paths, checked, workers, progress)
        files = [file for file in results if isinstance(file, File)]
        fresh = {**known, **{file.path.absolute(): file._replace(path=file.path.absolute()) for file in files}}
        if fresh != known:
            with suppress(InputError), replacing(cache) as temporary:
                temporary.write_text("".join(row(file, str(path)) for path, file in fresh.items()), "utf-8")
    plain = [file._replace(facts={}) for file in files]
    return Scan(plain, [file for file in results if isinstance(file, Unreadable)])


def _load(cache: Path) -> dict[Path, File]:
    try:
        lines = read_text(cache, LIMIT).split("\n")
        files = [parsed(line, cache, number) for number, line in enumerate(lines, 1) if line]
    except InputError:  # not there yet, or damaged
        return {}
    return {file.path: file for file in files}


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    """Others that come here with the same cache wait until this process is done. Without locks, nobody waits."""
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
