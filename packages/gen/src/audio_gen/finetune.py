"""Fine-tuning: a training that begins with a bundle's weights, of all of them or of low-rank adapters beside them.

Adversarial post-training is one, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audio_core import config
from audio_core.files import InputError
from torch import nn

from . import PACKAGE
from .adapters import adapt, divided, merge, network
from .config import DiffusionConfig
from .config.arc import PROMPT
from .config.backbones import DiTConfig
from .config.discriminators import ConvHeadConfig, ConvNeXtHeadConfig
from .recipe import Recipe

# Unlike those of a training from the beginning.
_PLAN: dict[str, Any] = {
    "steps": 2000,
    "evaluate_every": 500,
    "save_every": 500,
    "schedule": {"kind": "Constant", "warmup": 50},
}

_ARC_RATES = {"model": 5e-5, "discriminator": 2e-4}
"""Of post-training."""


def recipe_for(
    path: str, settings: Sequence[str], rank: int | None = None, method: str = "lora", arc: bool = False
) -> Recipe:
    """The plan of fine-tuning a bundle, or with `arc` of post-training it, with `settings` on top."""
    model = PACKAGE.model(path)
    rate = 1e-5 if rank is None else 1e-4
    values: dict[str, Any] = {
        **_PLAN,
        "model": {"kind": config.kind(type(model.config)), **config.plain(model.config)},
        "start": path if path in PACKAGE.shipped or not Path(path).exists() else str(Path(path).resolve()),
        "optimizer": {"lr": rate, "weight_decay": 0.0},
        "average": 0.0,
        "adapter": None if rank is None else {"rank": rank, "method": method},
        **(_adversarial(model.config) if arc else {}),
    }
    return config.build(Recipe, values, settings)


def _adversarial(model: Any) -> dict[str, Any]:
    """The settings of post-training, with a discriminator that fits the model."""
    if not (isinstance(model, DiffusionConfig) and isinstance(model.backbone, DiTConfig)):
        raise InputError("arc: post-trains diffusion models whose backbone is a DiT, and this is another model")
    usual = {"kind": "AdamW", "betas": [0.0, 0.99], "weight_decay": 0.0}
    optimizers = {player: {**usual, "lr": rate} for player, rate in _ARC_RATES.items()}
    long = model.frames // model.backbone.patch_size >= ConvNeXtHeadConfig().least
    return {
        "arc": {
            "discriminator": {
                "dit_hidden_layer": 3 * model.backbone.depth // 4,
                "head": {"kind": config.kind(ConvNeXtHeadConfig if long else ConvHeadConfig)},
                "contrastive": PROMPT in model.conditioning.conditioners,
                "include_grad_penalties": True,
            },
            "noise_dist": {"generator": {"kind": "LogSNRUniform"}, "discriminator": {"kind": "TruncLogitNormal"}},
            "optimizer": optimizers["discriminator"],
            "schedule": _PLAN["schedule"],
        },
        "optimizer": optimizers["model"],
        "cfg_dropout": 0.0,  # the result is sampled without guidance
        "average": 0.999,
    }


def merged(path: str, adapters: Sequence[str], out: Path, force: bool = False) -> nn.Module:
    """A bundle with adapters folded into its weights."""
    model = PACKAGE.model(path)
    adapt(model, adapters)
    merge(network(model))
    names = ", ".join(Path(divided(text)[0]).name for text in adapters)
    card = PACKAGE.card(
        "Fine-tuned model", f"The model {path} with the adapters {names}.", "As of the model and of the adapters."
    )
    PACKAGE.save(model, out, card, force)
    return model
