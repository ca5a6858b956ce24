"""PESQ of training batches, computed in worker processes while the training goes on."""

from __future__ import annotations

import importlib.util
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager

import numpy as np
import torch
from audio_core import audio, metrics
from audio_core.files import InputError
from torch import Tensor

RATE = 16000  # of wide-band PESQ


class PesqPool:
    """Computes the wide-band PESQ of each item of a batch in `workers` processes.

        pending = pool.submit(estimate, clean)      # returns at once
        ...                                         # the generator's losses
        scores = pending.result()                   # (B,), NaN where PESQ finds no speech

    A result does not depend on when it is asked for, so a training that takes the scores of the same batch resumes to
    the bit. The processes start with the first batch, and end with `close` or with this process, however it ends.
    """

    def __init__(self, rate: int, workers: int = 2):
        if importlib.util.find_spec("pesq") is None:
            raise InputError('PESQ is not installed: pip install "audio-semamba[metrics]", or train without it')
        self.rate = rate
        self._pool = _pool(workers)

    def submit(self, estimate: Tensor, clean: Tensor) -> Pending:
        """Of audio (B, T) at the pool's rate."""
        if estimate.ndim != 2 or estimate.shape != clean.shape:
            raise ValueError(f"expected two (B, T), got {tuple(estimate.shape)} and {tuple(clean.shape)}")
        x, y = (audio.detach().float().cpu().numpy() for audio in (estimate, clean))
        return Pending([self._pool.submit(pesq, one, other, self.rate) for one, other in zip(x, y, strict=True)])

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


class Pending:
    """The scores of a batch that are being computed."""

    def __init__(self, futures: list[Future[float]]):
        self.futures = futures

    def result(self) -> Tensor:
        """(B,) float32, once all are there."""
        with _explained():
            return torch.tensor([future.result() for future in self.futures])


def pesq(estimate: np.ndarray, clean: np.ndarray, rate: int) -> float:
    """Wide-band PESQ of (T,), at other rates after resampling; NaN where it is not defined."""
    try:
        x, y = (torch.from_numpy(audio.resample(samples, rate, RATE)) for samples in (estimate, clean))
        return float(metrics.pesq(x, y, RATE)) if x.isfinite().all() else math.nan
    except (InputError, ValueError, RuntimeError):  # too short, or one of the library's own errors
        return math.nan


# --- worker processes ------------------------------------------------------------------------------------


@contextmanager
def workers(count: int) -> Iterator[ProcessPoolExecutor]:
    """`count` processes for the `with` block."""
    with _explained(), _pool(count) as pool:
        yield pool


def _pool(count: int) -> ProcessPoolExecutor:
    # Started anew and not forked: threads of PyTorch and Numba do not survive a fork.
    return ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _begin)


def _begin() -> None:
    torch.set_num_threads(1)
    for each in (signal.SIGTERM, signal.SIGINT):  # sent to the whole group: the main process decides
        signal.signal(each, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker that waits for work would not notice that the main process was killed."""
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(0)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool:
        hint = 'a script that trains or evaluates needs `if __name__ == "__main__":` around its calls'
        raise InputError(f"a worker process that measures ended: {hint}") from None
