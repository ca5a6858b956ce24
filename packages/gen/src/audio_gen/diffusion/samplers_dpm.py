"""DPM-Solver of orders 1 to 3 for v-models: a fixed number of evaluations, or steps that fit a tolerance.

Both work on the noise estimate eps over s = -log sigma and end at the smallest sigma, without a last step to 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .samplers_v import Denoise, time_of
from .steps import Callback, Step

_TOLERANCE = 0.01  # absolute, and relative to the larger of two solutions
_FIRST_STEP = 0.05
_ACCEPTED = 0.81  # the least factor on the step's size with which the step stands
_LEAST_STEP = 1e-5  # far below what a network that fits the tolerance at all needs
_END = 1e-5  # so near to the end, nothing is left to do


class Solver:
    """One step of the solver from x at s to `to`, all orders sharing the evaluations of the same point."""

    def __init__(self, denoise: Denoise, x: Tensor, s: float, to: float):
        self.denoise, self.x, self.s, self.to = denoise, x, s, to
        self.h = to - s
        self.denoised = denoise(x, math.exp(-s))
        self.eps = (x - self.denoised) * math.exp(s)
        self.inner: dict[float, Tensor] = {}

    def first(self) -> Tensor:
        return self._moved(1.0)

    def second(self, at: float = 1 / 2) -> Tensor:
        """With an inner point at this share of the step."""
        return self._moved(1.0) - self._sigma(1.0) / (2 * at) * math.expm1(self.h) * self._change(at)

    def third(self) -> Tensor:
        """With inner points at a third and at two thirds of the step."""
        return self._moved(1.0) - self._sigma(1.0) * 3 / 2 * (math.expm1(self.h) / self.h - 1) * self._change(2 / 3)

    def _sigma(self, share: float) -> float:
        return math.exp(-(self.s + share * self.h))

    def _moved(self, share: float) -> Tensor:
        """x after this share of the step, by the noise estimate at its start."""
        return self.x - self._sigma(share) * math.expm1(share * self.h) * self.eps

    def _change(self, share: float) -> Tensor:
        """How the noise estimate has changed at an inner point."""
        if share not in self.inner:
            x, step = self._moved(share), share * self.h
            if share == 2 / 3:
                x = x - self._sigma(share) * 2 * (math.expm1(step) / step - 1) * self._change(1 / 3)
            sigma = self._sigma(share)
            self.inner[share] = (x - self.denoise(x, sigma)) / sigma - self.eps
        return self.inner[share]


def fast(denoise: Denoise, x: Tensor, low: float, high: float, steps: int, callback: Callback) -> Tensor:
    """k-dpm-fast: `steps` evaluations in all, in equal steps of order 3 and what is left over."""
    orders = [3] * (steps // 3 - 1) + [2, 1] if steps % 3 == 0 else [3] * (steps // 3) + [steps % 3]
    start, end = -math.log(high), -math.log(low)
    for index, order in enumerate(orders):
        here, to = (start + (end - start) * at / len(orders) for at in (index, index + 1))
        solver = Solver(denoise, x, here, to)
        callback(_step(index, len(orders), solver))
        x = (solver.first, solver.second, solver.third)[order - 1]()
    return x


def adaptive(denoise: Denoise, x: Tensor, low: float, high: float, callback: Callback) -> Tensor:
    """k-dpm-adaptive: orders 2 and 3 are compared, and a step that errs too much is taken again, shorter.

    The error is that of the whole batch, so an item's result depends a little on the items beside it.
    """
    s, end, h = -math.log(high), -math.log(low), _FIRST_STEP
    before, index = x, 0
    while s < end - _END:
        solver = Solver(denoise, x, s, min(end, s + h))
        lower, higher = solver.second(1 / 3), solver.third()
        scale = torch.maximum(lower.abs(), before.abs()).mul(_TOLERANCE).clamp(min=_TOLERANCE)
        error = float(((lower - higher) / scale).square().mean().sqrt())
        if not math.isfinite(error):
            raise FloatingPointError(f"the network's output is not finite at sigma {math.exp(-s):.4g}")
        factor = 1 + math.atan((error + 1e-8) ** (-1 / 3) - 1)
        if factor >= _ACCEPTED:
            callback(_step(index, None, solver))
            s, x, before, index = solver.to, higher, lower, index + 1
        h *= factor
        if h < _LEAST_STEP:
            raise FloatingPointError(
                f"k-dpm-adaptive: the network's output changes too abruptly at sigma {math.exp(-s):.4g} for any step; "
                "take another sampler"
            )
    return x


def _step(index: int, steps: int | None, solver: Solver) -> Step:
    sigma = math.exp(-solver.s)
    return Step(index, steps, solver.x, time_of(sigma), sigma, solver.denoised)
