"""Generation: audio from prompts, by diffusion models and by language models.

A result follows from the model, the conditions, the seed and the settings alone: items are computed one by one unless
a larger `batch` is asked for, which changes results by rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from audio_core.files import InputError
from torch import Tensor

from . import diffuse, generate_codes
from .config import AudioConfig, DiffusionConfig, LMConfig
from .config.conditioners import IntConfig
from .config.guidance import Guidance
from .config.language import CodeSampling
from .diffuse import Given, Sampling
from .diffusion import ItemNoise, item_seeds
from .models.conditioners.base import device_of
from .models.conditioners.multi import Item
from .models.diffusion import Diffusion
from .models.lm import LM

Plan = tuple[Sampling, Guidance] | CodeSampling


class Generated(NamedTuple):
    audio: Tensor | None  # (B, C, T); None where latents alone are wanted
    latents: Tensor  # (B, W, F), as the codec has them; of a language model codes (B, K, F)
    seeds: list[int]
    """Each gives its item again, alone or among others."""


def chosen(config: AudioConfig, **settings: Any) -> Plan:
    """The model's own settings of sampling and guidance, with those of `settings` that are not None in their place.

    `cfg` is the scale of guidance, and `strength` how far a result may be from what it varies, from 0 to 1.
    """
    if isinstance(config, LMConfig):
        return generate_codes.chosen(config, **settings)
    if not isinstance(config, DiffusionConfig):
        raise InputError("generate: this is a diffusion autoencoder, which makes audio of audio; try `reconstruct`")
    return diffuse.chosen(config, **settings)


def samples_of(config: AudioConfig, seconds: float | None) -> int:
    """The length of a result; None: all that the model has learnt. A language model goes on as long as it is asked."""
    if seconds is None:
        return config.samples
    if not 0 < seconds < math.inf:
        raise InputError(f"seconds: expected a length above 0, got {seconds:g}")
    samples = round(seconds * config.rate)
    if samples > config.most and not isinstance(config, LMConfig):
        longest = config.samples / config.rate
        raise InputError(f"seconds: this model generates up to {longest:.4g} s, got {seconds:g}; `continue` goes on")
    return max(1, samples)


def generate(
    model: Diffusion | LM,
    prompts: str | Item | Sequence[str | Item] = "",
    seconds: float | None = None,
    negative: str | Item | None = None,
    seed: int = -1,
    batch: int = 1,
    decode: bool = True,
    given: Given | None = None,
    callback: Callable[[Any], object] = lambda step: None,
    **settings: Any,
) -> Generated:
    """Audio for each prompt, a text or the values of all conditioners by their keys.

    `negative` is what results shall be unlike; it needs guidance. `seed` belongs to the first item, and the next have
    the next numbers; -1 draws one. `given` is what a diffusion model keeps. `callback` gets each step of sampling, a
    `Step`, or of a language model a `CodeStep`. Further settings are those of `chosen`: steps, cfg, sampler, rescale,
    interval, ...; of a language model temperature, top_k, top_p, cfg.
    """
    config = model.config
    plan = chosen(config, **settings)
    samples = samples_of(config, seconds)
    texts = [prompts] if isinstance(prompts, str | Mapping) else [*prompts]
    if not texts or batch < 1:
        raise InputError("prompts: there is none" if not texts else f"batch: expected a number from 1 on, got {batch}")
    expect_guidance(plan, negative)
    items = [described(config, text, samples) for text in texts]
    seeds = item_seeds(seed, len(items))
    latents, audio = [], []
    for first in range(0, len(items), batch):
        part, own = items[first : first + batch], seeds[first : first + batch]
        unlike = None if negative is None else [{**item, **stated(negative)} for item in part]
        if isinstance(model, LM):
            assert isinstance(plan, CodeSampling)
            result = generate_codes.codes_of(model, part, samples, own, plan, unlike, callback=callback)
            latents.append(result)
        else:
            assert not isinstance(plan, CodeSampling)
            result = _diffused(model, part, samples, own, plan, unlike, given, callback)
            latents.append(result * model.config.scale)
        if decode:
            with torch.no_grad():
                audio.append(model.decode(result, samples))
    return Generated(torch.cat(audio) if decode else None, torch.cat(latents), seeds)


def _diffused(
    model: Diffusion,
    items: Sequence[Item],
    samples: int,
    seeds: Sequence[int],
    plan: tuple[Sampling, Guidance],
    unlike: Sequence[Item] | None,
    given: Given | None,
    callback: Callable[[Any], object],
) -> Tensor:
    """Latents (B, W, F), as the network has them."""
    config, noise = model.config, ItemNoise(seeds)
    frames = config.frames_for(samples) if config.masks else config.frames
    start = noise(torch.empty(len(items), config.width, frames, device=device_of(model)))
    shared = None if given is None else Given(*(each.expand(len(items), -1, -1) for each in given))
    return diffuse.sampled(model, items, start, noise, *plan, samples, unlike, shared, callback)


def expect_guidance(plan: Plan, negative: Any) -> None:
    scale = plan.guidance if isinstance(plan, CodeSampling) else plan[1].scale
    if negative is not None and scale == 1:
        raise InputError("negative: needs guidance; give a cfg other than 1")


def described(config: AudioConfig, prompt: str | Item, samples: int) -> Item:
    """The values of all conditioners of an item that lasts so many samples."""
    seconds: float = samples / config.rate
    if isinstance(config.conditioning.conditioners.get("seconds_total"), IntConfig):
        seconds = math.ceil(seconds)  # as in the items that such a model has learnt from
    return {"seconds_start": 0, "seconds_total": seconds, **stated(prompt)}


def stated(prompt: str | Item) -> Item:
    """What a prompt says itself. Negative ones keep all else of the item."""
    return {"prompt": prompt} if isinstance(prompt, str) else dict(prompt)
