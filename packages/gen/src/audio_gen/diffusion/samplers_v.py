"""Samplers of v-models by noise level: x = signal + sigma * noise, where sigma falls to 0.

The names are k-diffusion's. Each sampler is a function that goes from the newest of the past points to the next sigma.
All are worked out in double precision on plain numbers; h is the difference of log sigma.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor

from .noise import Fresh
from .steps import Callback, Model, Step, batch_times

Denoise = Callable[[Tensor, float], Tensor]
"""x (B, C, T) and its sigma -> the estimate of the signal."""
_ORDER = 4  # the most points that a sampler looks back on


class Scalings(NamedTuple):
    """How a v-model is a denoiser: skip * x + out * model(inner * x, t)."""

    skip: float
    out: float
    inner: float
    t: float


def scalings(sigma: float) -> Scalings:
    inner = 1 / math.sqrt(sigma**2 + 1)  # the model knows inputs of variance 1
    return Scalings(inner**2, -sigma * inner, inner, time_of(sigma))


def time_of(sigma: float) -> float:
    """The time at which a v-model has the noise level sigma."""
    return 2 / math.pi * math.atan(sigma)


def denoiser(model: Model) -> Denoise:
    def denoise(x: Tensor, sigma: float) -> Tensor:
        skip, out, inner, t = scalings(sigma)
        return skip * x + out * model(inner * x, batch_times(x, t))

    return denoise


class Point(NamedTuple):
    """A point of the way: x (B, C, T) at sigma, and the estimate of the signal there."""

    sigma: float
    x: Tensor
    denoised: Tensor

    @property
    def slope(self) -> Tensor:
        """dx / dsigma."""
        return (self.x - self.denoised) / self.sigma


Past = Sequence[Point]
Move = Callable[[Past, float, Denoise, Fresh], Tensor]


def walk(name: str, denoise: Denoise, x: Tensor, sigmas: Sequence[float], fresh: Fresh, callback: Callback) -> Tensor:
    """The sampler of this name over all sigmas, of which the last is 0."""
    past: deque[Point] = deque(maxlen=_ORDER)
    for index, (sigma, to) in enumerate(pairwise(sigmas)):
        past.append(Point(sigma, x, denoise(x, sigma)))
        callback(Step(index, len(sigmas) - 1, x, time_of(sigma), sigma, past[-1].denoised))
        x = MOVES[name](past, to, denoise, fresh)
    return x


# --- without fresh noise ---------------------------------------------------------------------------------------------


def heun(past: Past, to: float, denoise: Denoise, fresh: Fresh) -> Tensor:
    """Euler's step, then the mean of the slopes at both of its ends."""
    here = past[-1]
    moved = _euler(here, to)
    if not to:
        return moved
    slope = (here.slope + (moved - denoise(moved, to)) / to) / 2
    return here.x + (to - here.sigma) * slope


def dpm_2(past: Past, to: float, denoise: Denoise, fresh: Fresh) -> Tensor:
    """By the slope in the middle of log sigma."""
    here = past[-1]
    if not to:
        return _euler(here, to)
    middle = math.sqrt(here.sigma * to)
    between = _euler(here, middle)
    return here.x + (to - here.sigma) * (between - denoise(between, middle)) / middle


def lms(past: Past, to: float, denoise: Denoise, fresh: Fresh) -> Tensor:
    """Adams-Bashforth: the integral of the polynomial through the slopes of up to four points."""
    weights = multistep_weights([point.sigma for point in past], to)
    moved = past[-1].x
    for point, weight in zip(past, weights, strict=True):
        moved = moved + weight * point.slope
    return moved


def multistep_weights(sigmas: Sequence[float], to: float) -> list[float]:
    """Integrals of the Lagrange polynomials over `sigmas`, from the last of these to `to`.

    Two points of Gauss's rule are exact, as there are four sigmas at most.
    """
    middle, half = (sigmas[-1] + to) / 2, (to - sigmas[-1]) / 2
    weights = []
    for one in sigmas:
        others = [other for other in sigmas if other != one]
        nodes = [middle - half / math.sqrt(3), middle + half / math.sqrt(3)]
        values = [math.prod((node - other) / (one - other) for other in others) for node in nodes]
        weights.append(half * sum(values))
    return weights


