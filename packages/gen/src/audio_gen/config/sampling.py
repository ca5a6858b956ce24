"""How a model is sampled: the objectives, the samplers of each, and the originals' defaults."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from audio_core.checks import within

Objective = Literal["v", "rectified_flow", "rf_denoiser"]
"""What the network predicts. `rf_denoiser` is a rectified flow that was post-trained for few steps."""
FlowSampler = Literal["euler", "rk4", "dpmpp", "pingpong"]
VSampler = Literal[
    "dpmpp-2m",
    "dpmpp-2m-sde",
    "dpmpp-3m-sde",
    "k-heun",
    "k-lms",
    "k-dpm-2",
    "k-dpmpp-2s-ancestral",
    "k-dpm-fast",
    "k-dpm-adaptive",
    "v-ddim",
    "v-ddim-cfgpp",
]


@dataclass(frozen=True, kw_only=True)
class FlowSampling:
    """Of a rectified flow, whose times are its noise levels."""

    sampler: FlowSampler = "euler"
    steps: int = 50
    sigma_max: float = 1.0
    """Where sampling starts. With init audio, how far the result may differ from it; above 1 counts as 1."""
    schedule: Literal["auto", "logsnr", "linear", "shifted"] = "auto"
    """Times that are evenly spaced in log SNR, or in time; `shifted`: in time, and then moved by the model's
    distribution shift. `auto` is as stable-audio-tools: shifted or linear for rk4, as the model has it, else logsnr."""

    def __post_init__(self) -> None:
        _check(self.steps, sigma_max=self.sigma_max)


@dataclass(frozen=True, kw_only=True)
class VSampling:
    """Of a v-model, by noise levels: sigma is relative to the signal. v-ddim and v-ddim-cfgpp go by time instead."""

    sampler: VSampler = "dpmpp-3m-sde"
    steps: int = 100
    """Evaluations of the network for k-dpm-fast. k-dpm-adaptive has as many steps as it needs."""
    sigma_min: float = 0.01
    sigma_max: float = 100.0
    """The level at the start. With init audio, how far the result may differ from it. v-ddim: a time, at most 1."""
    rho: float = 1.0
    """Above 1, more of the levels are low."""
    eta: float = 0.0
    """Fresh noise in each step of v-ddim, relative to that of ancestral sampling."""

    def __post_init__(self) -> None:
        _check(self.steps, sigma_max=self.sigma_max, rho=self.rho, sigma_min=self.sigma_min)
        by_time = self.sampler.startswith("v-ddim")
        if not by_time and self.sigma_min >= self.sigma_max:
            raise ValueError(f"sigma_max must be above sigma_min, {self.sigma_min}, got {self.sigma_max}")
        within(self, 0, "eta", most=1)
        if self.eta and self.sampler != "v-ddim":
            raise ValueError(f"eta: {self.sampler} has no such setting; leave it 0, or take v-ddim")


def default_sampling(objective: Objective) -> FlowSampling | VSampling:
    """The settings that stable-audio-tools' page proposes."""
    if objective == "v":
        return VSampling()
    if objective == "rf_denoiser":
        return FlowSampling(sampler="pingpong", steps=8)
    return FlowSampling()


def _check(steps: int, **above_zero: float) -> None:
    if steps < 1:
        raise ValueError(f"steps must be 1 at least, got {steps}")
    for name, value in above_zero.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be above 0, got {value}")
