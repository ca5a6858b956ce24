"""Samplers of rectified flows: from x at the first of `times` to the result at the last, which is 0."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor

from .noise import Fresh
from .steps import Callback, Model, Step, batch_times


def euler(model: Model, x: Tensor, times: Sequence[float], fresh: Fresh, callback: Callback) -> Tensor:
    for index, (t, to) in enumerate(pairwise(times)):
        velocity = model(x, batch_times(x, t))
        callback(_step(index, times, x, velocity))
        x = x + (to - t) * velocity
    return x


def rk4(model: Model, x: Tensor, times: Sequence[float], fresh: Fresh, callback: Callback) -> Tensor:
    """The classic Runge-Kutta method of four evaluations a step."""
    for index, (t, to) in enumerate(pairwise(times)):
        h, middle = to - t, (t + to) / 2
        first = model(x, batch_times(x, t))
        callback(_step(index, times, x, first))
        second = model(x + h / 2 * first, batch_times(x, middle))
        third = model(x + h / 2 * second, batch_times(x, middle))
        fourth = model(x + h * third, batch_times(x, to))
        x = x + h / 6 * (first + 2 * second + 2 * third + fourth)
    return x


def dpmpp(model: Model, x: Tensor, times: Sequence[float], fresh: Fresh, callback: Callback) -> Tensor:
    """DPM-Solver++(2M) in log SNR: extrapolates the denoised estimate from this step's and the last one's."""
    last, last_h = x, 0.0
    for index, (t, to) in enumerate(pairwise(times)):
        step = _step(index, times, x, model(x, batch_times(x, t)))
        callback(step)
        h, estimate = _logsnr(to) - _logsnr(t), step.denoised
        if 0 < index < len(times) - 2:
            estimate = estimate + (estimate - last) * (h / last_h / 2)
        x = (to / t) * x - (1 - to) * math.expm1(-h) * estimate
        last, last_h = step.denoised, h
    return x


def pingpong(model: Model, x: Tensor, times: Sequence[float], fresh: Fresh, callback: Callback) -> Tensor:
    """Denoises at once, then adds fresh noise for the next time: for models that were trained for few steps."""
    for index, (t, to) in enumerate(pairwise(times)):
        step = _step(index, times, x, model(x, batch_times(x, t)))
        callback(step)
        x = (1 - to) * step.denoised + to * fresh(x) if to else step.denoised
    return x


SAMPLERS: dict[str, Callable[[Model, Tensor, Sequence[float], Fresh, Callback], Tensor]] = {
    "euler": euler,
    "rk4": rk4,
    "dpmpp": dpmpp,
    "pingpong": pingpong,
}


def _step(index: int, times: Sequence[float], x: Tensor, velocity: Tensor) -> Step:
    t = times[index]
    return Step(index, len(times) - 1, x, t, t, x - t * velocity)


def _logsnr(t: float) -> float:
    """log(alpha / sigma), infinite at both ends."""
    return math.inf if t <= 0 else -math.inf if t >= 1 else math.log((1 - t) / t)
