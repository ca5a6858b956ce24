"""All conditioners of a model, and what a backbone takes of their results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from audio_core.codec import Codec
from audio_core.files import InputError
from torch import Tensor, nn

from ...config.conditioners import (
    BytesConfig,
    CLAPAudioConfig,
    CLAPTextConfig,
    ConditioningConfig,
    IntConfig,
    ListConfig,
    LUTConfig,
    NumberConfig,
    PhonemeConfig,
    PrecomputedConfig,
    PretransformConfig,
    SourceMixConfig,
    T5Config,
)
from .base import Condition, device_of
from .features import clap_audio, clap_text, precomputed
from .latents import PretransformConditioner, SourceMixConditioner, stacked
from .numbers import IntConditioner, ListConditioner, NumberConditioner
from .t5 import T5Conditioner
from .texts import BytesConditioner, LUTConditioner, PhonemeConditioner

Item = Mapping[str, Any]
"""What describes one item, by key."""
_CONDITIONERS: dict[type, Callable[..., nn.Module]] = {
    BytesConfig: BytesConditioner,
    CLAPAudioConfig: clap_audio,
    CLAPTextConfig: clap_text,
    IntConfig: IntConditioner,
    LUTConfig: LUTConditioner,
    ListConfig: ListConditioner,
    NumberConfig: NumberConditioner,
    PhonemeConfig: PhonemeConditioner,
    PrecomputedConfig: precomputed,
    T5Config: T5Conditioner,
}
_OF_AUDIO: dict[type, Callable[..., nn.Module]] = {
    PretransformConfig: PretransformConditioner,
    SourceMixConfig: SourceMixConditioner,
}


class MultiConditioner(nn.Module):
    """Items to conditions, by the keys of the conditioners. `codec` is the model's own, for conditioners of audio."""

    Config = ConditioningConfig

    def __init__(self, config: ConditioningConfig, codec: Codec | None = None):
        super().__init__()
        self.config = config
        self.conditioners = nn.ModuleDict()
        for key, each in config.conditioners.items():
            width = config.output_dim(key)
            try:
                if type(each) in _OF_AUDIO:
                    self.conditioners[key] = _OF_AUDIO[type(each)](each, width, codec)
                else:
                    self.conditioners[key] = _CONDITIONERS[type(each)](each, width)
            except InputError as error:
                raise InputError(f"{key}: {error}") from None
            except KeyError:  # the name of one of the dictionary's own methods
                raise InputError(f"conditioners: {key!r} is no possible key; choose another") from None

    def forward(self, items: Sequence[Item], device: torch.device | str | None = None) -> dict[str, Condition]:
        """The conditions of a batch, on the device of the weights by default."""
        place = device_of(self) if device is None else torch.device(device)
        return {key: self._condition(key, items, place) for key in self.config.conditioners}

    def _condition(self, key: str, items: Sequence[Item], device: torch.device) -> Condition:
        conditioner = self.conditioners[key]
        read = _ready if key in self.config.pre_encoded_keys else conditioner.read
        values = []
        for at, item in enumerate(items):
            try:
                values.append(read(_unwrapped(self._value(key, item))))
            except InputError as error:
                raise InputError(f"{_name(at, item)}: {key}: {error}") from None
        try:
            if key in self.config.pre_encoded_keys:
                return Condition(stacked(values).to(device), None)
            return conditioner.embed(values, device)
        except InputError as error:
            raise InputError(f"{key}: {error}") from None

    def _value(self, key: str, item: Item) -> Any:
        """Each item for itself: that one lacks a key says nothing of the others."""
        other = self.config.default_keys.get(key)
        if key in item:
            return item[key]
        if other is not None and other in item:
            return item[other]
        names = key if other is None else f"{key}, and no {other} for it"
        raise InputError(f"there is no {names}; the item has {', '.join(map(str, item)) or 'nothing'}")


def _name(at: int, item: Item) -> str:
    path = item.get("relpath", item.get("path"))
    return f"item {at} ({path})" if isinstance(path, str) else f"item {at}"


def _unwrapped(value: Any) -> Any:
    """What a loader has put into a list alone."""
    return value[0] if isinstance(value, list | tuple) and len(value) == 1 else value


def _ready(value: Any) -> Tensor:
    value = torch.from_numpy(value) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value
    if not isinstance(value, Tensor) or not value.is_floating_point() or not value.ndim:
        raise InputError(f"expected a tensor of the condition itself, got {value!r:.60}")
    return value


def assembled(
    conditions: Mapping[str, Condition],
    cross_attention_cond_ids: Sequence[str] = (),
    global_cond_ids: Sequence[str] = (),
    input_concat_ids: Sequence[str] = (),
    prepend_cond_ids: Sequence[str] = (),
    masks: bool = False,
) -> dict[str, Tensor]:
    """The arguments of a backbone from conditions of a batch; what there is no condition for is left out.

    Tokens follow each other, global vectors and channels stand beside each other. `masks` says which tokens are real,
    for models that have learnt with masks; the published ones have not.
    """
    cross, cross_mask = _tokens(conditions, cross_attention_cond_ids)
    prepended, prepended_mask = _tokens(conditions, prepend_cond_ids)
    found = {
        "cross_attn_cond": cross,
        "cross_attn_mask": cross_mask if masks else None,
        "global_cond": _global(conditions, global_cond_ids),
        "input_concat_cond": _beside([conditions[key].value for key in input_concat_ids], 1),
        "prepend_cond": prepended,
        "prepend_cond_mask": prepended_mask if masks else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _tokens(conditions: Mapping[str, Condition], keys: Sequence[str]) -> tuple[Tensor | None, Tensor | None]:
    """Tokens (B, N, D) and mask (B, N) of all the keys."""
    values, masks = [], []
    for key in keys:
        value, mask = conditions[key]
        value = value[:, None] if value.ndim == 2 else value
        values.append(value)
        masks.append(
            value.new_ones(value.shape[:2], dtype=torch.bool) if mask is None else mask.reshape(value.shape[:2])
        )
    return _beside(values, 1), _beside(masks, 1)


def _global(conditions: Mapping[str, Condition], keys: Sequence[str]) -> Tensor | None:
    """(B, D) of all the keys, each of which has one vector."""
    values = []
    for key in keys:
        value = conditions[key].value
        if value.ndim == 3 and value.shape[1] != 1:
            raise InputError(f"{key}: has {value.shape[1]} tokens, and a global condition is one vector")
        values.append(value.flatten(1))
    return _beside(values, 1)


def _beside(tensors: list[Tensor], axis: int) -> Tensor | None:
    return torch.cat(tensors, axis) if tensors else None
