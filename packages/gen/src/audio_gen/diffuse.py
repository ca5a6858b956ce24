"""Sampling of diffusion models: their settings, and from noise and conditions to latents."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, get_args

import torch
from audio_core.files import InputError, reason
from torch import Tensor

from .config import DiffusionConfig
from .config.guidance import Guidance
from .config.sampling import FlowSampler, FlowSampling, VSampler, VSampling
from .diffusion import Step, sample
from .diffusion.noise import Fresh
from .models.conditioners.multi import Item
from .models.diffusion import Diffusion, inpainting
from .models.guidance import TOKENS, Guided

Sampling = FlowSampling | VSampling


class Given(NamedTuple):
    """What is known of a result before: latents (B, W, F), and where they stay, (B, 1, F)."""

    latents: Tensor
    kept: Tensor


def chosen(config: DiffusionConfig, **settings: Any) -> tuple[Sampling, Guidance]:
    """The model's own settings of sampling and guidance, with those of `settings` that are not None in their place.

    `cfg` is the scale of guidance, and `strength` how far a result may be from what it varies, from 0 to 1.
    """
    values = {name: value for name, value in settings.items() if value is not None}
    sampling, guidance = config.default_sampling, config.default_guidance
    strength = values.pop("strength", None)
    if "cfg" in values:
        values["scale"] = values.pop("cfg")
    if "sampler" in values:
        _expect_sampler(values["sampler"], sampling, config)
    names = {field.name for field in dataclasses.fields(sampling)}
    if unknown := {*values} - names - {field.name for field in dataclasses.fields(guidance)}:
        raise InputError(f"{sorted(unknown)[0]}: a model of objective {config.objective} has no such setting")
    try:
        sampling = dataclasses.replace(sampling, **{name: values[name] for name in {*values} & names})
        guidance = dataclasses.replace(guidance, **{name: values[name] for name in {*values} - names})
    except ValueError as error:
        raise InputError(re.sub("^scale ", "cfg ", reason(error))) from None
    if strength is not None:
        sampling = _varying(sampling, strength)
    if guidance.rescale and config.width < 2:
        raise InputError("rescale: compares the channels of a frame, and this model has one")
    if guidance.scale != 1 and not config.guides:
        raise InputError("cfg: this model has no tokens that guidance could leave out; leave it 1")
    return sampling, guidance


def _expect_sampler(name: str, sampling: Sampling, config: DiffusionConfig) -> None:
    known = get_args(FlowSampler if isinstance(sampling, FlowSampling) else VSampler)
    if name not in known:
        close = difflib.get_close_matches(name, known, 1, 0.6)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
        raise InputError(f"sampler: {name!r} is none of a model of objective {config.objective}; {hint}")


def _varying(sampling: Sampling, strength: float) -> Sampling:
    """The settings of a variation, which begins at a lower noise level."""
    try:
        return dataclasses.replace(sampling, sigma_max=_level(sampling, strength))
    except ValueError as error:
        raise InputError(f"strength: {strength:g} is too little for this sampler: {reason(error)}") from None


def _level(sampling: Sampling, strength: float) -> float:
    """The noise level at which a variation begins, from its time."""
    if not 0 < strength <= 1:
        raise InputError(f"strength: expected a number above 0 and up to 1, got {strength:g}")
    if isinstance(sampling, FlowSampling) or sampling.sampler.startswith("v-ddim"):
        return strength
    return min(sampling.sigma_max, math.tan(strength * math.pi / 2)) if strength < 1 else sampling.sigma_max


@torch.no_grad()
def sampled(
    model: Diffusion,
    items: Sequence[Item],
    noise: Tensor,
    fresh: Fresh,
    sampling: Sampling,
    guidance: Guidance,
    samples: int | None = None,
    negative: Sequence[Item] | None = None,
    given: Given | None = None,
    callback: Callable[[Step], object] = lambda step: None,
    init: Tensor | None = None,
) -> Tensor:
    """Latents (B, W, F), as the network has them, from `noise` of that shape. `samples` is the length of the results.

    Of what is `given` the kept frames stay. A model that has learnt to inpaint sees them as conditions; for others
    every estimate is corrected there. With `init` a result varies it, as far as `sampling.sigma_max` says.
    """
    config, device = model.config, noise.device
    padding = None
    if config.masks:
        real = -(-(samples or config.samples) // config.hop)
        padding = (torch.arange(noise.shape[2], device=device) < real).expand(len(noise), -1)
    extra = None
    if config.inpaints:
        known = given or Given(torch.zeros_like(noise), torch.zeros_like(noise[:, :1]))
        extra = inpainting(known.latents, known.kept)
    conditions = model.conditions(items, device, extra, padding)
    unlike = {}
    if negative is not None and guidance.scale != 1:
        names = {*TOKENS, *TOKENS.values()}
        others = model.conditions(negative, device, extra, masks=True)  # whose padding becomes zeros
        unlike = {name: value for name, value in others.items() if name in names}
    kept = None if given is None or config.inpaints else _Kept(model, given)
    guided = Guided(model.backbone, conditions, guidance, model.objective, unlike, model.null)

    def network(x: Tensor, t: Tensor) -> Any:
        outputs = guided.pair(x, t)
        if kept is not None:
            outputs = type(outputs)(*(kept(x, t, output) for output in outputs))
        return tuple(outputs) if sampling.sampler == "v-ddim-cfgpp" else outputs.output

    return sample(network, noise, sampling, fresh, init, config.distribution_shift, callback)


class _Kept:
    """Corrects outputs: in kept frames they become those whose estimate of the result is what was given."""

    def __init__(self, model: Diffusion, given: Given):
        self.objective, self.given, self.is_v = model.objective, given, model.config.objective == "v"
        self.last: Tensor | None = None

    def __call__(self, x: Tensor, t: Tensor, output: Tensor) -> Tensor:
        sigma = self.objective.sigma(t).reshape(-1, 1, 1)
        if self.last is None or (sigma > 1e-4).all():  # without noise any output has that estimate: as before
            scale = self.objective.alpha(t).reshape(-1, 1, 1) if self.is_v else 1.0
            self.last = (scale * x - self.given.latents) / sigma
        return torch.where(self.given.kept > 0, self.last, output)
