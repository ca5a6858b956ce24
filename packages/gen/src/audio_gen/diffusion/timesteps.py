"""The times at which a model learns, drawn from a distribution, and their shift for long latents."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from ..config import timesteps as configs

_BELOW_1 = 1 - 2**-24  # the greatest float32 below 1


class Timesteps:
    """Times for training. `seed` scrambles the Sobol sequence."""

    def __init__(self, settings: configs.TimestepsConfig, seed: int = 0):
        self.settings = settings
        self.sobol = Sobol(seed)

    def __call__(self, items: int, first: int = 0, generator: torch.Generator | None = None) -> Tensor:
        """Times (items,), as float32 on the CPU. `first` counts the items of the run before these.

        Only uniform times depend on `first`; all others are drawn from the generator, or from the global one.
        """
        t = self._draw(items, first, generator)
        chance = self.settings.p_one_shot
        return one_shot(t, torch.rand(items, generator=generator), chance) if chance else t

    def _draw(self, items: int, first: int, generator: torch.Generator | None) -> Tensor:
        settings = self.settings.distribution
        if isinstance(settings, configs.UniformConfig):
            return self.sobol(items, first)
        if isinstance(settings, configs.ConstantConfig):
            return torch.full((items,), settings.t)
        if isinstance(settings, configs.LogSNRUniformConfig):
            uniform = torch.rand(items, generator=generator)
            return log_snr_uniform(uniform, settings.min_logsnr, settings.max_logsnr)
        normal = torch.randn(items, generator=generator)
        if isinstance(settings, configs.LogSNRConfig):
            return log_snr(normal, settings.mean_logsnr, settings.std_logsnr)
        if isinstance(settings, configs.TruncLogitNormalConfig):
            return trunc_logit_normal(normal, settings.left)
        return normal.sigmoid()


class Sobol:
    """PyTorch's scrambled Sobol sequence of one dimension, at any place without computing what comes before.

    A run that goes on after a stop has its times from the number of its items alone.
    """

    def __init__(self, seed: int):
        engine = SobolEngine(1, scramble=True, seed=seed)
        self.directions, self.shift = engine.sobolstate[0], engine.shift[0]  # (30,), ()
        self.bits = engine.MAXBIT

    def __call__(self, items: int, first: int = 0) -> Tensor:
        """Points `first` up to `first + items`, from 0 to below 1. They repeat after 2^30."""
        index = torch.arange(first, first + items) % 2**self.bits
        point = self.shift.expand(items).clone()
        gray = index ^ (index >> 1)  # neighbours differ in one bit
        for bit in range(self.bits):
            point ^= self.directions[bit] * ((gray >> bit) & 1)
        return (point.double() / 2**self.bits).float().clamp(max=_BELOW_1)  # the points have more bits than float32


def trunc_logit_normal(normal: Tensor, left: float = 0.075) -> Tensor:
    """A logit-normal cut off below `left`, by the inverse of its distribution function; stretched, then mirrored."""
    start = torch.special.ndtr(torch.logit(torch.tensor(left, dtype=torch.float64)))
    share = start + torch.special.ndtr(normal.double()) * (1 - start)
    inside = torch.special.ndtri(share).sigmoid()  # from `left` to 1
    return (1 - (inside - left) / (1 - left)).float()


def log_snr(normal: Tensor, mean: float = -1.2, std: float = 2.0) -> Tensor:
    return torch.sigmoid(-(mean + std * normal)).clamp(1e-4, 1 - 1e-4)


def log_snr_uniform(uniform: Tensor, low: float = -6.0, high: float = 2.0) -> Tensor:
    return torch.sigmoid(-(low + (high - low) * uniform))


def one_shot(t: Tensor, uniform: Tensor, chance: float) -> Tensor:
    """The times with this share of them replaced by 1."""
    return torch.where(uniform < chance, 1.0, t)


def shift(t: Tensor, length: int | Tensor, settings: configs.DistributionShiftConfig) -> Tensor:
    """Times moved towards 1, as far as latents of `length` frames need; a tensor is the length of each item."""
    low, high = settings.min_length, settings.max_length
    share = (torch.as_tensor(length, device=t.device).clamp(low, high) - low).to(t.dtype) / (high - low)
    odds = torch.exp(-(settings.base_shift + (settings.max_shift - settings.base_shift) * share))
    moved = t / (t + odds * (1 - t))
    return torch.sin(moved * torch.pi / 2) if settings.use_sine else moved
