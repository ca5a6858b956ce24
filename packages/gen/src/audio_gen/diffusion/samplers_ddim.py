"""Samplers of v-models by time, on inputs whose variance stays 1: DDIM, and DDIM with CFG++."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor

from .noise import Fresh
from .steps import Callback, Model, Step, batch_times

Pair = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""As Model, but the guided output, and the one without conditions beside it."""


def ddim(model: Model, x: Tensor, times: Sequence[float], eta: float, fresh: Fresh, callback: Callback) -> Tensor:
    """eta 0 adds no noise, 1 as much as ancestral sampling."""

    def both(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return (v := model(x, t)), v

    return _walk(both, x, times, eta, fresh, callback)


def ddim_cfgpp(model: Pair, x: Tensor, times: Sequence[float], fresh: Fresh, callback: Callback) -> Tensor:
    """The signal is estimated with guidance and the noise without, so that guidance leads less far from the data."""
    return _walk(model, x, times, 0.0, fresh, callback)


def scales(t: float) -> tuple[float, float]:
    """alpha and sigma, as `objectives.V` has them."""
    return math.cos(t * math.pi / 2), math.sin(t * math.pi / 2)


def _walk(model: Pair, x: Tensor, times: Sequence[float], eta: float, fresh: Fresh, callback: Callback) -> Tensor:
    for index, (t, to) in enumerate(pairwise(times)):
        alpha, sigma = scales(t)
        guided, unguided = model(x, batch_times(x, t))
        denoised = alpha * x - sigma * guided
        callback(Step(index, len(times) - 1, x, t, sigma, denoised))
        if not to:
            return denoised
        eps = sigma * x + alpha * unguided
        next_alpha, next_sigma = scales(to)
        noise = eta * next_sigma / sigma * math.sqrt(1 - (alpha / next_alpha) ** 2)
        x = next_alpha * denoised + math.sqrt(next_sigma**2 - noise**2) * eps
        x = x + noise * fresh(x) if noise else x
    return x
