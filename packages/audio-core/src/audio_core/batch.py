"""Many files, one after another: find them, name their results, skip what is done, go on after errors, sum up.

Under torchrun every process takes its share of the files. Nothing heavy is imported here.
"""

import glob
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from .files import InputError, reason


class Found(NamedTuple):
    """A file, and its path below the folder or the pattern's fixed part that it was found by."""

    file: Path
    relative: Path


class Job(NamedTuple):
    source: Path
    target: Path


class Failure(NamedTuple):
    source: Path
    message: str
    ours: bool  # an exception that nobody foresaw: a defect and not a wrong file


class Summary(NamedTuple):
    done: int
    skipped: int
    failed: list[Failure]

    @property
    def code(self) -> int:
        """The exit code: 0 all is well, 2 a file was wrong, 1 we were."""
        return 1 if any(failure.ours for failure in self.failed) else 2 if self.failed else 0

    def __str__(self) -> str:
        return f"{self.done} done, {self.skipped} skipped, {len(self.failed)} failed"


def find(inputs: str | Path | Iterable[str | Path], extension: str | None = None) -> list[Found]:
    """The files meant by files, folders (all audio below them) and patterns such as `*.wav` or `**/*.flac`.

    `extension` (".sstr") looks for files of that kind in place of audio.
    """
    found: dict[Path, Found] = {}  # by file: a file that two inputs mean counts once
    for given in [inputs] if isinstance(inputs, str | Path) else inputs:
        for item in _meant(str(given), extension):
            found.setdefault(item.file.absolute(), item)
    if not found:
        raise InputError("no input files were given")
    return list(found.values())


def targets(found: Sequence[Found], out: str | Path, extension: str | None = None) -> list[Job]:
    """Where each result goes: folders are kept below `out`, and a single file may be named by `out` itself.

    `extension` (".wav") is that of the results; without it each keeps its own, or gets .wav where only ffmpeg can
    read its format. Results that would overwrite each other or their source are an error.
    """
    from .audio import FOREIGN, FORMATS

    out = Path(out)
    named = re.fullmatch(r"\.[A-Za-z]\w*", out.suffix) and not out.is_dir()
    if named and len(found) == 1 and out.suffix.lower() not in {*FORMATS, *FOREIGN, extension}:
        raise InputError(f"{out}: {out.suffix} is no format that can be written, and there is no such folder")
    if out.suffix.lower() in {*FORMATS, *FOREIGN, extension} and not out.is_dir():
        if len(found) > 1:
            raise InputError(f"{out}: is one file, but there are {len(found)} inputs; give a folder")
        jobs = [Job(found[0].file, out)]
    else:
        jobs = []
        for file, relative in found:
            own = ".wav" if file.suffix.lower() in FOREIGN else file.suffix
            jobs.append(Job(file, out / relative.with_suffix(extension or own)))
    sources = {job.source.resolve(): job.source for job in jobs}
    makers: dict[Path, Path] = {}
    for source, target in jobs:
        place = target.resolve()
        if place in sources:
            raise InputError(f"{target}: the result of {source} would overwrite the input {sources[place]}")
        if place in makers:
            raise InputError(f"{target}: would be the result of both {makers[place]} and {source}")
        makers[place] = source
    return jobs


def run(
    jobs: Sequence[Job],
    work: Callable[[Path, Path], object],
    force: bool = False,
    quiet: bool = False,
) -> Summary:
    """`work(source, target)` for each job whose target is not there yet, or for each with `force`.

    An error costs one file and one line on standard error. Under torchrun only this process's share is done.
    """
    rank, processes = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    mine = jobs[rank::processes]
    done = skipped = 0
    failed: list[Failure] = []
    interrupted = True
    with tqdm(total=len(mine), unit="file", disable=quiet or not sys.stderr.isatty()) as bar:
        try:
            for source, target in mine:
                if target.exists() and not force:
                    skipped += 1
                else:
                    failure = _attempt(work, source, target)
                    done += failure is None
                    if failure:
                        failed.append(failure)
                        bar.write(failure.message, file=sys.stderr)
                bar.update()
            interrupted = False
        finally:  # also when interrupted: what is done is done, and a temporary file is gone by now
            summary = Summary(done, skipped, failed)
            if not quiet:
                bar.write(f"{summary}, interrupted" if interrupted else str(summary), file=sys.stderr)
    return summary


def _attempt(work: Callable[[Path, Path], object], source: Path, target: Path) -> Failure | None:
    try:
        work(source, target)
    except (InputError, OSError) as error:
        text = reason(error)
        return Failure(source, text if str(source) in text else f"{source}: {text}", ours=False)
    except Exception as error:
        return Failure(source, f"{source}: unexpected {type(error).__name__}: {reason(error)}", ours=True)
    return None


def _meant(given: str, extension: str | None) -> list[Found]:
    from .data.manifest import extensions, find_audio, is_audio

    if not given:
        raise InputError("an input is empty text; . is the current folder")
    path = Path(given)
    what = "audio files" if extension is None else f"{extension} files"
    if path.is_dir():
        found = [Found(file, file.relative_to(path)) for file in find_audio(path, extension)]
        if not found:
            hint = f"; known are {extensions()}" if extension is None else ""
            raise InputError(f"{given}: holds no {what}{hint}")
        return found
    if path.exists():
        return [Found(path, Path(path.name))]
    if not glob.has_magic(given):
        raise InputError(f"{given}: no such file or folder")
    cut = next(at for at, part in enumerate(path.parts) if glob.has_magic(part))
    fixed = Path(*path.parts[:cut])
    matches = sorted(fixed.glob(str(Path(*path.parts[cut:]))))
    files = [file for match in matches for file in (find_audio(match, extension) if match.is_dir() else [match])]
    wanted = [file for file in files if is_audio(file, extension)]
    if not wanted:
        raise InputError(f"{given}: matches no {what}")
    return [Found(file, file.relative_to(fixed)) for file in wanted]
