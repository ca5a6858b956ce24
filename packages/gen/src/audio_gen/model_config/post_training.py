"""`training.arc` of a model_config.json, adversarial post-training -> settings of our recipes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from audio_core import config
from audio_core.files import InputError
from audio_core.train.stated import Learning, build, learning

from ..config.discriminators import ArcWeights, ConvHeadConfig, ConvNeXtHeadConfig
from ..config.timesteps import (
    ConstantConfig,
    Distribution,
    LogitNormalConfig,
    LogSNRUniformConfig,
    TruncLogitNormalConfig,
    UniformConfig,
)

Level = Literal["uniform", "logit_normal", "trunc_logit_normal", "one_shot", "denoised", "logsnr_uniform"]
_LEVELS: Mapping[str, Distribution] = {
    "uniform": UniformConfig(),
    "logit_normal": LogitNormalConfig(),
    "trunc_logit_normal": TruncLogitNormalConfig(),
    "one_shot": ConstantConfig(1.0),
    "denoised": ConstantConfig(0.0),
    "logsnr_uniform": LogSNRUniformConfig(),
}
_HEADS: Mapping[str, Any] = {"convnext": ConvNeXtHeadConfig, "conv": ConvHeadConfig}
# What no recipe holds, and why.
_LEFT_OUT = {
    "ode_warmup": "there is no warm-up by a teacher",
    "use_model_as_teacher": "there is no teacher",
    "teacher_model": "there is no teacher",
    "teacher_model_ckpt": "there is no teacher",
    "discriminator_base_model": "the discriminator begins as a copy of the model",
    "discriminator_base_ckpt": "the discriminator begins as a copy of the model",
}


@dataclass(frozen=True, kw_only=True)
class Noise:
    generator: Level = "uniform"
    discriminator: Level = "uniform"


@dataclass(frozen=True, kw_only=True)
class Discriminator:
    dit_hidden_layer: int
    type: Literal["convnext", "conv"] = "convnext"
    config: dict[str, Any] = field(default_factory=dict)
    contrastive: bool = False
    include_grad_penalties: bool = False
    weights: ArcWeights = field(default_factory=ArcWeights)


@dataclass(frozen=True, kw_only=True)
class Arc:
    discriminator: Discriminator
    noise_dist: Noise = field(default_factory=Noise)
    ode_warmup: dict[str, Any] | None = None
    use_model_as_teacher: bool = False
    teacher_model: dict[str, Any] | None = None
    teacher_model_ckpt: str | None = None
    use_model_as_discriminator: bool = False
    discriminator_base_model: dict[str, Any] | None = None
    discriminator_base_ckpt: str | None = None


def post_training(data: Mapping[str, Any], optimizer: Learning | None) -> tuple[dict[str, Any], list[str]]:
    """The setting `arc` of a recipe as plain data, and remarks; `optimizer` is what is stated of the discriminator."""
    stated = build(Arc, data, "training.arc")
    if optimizer is None:
        raise InputError("training.optimizer_configs.discriminator: is missing, and training.arc needs it")
    discriminator, noise = stated.discriminator, stated.noise_dist
    head = build(_HEADS[discriminator.type], discriminator.config, "training.arc.discriminator.config")
    rate, schedule = learning(optimizer, "training.optimizer_configs.discriminator")
    plain = {
        "discriminator": {
            "dit_hidden_layer": discriminator.dit_hidden_layer,
            "head": _chosen(head),
            "contrastive": discriminator.contrastive,
            "include_grad_penalties": discriminator.include_grad_penalties,
            "weights": config.plain(discriminator.weights),
        },
        "noise_dist": {
            "generator": _chosen(_LEVELS[noise.generator]),
            "discriminator": _chosen(_LEVELS[noise.discriminator]),
        },
        "optimizer": rate,
        "schedule": schedule,
    }
    remarks = ["training.arc: post-trains a bundle, which start=FOLDER names"]
    for name, why in _LEFT_OUT.items():
        if getattr(stated, name):
            remarks.append(f"training.arc.{name}: is left out; {why}")
    return plain, remarks


def _chosen(value: Any) -> dict[str, Any]:
    return {"kind": config.kind(type(value)), **config.plain(value)}
