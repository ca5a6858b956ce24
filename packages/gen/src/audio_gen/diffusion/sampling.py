"""From noise, or from init audio and noise, to a result: `sample` with any sampler of an objective."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..config.sampling import FlowSampling, VSampling
from ..config.timesteps import DistributionShiftConfig
from . import samplers_ddim, samplers_dpm, samplers_flow, samplers_v, schedules
from .noise import Fresh
from .steps import Callback, Step


def _ignore(step: Step) -> None:
    pass


@torch.no_grad()
def sample(
    model: Callable[[Tensor, Tensor], Any],
    noise: Tensor,
    settings: FlowSampling | VSampling,
    fresh: Fresh,
    init: Tensor | None = None,
    shift: DistributionShiftConfig | None = None,
    callback: Callback = _ignore,
) -> Tensor:
    """The result (B, C, T), on the device and in the dtype of `noise`, which is where sampling starts.

    `model(x, t)` gives velocity or v, guided where there is guidance; for v-ddim-cfgpp a pair, guided and
    unconditional. `fresh` draws the noise of the steps. The result varies `init`, where it is given, by as much as
    `settings.sigma_max` says. `shift` is the model's own. `callback` gets each step before it is taken; what it raises
    ends the sampling.

    State and times are float32 at least: half precision would round every step, and does not tell near times apart.
    The model's x has the dtype of `noise`.
    """
    state = torch.promote_types(noise.dtype, torch.float32)
    start, given = noise.to(state), None if init is None else init.to(noise.device, state)

    def evaluate(x: Tensor, t: Tensor) -> Any:
        output = model(x.to(noise.dtype), t)
        return tuple(part.to(state) for part in output) if isinstance(output, tuple) else output.to(state)

    if isinstance(settings, FlowSampling):
        result = _flow(evaluate, start, settings, fresh, given, shift, callback)
    elif settings.sampler in ("v-ddim", "v-ddim-cfgpp"):
        result = _ddim(evaluate, start, settings, fresh, given, callback)
    else:
        result = _by_level(evaluate, start, settings, fresh, given, callback)
    return result.to(noise.dtype)


def _flow(
    model: Callable[[Tensor, Tensor], Tensor],
    noise: Tensor,
    settings: FlowSampling,
    fresh: Fresh,
    init: Tensor | None,
    shift: DistributionShiftConfig | None,
    callback: Callback,
) -> Tensor:
    times = schedules.flow_times(settings, noise.shape[-1], shift)
    level = min(1.0, settings.sigma_max)
    x = noise if init is None else (1 - level) * init + level * noise
    return samplers_flow.SAMPLERS[settings.sampler](model, x, times, fresh, callback)


def _ddim(
    model: Callable[[Tensor, Tensor], Any],
    noise: Tensor,
    settings: VSampling,
    fresh: Fresh,
    init: Tensor | None,
    callback: Callback,
) -> Tensor:
    times = schedules.linear_times(settings.steps, min(1.0, settings.sigma_max))
    alpha, sigma = samplers_ddim.scales(times[0])
    x = noise if init is None else alpha * init + sigma * noise
    if settings.sampler == "v-ddim-cfgpp":
        return samplers_ddim.ddim_cfgpp(model, x, times, fresh, callback)
    return samplers_ddim.ddim(model, x, times, settings.eta, fresh, callback)


def _by_level(
    model: Callable[[Tensor, Tensor], Tensor],
    noise: Tensor,
    settings: VSampling,
    fresh: Fresh,
    init: Tensor | None,
    callback: Callback,
) -> Tensor:
    low, high = settings.sigma_min, settings.sigma_max
    x = high * noise if init is None else init + high * noise
    denoise = samplers_v.denoiser(model)
    if settings.sampler == "k-dpm-fast":
        return samplers_dpm.fast(denoise, x, low, high, settings.steps, callback)
    if settings.sampler == "k-dpm-adaptive":
        return samplers_dpm.adaptive(denoise, x, low, high, callback)
    sigmas = schedules.polyexponential(settings.steps, low, high, settings.rho)
    return samplers_v.walk(settings.sampler, denoise, x, sigmas, fresh, callback)
