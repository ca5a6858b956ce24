"""Many files, one after another: find them, name their results, skip what is done, go on after errors, sum up.

Under torchrun every process takes its share of the files. Nothing heavy is imported here.
"""

import glob
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from . import command
from .files import InputError, reason

T = TypeVar("T")


class Found(NamedTuple):
    """A file, and its path below the folder or the pattern's fixed part that it was found by."""

    file: Path
    relative: Path


class Job(NamedTuple):
    """A file and where its result goes: to one path, or to several by name, such as the stems of a song."""

    source: Path
    target: Path | Mapping[Any, Path]

    @property
    def paths(self) -> list[Path]:
        return [self.target] if isinstance(self.target, Path) else list(self.target.values())

    def missing(self, force: bool) -> Path | Mapping[Any, Path] | None:
        """What is still to be written: the path, or those of the names whose files are missing; None if nothing."""
        if isinstance(self.target, Path):
            return self.target if force or not self.target.exists() else None
        return {name: path for name, path in self.target.items() if force or not path.exists()} or None


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
        text = f"{self.done} done, {self.skipped} skipped, {len(self.failed)} failed"
        return text + ("; skipped are those whose results exist (--force does them again)" if self.skipped else "")


def find(inputs: str | Path | Iterable[str | Path], extension: str | None = None) -> list[Found]:
    """The files meant by files, folders (all audio below them) and patterns such as `*.wav` or `**/*.flac`.

    `extension` (".sstr") looks for files of that kind in place of audio.
    """
    items: dict[Path, Found] = {}  # by file: a file that two inputs mean counts once
    for name in [inputs] if isinstance(inputs, str | Path) else inputs:
        for item in _meant(str(name), extension):
            items.setdefault(item.file.absolute(), item)
    if not items:
        raise InputError("no input files were given")
    return list(items.values())


def targets(inputs: Sequence[Found], out: str | Path | None, extension: str | None = None) -> list[Job]:
    """Where each result goes: folders are kept below `out`, and a single file may be named by `out` itself.

    Without `out` each result lies beside its source.
    `extension` (".wav") is that of the results; without it each keeps its own, or gets .wav where only ffmpeg can
    read its format. `run` refuses the results that would overwrite each other or an input.
    """
    from .audio import FOREIGN, FORMATS

    def ending(file: Path) -> str:
        return extension or (".wav" if file.suffix.lower() in FOREIGN else file.suffix)

    if out is None:
        return [Job(file, file.with_suffix(ending(file))) for file, _ in inputs]
    out = Path(out)
    named = re.fullmatch(r"\.[A-Za-z]\w*", out.suffix) and not out.is_dir()
    if named and len(inputs) == 1 and out.suffix.lower() not in {*FORMATS, *FOREIGN, extension}:
        raise InputError(f"{out}: {out.suffix} is no format that can be written, and there is no such folder")
    if out.suffix.lower() in {*FORMATS, *FOREIGN, extension} and not out.is_dir():
        if len(inputs) > 1:
            raise InputError(f"{out}: is one file, but there are {len(inputs)} inputs; give a folder")
        return [Job(inputs[0].file, out)]
    return [Job(file, out / relative.with_suffix(ending(file))) for file, relative in inputs]


def clashes(jobs: Sequence[Job]) -> dict[int, str]:
    """The jobs, by number, whose results would overwrite an input or each other, and a line for each that says so."""
    sources = {job.source.resolve(): job.source for job in jobs}
    makers: dict[Path, list[int]] = {}  # by target: the jobs that would write it
    for number, job in enumerate(jobs):
        for path in job.paths:
            makers.setdefault(path.resolve(), []).append(number)
    lines: dict[int, str] = {}
    for place, numbers in makers.items():
        path = next(path for path in jobs[numbers[0]].paths if path.resolve() == place)
        names = list(dict.fromkeys(str(jobs[number].source) for number in numbers))
        if place in sources:
            line = f"{names[0]}: its result would overwrite the input {sources[place]}; give another folder for results"
        elif len(names) > 1:
            every = "both" if len(names) == 2 else "all"
            line = f"{', '.join(names[:-1])} and {names[-1]} would {every} become {path}; give them different folders"
        elif len(numbers) > 1:
            line = f"{names[0]}: several of its results would become {path}; give each a name of its own"
        else:
            continue
        lines |= dict.fromkeys(numbers, line)
    return lines


