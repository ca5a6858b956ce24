"""What a diffusion network learns to predict: v, or the velocity of a rectified flow.

At time t the input is alpha * x + sigma * noise. t is (B,), all else (B, C, T); alpha and sigma are of the shape of t.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, distributed

from ..config import sampling


class V:
    """alpha and sigma lie on a circle; v is the direction of the circle's tangent."""

    def alpha(self, t: Tensor) -> Tensor:
        return torch.cos(t * math.pi / 2)

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sin(t * math.pi / 2)

    def target(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        t = _wide(t, x)
        return (self.alpha(t) * noise - self.sigma(t) * x).to(x.dtype)

    def denoised(self, noised: Tensor, output: Tensor, t: Tensor) -> Tensor:
        """The estimate of x that the network's output means."""
        t = _wide(t, noised)
        return (self.alpha(t) * noised - self.sigma(t) * output).to(noised.dtype)


class RectifiedFlow:
    """A straight line from x to noise."""

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        return t

    def target(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        return noise - x

    def denoised(self, noised: Tensor, output: Tensor, t: Tensor) -> Tensor:
        """The estimate of x that the network's output means."""
        return (noised - _wide(t, noised) * output).to(noised.dtype)


Objective = V | RectifiedFlow


def build(objective: sampling.Objective) -> Objective:
    return V() if objective == "v" else RectifiedFlow()


def noised(objective: Objective, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """The network's input at time t."""
    t = _wide(t, x)
    return (objective.alpha(t) * x + objective.sigma(t) * noise).to(x.dtype)


def mse(output: Tensor, target: Tensor, real: Tensor | None = None) -> Tensor:
    """The mean squared error, of the frames that are `real` (B, T) alone where it is given.

    All real frames of the batch weigh the same, whichever item they are of.
    """
    if real is None:
        return (output - target).square().mean()
    errors = (output - target).square().mean(1)  # (B, T)
    return (errors * real).sum() / least_one(real.sum())


def least_one(counts: Tensor) -> Tensor:
    """Counts of real frames, at least one, by which a sum over a batch is divided.

    A training of several processes takes the mean of their losses. So in a training step each gets the mean count of
    all: then that mean is one over all real frames, as one process would have it.
    """
    if not (torch.is_grad_enabled() and distributed.is_initialized()):
        return counts.clamp(min=1)
    total = counts.clone()
    distributed.all_reduce(total)
    return total.clamp(min=1) / distributed.get_world_size()


def _wide(t: Tensor, x: Tensor) -> Tensor:
    return t.reshape(-1, *[1] * (x.ndim - 1))