def dpmpp_2m(past: Past, to: float, denoise: Denoise, fresh: Fresh) -> Tensor:
    """DPM-Solver++(2M): extrapolates the estimates of two points."""
    here = past[-1]
    if not to:
        return here.denoised
    h = _h(here.sigma, to)
    return to / here.sigma * here.x - math.expm1(-h) * _extrapolated(past, h)


# --- with fresh noise in each step -----------------------------------------------------------------------------------


def dpmpp_2m_sde(past: Past, to: float, denoise: Denoise, fresh: Fresh) -> Tensor:
    """DPM-Solver++(2M) of the stochastic equation, by the midpoint rule."""
    here = past[-1]
    if not to:
        return here.denoised
    h = _h(here.sigma, to)
    moved = to / here.sigma * math.exp(-h) * here.x - math.expm1(-2 * h) * _extrapolated(past, h)
    return moved + to * math.sqrt(-math.expm1(-2 * h)) * fresh(moved)


def dpmpp_3m_sde(past: Past, to: float, denoise: Denoise, fresh: Fresh) -> Tensor:
    """DPM-Solver++(3M) of the stochastic equation: first and second differences of three points."""
    here = past[-1]
    if not to:
        return here.denoised
    h = _h(here.sigma, to)
    moved = math.exp(-2 * h) * here.x - math.expm1(-2 * h) * here.denoised
    second = 1 + math.expm1(-2 * h) / (2 * h)
    third = second / (2 * h) - 1 / 2
    if len(past) > 2:
        before, ago = (_h(past[-1 - at].sigma, past[-at].sigma) / h for at in (1, 2))
        newer = (here.denoised - past[-2].denoised) / before
        older = (past[-2].denoised - past[-3].denoised) / ago
        change = (newer - older) / (before + ago)
        moved = moved + second * (newer + before * change) - third * change
    elif len(past) > 1:
        moved = moved + 2 * second * (_extrapolated(past, h) - here.denoised)
    return moved + to * math.sqrt(-math.expm1(-2 * h)) * fresh(moved)


def dpmpp_2s_ancestral(past: Past, to: float, denoise: Denoise, fresh: Fresh) -> Tensor:
    """DPM-Solver++(2S) to a level below `to`, and noise back up to it."""
    here = past[-1]
    up = to * math.sqrt(1 - (to / here.sigma) ** 2)
    down = math.sqrt(to**2 - up**2)
    if not down:
        return _euler(here, down)
    h = _h(here.sigma, down)
    middle = here.sigma * math.exp(-h / 2)
    between = middle / here.sigma * here.x - math.expm1(-h / 2) * here.denoised
    moved = down / here.sigma * here.x - math.expm1(-h) * denoise(between, middle)
    return moved + up * fresh(moved)


MOVES: dict[str, Move] = {
    "k-heun": heun,
    "k-dpm-2": dpm_2,
    "k-lms": lms,
    "dpmpp-2m": dpmpp_2m,
    "dpmpp-2m-sde": dpmpp_2m_sde,
    "dpmpp-3m-sde": dpmpp_3m_sde,
    "k-dpmpp-2s-ancestral": dpmpp_2s_ancestral,
}


def _h(sigma: float, to: float) -> float:
    return math.log(sigma / to)


def _euler(here: Point, to: float) -> Tensor:
    return here.x + (to - here.sigma) * here.slope


def _extrapolated(past: Past, h: float) -> Tensor:
    """The estimate in the middle of a step of size h, by the last two estimates; the only one where there is one."""
    here = past[-1]
    if len(past) == 1:
        return here.denoised
    return here.denoised + (here.denoised - past[-2].denoised) * (h / _h(past[-2].sigma, here.sigma) / 2)
