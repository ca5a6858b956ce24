"""Work for the processes of a batch, in a module of its own, which a process that is started imports by its name."""

import multiprocessing
import os
from pathlib import Path

import numpy as np
from audio_core import audio
from audio_core.files import InputError
from audio_sep import parallel

RATE = 8000


def never(path: Path) -> str:
    """Nothing that is there is something else than was asked for."""
    return ""


def copying() -> parallel.Work:
    return lambda source, target: target["x"].write_bytes(source.read_bytes())


def failing() -> parallel.Work:
    raise InputError("no such model")


def ending() -> parallel.Work:
    os._exit(3)


def waiting() -> parallel.Work:
    """Writes a file and waits for a signal while another is half-written."""

    def work(source: Path, target: dict[str, Path]) -> None:
        target["x"].with_suffix(".begun").touch()
        with audio.Writer(target["x"], RATE, 1) as writer:
            writer.write(np.zeros((1, 100), np.float32))
            multiprocessing.Event().wait(60)

    return work
