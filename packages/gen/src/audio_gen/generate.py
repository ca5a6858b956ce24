"""Generation: from noise, and from conditions of each item, to audio. Recordings may be given, wholly or in part.

A result follows from the model, the conditions, the seed and the settings alone: items are computed one by one unless
a larger `batch` is asked for, which changes results by rounding.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, get_args

import torch
from audio_core.files import InputError, reason
from torch import Tensor

from .conditioners.base import device_of
from .config import DiffusionConfig
from .config.guidance import Guidance
from .config.sampling import FlowSampler, FlowSampling, VSampler, VSampling
from .diffusion import ItemNoise, Step, item_seeds, sample
from .diffusion.noise import Fresh
from .models.diffusion import Diffusion, inpainting
from .models.guidance import TOKENS, Guided

Sampling = FlowSampling | VSampling
Item = Mapping[str, Any]


class Generated(NamedTuple):
    audio: Tensor | None  # (B, C, T); None where latents alone are wanted
    latents: Tensor  # (B, W, F), as the codec has them
    seeds: list[int]
    """Each gives its item again, alone or among others."""


class Given(NamedTuple):
    """What is known of a result before: latents (B, W, F), and where they stay, (B, 1, F)."""

    latents: Tensor
    kept: Tensor


# --- settings ------------------------------------------------------------------------------------------------


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
        if strength is not None:
            sampling = dataclasses.replace(sampling, sigma_max=_level(sampling, strength))
    except ValueError as error:
        raise InputError(reason(error).replace("scale", "cfg", 1)) from None
    if guidance.scale != 1 and not (config.cross_attention_cond_ids or config.prepend_cond_ids):
        raise InputError("cfg: this model has no tokens that guidance could leave out; leave it 1")
    return sampling, guidance


def _expect_sampler(name: str, sampling: Sampling, config: DiffusionConfig) -> None:
    known = get_args(FlowSampler if isinstance(sampling, FlowSampling) else VSampler)
    if name not in known:
        close = difflib.get_close_matches(name, known, 1, 0.6)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
        raise InputError(f"sampler: {name!r} is none of a model of objective {config.objective}; {hint}")


def _level(sampling: Sampling, strength: float) -> float:
    """The noise level at which a variation begins, from its time."""
    if not 0 < strength <= 1:
        raise InputError(f"strength: expected a number above 0 and up to 1, got {strength:g}")
    if isinstance(sampling, FlowSampling) or sampling.sampler.startswith("v-ddim"):
        return strength
    return min(sampling.sigma_max, math.tan(strength * math.pi / 2)) if strength < 1 else sampling.sigma_max


def samples_of(config: DiffusionConfig, seconds: float | None) -> int:
    """The length of a result; None: all that the model has learnt."""
    if seconds is None:
        return config.samples
    if not 0 < seconds < math.inf:
        raise InputError(f"seconds: expected a length above 0, got {seconds:g}")
    samples = round(seconds * config.rate)
    if samples > config.most:
        longest = config.samples / config.rate
        raise InputError(f"seconds: this model generates up to {longest:.4g} s, got {seconds:g}; `continue` goes on")
    return max(1, samples)


# --- from conditions to audio ----------------------------------------------------------------------------------


def generate(
    model: Diffusion,
    prompts: str | Item | Sequence[str | Item] = "",
    seconds: float | None = None,
    negative: str | Item | None = None,
    seed: int = -1,
    batch: int = 1,
    decode: bool = True,
    given: Given | None = None,
    callback: Callable[[Step], object] = lambda step: None,
    **settings: Any,
) -> Generated:
    """Audio for each prompt, a text or the values of all conditioners by their keys.

    `negative` is what results shall be unlike; it needs guidance. `seed` belongs to the first item, and the next have
    the next numbers; -1 draws one. `given` is for all items. `callback` gets each step of sampling. Further settings
    are those of `chosen`: steps, cfg, sampler, rescale, interval, ...
    """
    config = model.config
    sampling, guidance = chosen(config, **settings)
    samples = samples_of(config, seconds)
    texts = [prompts] if isinstance(prompts, str | Mapping) else [*prompts]
    if not texts or batch < 1:
        raise InputError("prompts: there is none" if not texts else f"batch: expected a number from 1 on, got {batch}")
    if negative is not None and guidance.scale == 1:
        raise InputError("negative: needs guidance; give a cfg other than 1")
    items = [_item(config, text, samples) for text in texts]
    others = None if negative is None else _item(config, negative, samples)
    seeds = item_seeds(seed, len(items))
    latents, audio = [], []
    for first in range(0, len(items), batch):
        part = items[first : first + batch]
        noise = ItemNoise(seeds[first : first + batch])
        frames = config.frames_for(samples) if config.masks else config.frames
        start = noise(torch.empty(len(part), config.width, frames, device=device_of(model)))
        unlike = None if others is None else [{**item, **others} for item in part]
        shared = None if given is None else Given(*(each.expand(len(part), -1, -1) for each in given))
        result = sampled(model, part, start, noise, sampling, guidance, samples, unlike, shared, callback)
        latents.append(result * config.scale)
        if decode:
            with torch.no_grad():
                audio.append(model.decode(result, samples))
    return Generated(torch.cat(audio) if decode else None, torch.cat(latents), seeds)


def _item(config: DiffusionConfig, prompt: str | Item, samples: int) -> Item:
    values = {"prompt": prompt} if isinstance(prompt, str) else dict(prompt)
    return {"seconds_start": 0, "seconds_total": samples / config.rate, **values}


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
        unlike = {name: value for name, value in model.conditions(negative, device, extra).items() if name in names}
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
