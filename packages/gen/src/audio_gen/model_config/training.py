"""The `training` of a model_config.json -> settings of our recipes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from audio_core import config
from audio_core.files import InputError
from audio_core.train.stated import Learning, build, learning

from ..config.masks import MaskConfig
from ..config.timesteps import LogitNormalConfig, LogSNRConfig, TruncLogitNormalConfig, UniformConfig
from .post_training import post_training

_DECAY, _LM_DECAY = 0.9999, 0.99  # the largest, of averaged weights
_SAMPLERS: dict[str, Any] = {
    "uniform": UniformConfig,
    "logit_normal": LogitNormalConfig,
    "trunc_logit_normal": TruncLogitNormalConfig,
    "log_snr": LogSNRConfig,
}
# What no recipe holds, and why.
_LEFT_OUT = {
    "demo": "`generate` makes examples",
    "log_loss_info": "evaluations tell the loss at several noise levels",
    "trim_config": "items are not cut to the length of one of them",
    "use_reconstruction_loss": "only the error of the estimate is learnt by",
}


@dataclass(frozen=True)
class Both:
    diffusion: Learning
    discriminator: Learning | None = None
    """Of ARC."""


@dataclass(frozen=True, kw_only=True)
class Inpainting:
    mask_kwargs: MaskConfig = field(default_factory=MaskConfig)


@dataclass(frozen=True)
class Alone:
    lm: Learning


@dataclass(frozen=True, kw_only=True)
class LMTraining:
    """Of a language model."""

    learning_rate: float | None = None
    optimizer_configs: Alone | None = None
    use_ema: bool = False
    pre_encoded: bool = False
    demo: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Training:
    learning_rate: float | None = None
    optimizer_configs: Both | None = None
    use_ema: bool = True
    pre_encoded: bool = False
    cfg_dropout_prob: float = 0.1
    timestep_sampler: Literal["uniform", "logit_normal", "trunc_logit_normal", "log_snr"] = "uniform"
    timestep_sampler_options: dict[str, Any] = field(default_factory=dict)
    p_one_shot: float = 0.0
    mask_padding: bool = False
    mask_padding_dropout: float = 0.0
    inpainting: Inpainting | None = None
    clip_grad_norm: float = 0.0
    use_reconstruction_loss: bool = False
    log_loss_info: bool = False
    demo: dict[str, Any] | None = None
    arc: dict[str, Any] | None = None
    trim_config: dict[str, Any] | None = None
    """Of ARC."""


def settings(data: Mapping[str, Any], averages: bool) -> tuple[dict[str, Any], list[str]]:
    """Settings of a recipe as plain data, and remarks; with `averages` weights are averaged, whatever is stated."""
    stated = build(Training, data, "training")
    sampler, options = _SAMPLERS[stated.timestep_sampler], stated.timestep_sampler_options
    distribution = build(sampler, options, "training.timestep_sampler_options")
    plain: dict[str, Any] = {
        "timesteps": {
            "distribution": {"kind": config.kind(sampler), **config.plain(distribution)},
            "p_one_shot": stated.p_one_shot,
        },
        "cfg_dropout": stated.cfg_dropout_prob,
        "mask_padding": stated.mask_padding,
        "mask_padding_dropout": stated.mask_padding_dropout,
        "clip": stated.clip_grad_norm,
        "average": _DECAY if stated.use_ema or averages else 0.0,
        **_learning(stated, {"kind": "Adam"}),
    }
    if stated.inpainting:
        plain["inpainting"] = config.plain(stated.inpainting.mask_kwargs)
    if stated.arc is None:
        return plain, _remarks(stated)
    both = stated.optimizer_configs
    plain["arc"], remarks = post_training(stated.arc, both.discriminator if both else None)
    return plain, _remarks(stated) + remarks


def language_settings(data: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """As `settings`, of a language model."""
    stated = build(LMTraining, data, "training")
    usual = {"kind": "AdamW", "betas": [0.9, 0.95], "weight_decay": 0.1}
    plain = {"cfg_dropout": 0.1, "average": _LM_DECAY if stated.use_ema else 0.0, **_learning(stated, usual)}
    return plain, _remarks(stated)


def _remarks(stated: Training | LMTraining) -> list[str]:
    left_out = {name: why for name, why in _LEFT_OUT.items() if getattr(stated, name, None)}
    remarks = [f"training.{name}: is left out; {why}" for name, why in left_out.items()]
    if stated.pre_encoded:
        remarks.append("training.pre_encoded: data.root is a folder that a codec's `preencode` has written")
    return remarks


def _learning(stated: Training | LMTraining, usual: Mapping[str, Any]) -> dict[str, Any]:
    """The optimizer and its schedule; `usual` is what a learning rate alone means."""
    configs = stated.optimizer_configs
    if configs:
        name, of = ("lm", configs.lm) if isinstance(configs, Alone) else ("diffusion", configs.diffusion)
        optimizer, schedule = learning(of, f"training.optimizer_configs.{name}")
        return {"optimizer": optimizer, "schedule": schedule}
    if stated.learning_rate is None:
        raise InputError("training.learning_rate: is missing, and there are no optimizer_configs")
    return {"optimizer": {**usual, "lr": stated.learning_rate}, "schedule": {"kind": "Constant"}}
