"""The toy network of the stored sampler cases."""

import torch
from audio_gen.config.sampling import VSampling
from audio_gen.diffusion import sample


def toy(x, t):
    """(B, C, T), (B,) -> (B, C, T)"""
    t = t.reshape(-1, 1, 1).to(x.dtype)
    return torch.tanh(x) * (1 - 0.5 * t) + 0.25 * t * torch.roll(x, 1, -1)


def with_unconditional(x, t):
    """As a guided network for v-ddim-cfgpp: its output, and one without conditions."""
    return toy(x, t), 0.8 * toy(x, t) + 0.05


def model_of(settings):
    return with_unconditional if settings.sampler == "v-ddim-cfgpp" else toy


def drawn(case):
    """The case's noise of the steps, one after another."""
    steps = iter(case.inputs["step_noise"])
    return lambda like: next(steps).to(like)


def trajectory(settings, noise, fresh, **more):
    """All steps of a sampling, and its result."""
    steps = []
    result = sample(model_of(settings), noise, settings, fresh, callback=steps.append, **more)
    return steps, result


def few_levels(sampler, **more):
    return VSampling(sampler=sampler, steps=8, sigma_min=0.3, **{"sigma_max": 500, **more})
