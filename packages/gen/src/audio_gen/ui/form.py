"""What a model can be asked for on the page: which fields there are follows from its config alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from audio_core.files import InputError

from ..config import AudioConfig, DiffusionConfig, LMConfig
from ..config.conditioners import (
    BytesConfig,
    CLAPTextConfig,
    IntConfig,
    ListConfig,
    LUTConfig,
    NumberConfig,
    PhonemeConfig,
    PrecomputedConfig,
    T5Config,
)
from ..config.diffusion_autoencoder import DiffusionAutoencoderConfig
from ..config.sampling import FlowSampler, FlowSampling, VSampler

Way = Literal["generate", "vary", "inpaint", "continue"]
DERIVED = ("seconds_start", "seconds_total")
"""Conditions that follow from the length, and need not be given."""
_TEXTS = (BytesConfig, LUTConfig, PhonemeConfig, T5Config)


@dataclass(frozen=True)
class Field:
    """The value of one conditioner."""

    key: str
    kind: Literal["text", "number", "whole", "choice"]
    options: tuple[str, ...] = ()
    value: Any = None
    """That the page begins with: a number or one of the options."""
    hint: str = ""

    @property
    def label(self) -> str:
        return self.key.replace("_", " ").capitalize()


@dataclass(frozen=True)
class Setting:
    """A number of sampling or guidance, by its name in `generate`. Empty means the model's own."""

    name: str
    label: str
    value: float
    whole: bool = False
    hint: str = ""


@dataclass(frozen=True)
class Form:
    ways: tuple[Way, ...]
    fields: tuple[Field, ...]
    negative: bool
    """Whether there is a text that guidance can go away from."""
    seconds: float
    """That the model has learnt."""
    any_length: bool
    samplers: tuple[str, ...]
    sampler: str | None
    main: tuple[Setting, ...]
    guidance: tuple[Setting, ...]
    """What is folded away."""


def form(config: AudioConfig) -> Form:
    if isinstance(config, DiffusionAutoencoderConfig):
        raise InputError("ui: this model reconstructs audio and generates none, so there is no page for it")
    if config.codec is None and config.hop > 1:
        raise InputError("codec: this model has none, so there is nothing to hear; the page needs a model with a codec")
    fields = tuple(_field(config, key) for key in config.conditioning.conditioners)
    tokens = {*config.cross_attention_cond_ids, *config.prepend_cond_ids}
    texts = {field.key for field in fields if field.kind == "text"}
    common: dict[str, Any] = {
        "fields": fields,
        "negative": config.guides and "prompt" in texts & tokens,
        "seconds": config.samples / config.rate,
    }
    if isinstance(config, LMConfig):
        return Form(("generate", "continue"), any_length=True, **common, **_of_codes(config))
    assert isinstance(config, DiffusionConfig)
    return Form(("generate", "vary", "inpaint", "continue"), any_length=False, **common, **_of_diffusion(config))


def _of_codes(config: LMConfig) -> Mapping[str, Any]:
    own = config.sampling
    main = [
        Setting("temperature", "Temperature", own.temperature, hint="0: always the likeliest code"),
        Setting("top_k", "Top-k", own.top_k, whole=True, hint="of the likeliest codes; 0: all"),
        Setting("top_p", "Top-p", own.top_p, hint="their probability; 0: as top-k says"),
    ]
    if config.guides:
        main.append(Setting("cfg", "CFG", own.guidance, hint="guidance; 1: none"))
    return {"samplers": (), "sampler": None, "main": tuple(main), "guidance": ()}


def _of_diffusion(config: DiffusionConfig) -> Mapping[str, Any]:
    sampling, own = config.default_sampling, config.default_guidance
    main = [Setting("steps", "Steps", sampling.steps, whole=True, hint="more take longer")]
    guidance: tuple[Setting, ...] = ()
    if config.guides:
        main.append(Setting("cfg", "CFG", own.scale, hint="guidance; 1: none"))
        guidance = (
            Setting("rescale", "Rescale", own.rescale, hint="0 to 1"),
            Setting("apg", "APG", own.apg, hint="0 to 1"),
            Setting("norm_threshold", "Norm threshold", own.norm_threshold, hint="0: any norm"),
            Setting("interval_from", "Acts from sigma", own.interval[0], hint="noise level"),
            Setting("interval_to", "Acts up to sigma", own.interval[1], hint="noise level"),
        )
    samplers = get_args(FlowSampler if isinstance(sampling, FlowSampling) else VSampler)
    return {"samplers": samplers, "sampler": sampling.sampler, "main": tuple(main), "guidance": guidance}


def _field(config: AudioConfig, key: str) -> Field:
    each = config.conditioning.conditioners[key]
    ready = key in config.conditioning.pre_encoded_keys
    if isinstance(each, _TEXTS) and not ready:
        return Field(key, "text")
    if isinstance(each, CLAPTextConfig | PrecomputedConfig) and each.file is not None and not ready:
        return Field(key, "text", hint="one of the texts whose features the model has")
    if isinstance(each, ListConfig) and not ready:
        return Field(key, "choice", each.options, each.options[0])
    if isinstance(each, IntConfig | NumberConfig) and not ready:
        derived = key in DERIVED
        hint = f"{each.min_val:g} to {each.max_val:g}{'; empty: from the length' if derived else ''}"
        value = None if derived else each.min_val
        return Field(key, "whole" if isinstance(each, IntConfig) else "number", (), value, hint)
    name = type(each).__name__.removesuffix("Config")
    raise InputError(f"{key}: the page has no field for what a conditioner of kind {name} takes; use Python")