def mine(items: Sequence[T]) -> Sequence[T]:
    """This process's share of the items under torchrun, all of them elsewhere."""
    return items[command.rank() :: command.processes()]


def run(
    jobs: Sequence[Job],
    work: Callable[[Path, Any], object],
    force: bool = False,
    quiet: bool = False,
    stale: Callable[[Path], str] = lambda target: "",
) -> Summary:
    """`work(source, target)` for each job whose target is not there yet, or for each with `force`.

    A job with several targets is finished when all are there; `work` gets those that are missing, by name. `stale`
    says why a target that is there is not what was asked for (`audio.differing`), which is a failure.
    An error costs one file and one line on standard error. Under torchrun only this process's share is done.
    """
    refused = clashes(jobs)
    if refused and len(jobs) == 1:
        raise InputError(refused[0])
    share = mine(list(enumerate(jobs)))
    done = skipped = 0
    failed: list[Failure] = []
    printed: set[str] = set()
    interrupted = True
    from tqdm import tqdm  # here, so that no --help waits for it

    with tqdm(total=len(share), unit="file", disable=quiet or not sys.stderr.isatty()) as bar:
        try:
            for number, job in share:
                target = job.missing(force)
                if number in refused:
                    failure = Failure(job.source, refused[number], ours=False)
                elif not force and (line := _stale(job, stale)):
                    failure = Failure(job.source, line, ours=False)
                elif target is None:
                    failure = None
                    skipped += 1
                else:
                    failure = _attempt(work, job.source, target)
                    done += failure is None
                if failure:
                    if failure.message not in printed:  # those who clash share a line
                        bar.write(failure.message, file=sys.stderr)
                    printed.add(failure.message)
                    failed.append(failure)
                bar.update()
            interrupted = False
        finally:  # also when interrupted: what is done is done, and a temporary file is gone by now
            summary = Summary(done, skipped, failed)
            if not quiet:
                bar.write(f"{summary}, interrupted" if interrupted else str(summary), file=sys.stderr)
    return summary


def _stale(job: Job, stale: Callable[[Path], str]) -> str | None:
    """The first target that is there and not what was asked for, in a line with its remedy."""
    for path in job.paths:
        try:
            cause = stale(path) if path.exists() else ""
        except InputError as error:  # it cannot even be read
            cause = str(error).removeprefix(f"{path}: ")
        if cause:
            return f"{path}: {cause}; give --force to redo it"
    return None


def _attempt(work: Callable[[Path, Any], object], source: Path, target: Any) -> Failure | None:
    try:
        work(source, target)
    except (InputError, OSError) as error:
        text = reason(error)
        return Failure(source, text if str(source) in text else f"{source}: {text}", ours=False)
    except Exception as error:
        return Failure(source, f"{source}: unexpected {type(error).__name__}: {reason(error)}", ours=True)
    return None


def _meant(name: str, extension: str | None) -> list[Found]:
    from .data.manifest import extensions, find_audio, is_audio

    if not name:
        raise InputError("an input is empty text; . is the current folder")
    path = Path(name)
    what = "audio files" if extension is None else f"{extension} files"
    if path.is_dir():
        items = [Found(file, file.relative_to(path)) for file in find_audio(path, extension)]
        if not items:
            hint = f"; known are {extensions()}" if extension is None else ""
            raise InputError(f"{name}: holds no {what}{hint}")
        return items
    if path.exists():
        return [Found(path, Path(path.name))]
    if not glob.has_magic(name):
        raise InputError(f"{name}: no such file or folder")
    cut = next(at for at, part in enumerate(path.parts) if glob.has_magic(part))
    fixed = Path(*path.parts[:cut])
    matches = sorted(fixed.glob(str(Path(*path.parts[cut:]))))
    files = [file for match in matches for file in (find_audio(match, extension) if match.is_dir() else [match])]
    wanted = [file for file in files if is_audio(file, extension)]
    if not wanted:
        raise InputError(f"{name}: matches no {what}")
    return [Found(file, file.relative_to(fixed)) for file in wanted]
