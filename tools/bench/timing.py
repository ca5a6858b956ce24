"""Processor time of functions in this process, and how far two results are apart."""

import resource
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Taken(NamedTuple):
    seconds: float
    """Of processor time."""
    system: float
    """Those of them in the kernel, which fetches memory."""

    def per_second(self, seconds: float) -> "Taken":
        return Taken(self.seconds / seconds, self.system / seconds)


def taken(function: Callable[[], object]) -> Taken:
    began = resource.getrusage(resource.RUSAGE_SELF)
    function()
    ended = resource.getrusage(resource.RUSAGE_SELF)
    system = ended.ru_stime - began.ru_stime
    return Taken(ended.ru_utime - began.ru_utime + system, system)


def best(functions: list[Callable[[], object]], rounds: int) -> list[Taken]:
    """The least of each, taken in turn."""
    return [min(column) for column in zip(*([taken(each) for each in functions] for _ in range(rounds)), strict=True)]


def snr_db(actual: np.ndarray, expected: np.ndarray) -> float:
    difference = (actual - expected).astype(np.float64)
    return float(10 * np.log10((expected.astype(np.float64) ** 2).sum() / (difference**2).sum()))


def shown(time: Taken) -> str:
    return f"{time.seconds:6.2f} CPU s ({time.system:.2f} in the kernel)"
