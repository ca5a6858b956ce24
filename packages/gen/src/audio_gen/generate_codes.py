"""Sampling of language models: their settings, and from conditions to codes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from audio_core.files import InputError, reason
from torch import Tensor

from .config import LMConfig
from .config.language import CodeSampling
from .models.conditioners.base import device_of
from .models.conditioners.multi import Item
from .models.decoding import CodeStep, generate_codes
from .models.lm import LM


def chosen(config: LMConfig, **settings: Any) -> CodeSampling:
    """The model's own settings of sampling, with those of `settings` that are not None in their place."""
    values = {name: value for name, value in settings.items() if value is not None}
    if "cfg" in values:
        values["guidance"] = values.pop("cfg")
    if unknown := {*values} - {field.name for field in dataclasses.fields(CodeSampling)}:
        raise InputError(f"{sorted(unknown)[0]}: a language model has no such setting")
    try:
        sampling = dataclasses.replace(config.sampling, **values)
    except ValueError as error:
        raise InputError(reason(error).replace("guidance", "cfg", 1)) from None
    if sampling.guidance != 1 and not config.guides:
        raise InputError("cfg: this model has no tokens that guidance could leave out; leave it 1")
    return sampling


def codes_of(
    model: LM,
    items: Sequence[Item],
    samples: int,
    seeds: Sequence[int],
    sampling: CodeSampling,
    negative: Sequence[Item] | None = None,
    prompt: Tensor | None = None,
    callback: Callable[[CodeStep], object] = lambda step: None,
) -> Tensor:
    """Codes (B, K, T) for `samples` samples, which begin with those of `prompt` (B, K, fewer frames).

    What is longer than the model has learnt is made window by window, half of each being the end of the one before.
    """
    config, device = model.config, device_of(model)
    frames = config.frames_for(samples)
    if sampling.window is None and frames > config.frames > 1:
        sampling = dataclasses.replace(sampling, window=config.frames, stride=config.frames // 2)
    with torch.no_grad():
        conditions = model.conditions(items, device)
        unlike = None if negative is None else model.conditions(negative, device, masks=True)
    return generate_codes(model.lm, frames, sampling, seeds, conditions, unlike, prompt, callback)
