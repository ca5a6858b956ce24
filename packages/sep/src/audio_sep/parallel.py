"""A batch of files in several processes of one machine, each with its share of the files and of the cores.

Under torchrun `audio_core.batch` shares the files by itself; this is for one command with `--jobs 2`.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from audio_core import batch
from audio_core.batch import Failure, Job, Summary
from audio_core.files import InputError, note
from tqdm import tqdm

Work = Callable[[Path, Any], object]
Stale = Callable[[Path], str]
_CONTEXT: Any = multiprocessing.get_context("spawn")  # threads of PyTorch do not survive a fork


def run(
    jobs: Sequence[Job], begin: Callable[[], Work], processes: int, force: bool, quiet: bool, stale: Stale
) -> Summary:
    """`batch.run` in so many processes. Each calls `begin` once, which loads the models and returns the work."""
    refused = batch.clashes(jobs)
    mine = batch.mine([job for number, job in enumerate(jobs) if number not in refused])
    processes = min(processes, len(mine))
    if processes < 2:
        return batch.run(jobs, begin(), force, quiet, stale)
    for line in dict.fromkeys(refused.values()):
        note(line)
    failed = [Failure(jobs[number].source, line, ours=False) for number, line in refused.items()]
    shares = [mine[number::processes] for number in range(processes)]
    with (
        _children([(share, begin, force, stale, processes) for share in shares]) as ends,
        tqdm(total=len(mine), unit="file", disable=quiet or None) as bar,
    ):
        summary = _collected(ends, Summary(0, 0, failed), bar)
    if not quiet:
        note(str(summary))
    return summary


def _collected(ends: list[Connection], total: Summary, bar: tqdm) -> Summary:
    """The sum of what the processes report."""
    while ends:
        for end in wait(ends):
            try:
                message = end.recv()
            except EOFError:
                message = Summary(0, 0, [Failure(Path(), "a process ended before its work was done", ours=True)])
                note(message.failed[0].message)
            if isinstance(message, InputError):  # the models could not be loaded
                bar.leave = False
                raise message
            if isinstance(message, str):
                bar.write(message, file=sys.stderr)
            elif isinstance(message, Summary):
                ends.remove(end)
                total = Summary(*(so_far + added for so_far, added in zip(total, message, strict=True)))
                bar.update(message.skipped)
            else:
                bar.update()
    return total


@contextmanager
def _children(arguments: Sequence[tuple]) -> Any:
    """A process for each, and the ends of the pipes to them; they end with the `with` block, however it ends."""
    children, ends = [], []
    try:
        for share in arguments:
            receiving, sending = _CONTEXT.Pipe(duplex=False)
            children.append(_CONTEXT.Process(target=_share, args=(*share, sending)))
            children[-1].start()
            sending.close()  # so that the end of the process is the end of the pipe
            ends.append(receiving)
        yield ends
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.join()


# --- in a process ------------------------------------------------------------------------------------------


def _share(
    jobs: Sequence[Job], begin: Callable[[], Work], force: bool, stale: Stale, processes: int, parent: Connection
) -> None:
    try:
        sys.stderr = _Lines(parent)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: an exception, so that temporary files go
        threading.Thread(target=_end_with_parent, daemon=True).start()
        for name in ("RANK", "WORLD_SIZE"):  # of torchrun: these jobs are a share already
            os.environ.pop(name, None)
        import torch

        torch.set_num_threads(max(1, torch.get_num_threads() // processes))
        parent.send(batch.run(jobs, _reporting(begin(), parent), force, quiet=True, stale=stale))
    except InputError as error:
        parent.send(error)
    except KeyboardInterrupt:
        os._exit(130)


def _reporting(work: Work, parent: Connection) -> Work:
    """Sends a word to the parent after each file."""

    def run(source: Path, target: Any) -> None:
        try:
            work(source, target)
        finally:
            parent.send(None)

    return run


class _Lines(io.TextIOBase):
    """Lines for standard error, which the parent writes beside its bar."""

    def __init__(self, parent: Connection):
        self.parent = parent

    def write(self, text: str) -> int:
        if text.strip():
            self.parent.send(text.rstrip("\n"))
        return len(text)


def _end_with_parent() -> None:
    """A parent that was killed ends no children."""
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)
