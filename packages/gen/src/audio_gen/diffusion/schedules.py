"""The times or noise levels that sampling passes, from the first to 0, as plain numbers.

Samplers compute their coefficients from them in double precision, whatever the device and the dtype of the latents.
"""

from __future__ import annotations

import math

import torch

from ..config.sampling import FlowSampling
from ..config.timesteps import DistributionShiftConfig
from .timesteps import shift

_LAST_LOGSNR = 2.0
_FIRST_LOGSNR = -6.0
"""In place of -infinity, which is that of noise alone."""


def flow_times(settings: FlowSampling, length: int, moved: DistributionShiftConfig | None = None) -> list[float]:
    """The steps + 1 times of a rectified flow for latents of `length` frames; `moved` is the model's own shift."""
    first, name = min(1.0, settings.sigma_max), settings.schedule
    if name == "auto":
        name = ("shifted" if moved else "linear") if settings.sampler == "rk4" else "logsnr"
    if name == "logsnr":
        return logsnr_times(settings.steps, first)
    times = linear_times(settings.steps, first)
    if name == "linear":
        return times
    if moved is None:
        raise ValueError("schedule: shifted needs a model with a distribution shift; take linear or logsnr")
    return shift(torch.tensor(times, dtype=torch.float64), length, moved).tolist()


def logsnr_times(steps: int, first: float = 1.0) -> list[float]:
    """steps + 1 times whose log SNR, log(alpha / sigma), are evenly spaced; the outermost are `first` and 0 themselves.

    They are linear where `first` is below the time of the last log SNR, 0.12: stable-audio-tools' would rise there.
    """
    start = _FIRST_LOGSNR if first >= 1 else math.log((1 - first) / first + 1e-6)
    if start > _LAST_LOGSNR:
        return linear_times(steps, first)
    inner = (start + (_LAST_LOGSNR - start) * step / steps for step in range(1, steps))
    return [min(1.0, first), *(1 / (1 + math.exp(logsnr)) for logsnr in inner), 0.0]


def linear_times(steps: int, first: float = 1.0) -> list[float]:
    """steps + 1 evenly spaced times from `first` to 0."""
    return [first * (steps - step) / steps for step in range(steps + 1)]


def polyexponential(steps: int, low: float, high: float, rho: float = 1.0) -> list[float]:
    """`steps` sigmas from `high` to `low`, evenly spaced in log sigma where rho is 1, and a 0."""
    ramp = ((1 - step / max(1, steps - 1)) ** rho for step in range(steps))
    return [*(math.exp(at * (math.log(high) - math.log(low)) + math.log(low)) for at in ramp), 0.0]
