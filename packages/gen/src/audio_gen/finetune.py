"""Fine-tuning: a training that begins with a bundle's weights, of all of them or of low-rank adapters beside them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from audio_core import config
from torch import nn

from . import PACKAGE
from .adapters import adapt, divided, merge, network
from .recipe import Recipe

# Unlike those of a training from the beginning.
_PLAN: dict[str, Any] = {
    "steps": 2000,
    "evaluate_every": 500,
    "save_every": 500,
    "schedule": {"kind": "Constant", "warmup": 50},
}


def recipe_for(path: str, settings: Sequence[str], rank: int | None = None, method: str = "lora") -> Recipe:
    """The plan of fine-tuning a bundle, with `settings` such as data.root=latents on top."""
    model = PACKAGE.model(path)
    rate = 1e-5 if rank is None else 1e-4
    values: dict[str, Any] = {
        **_PLAN,
        "model": {"kind": config.kind(type(model.config)), **config.plain(model.config)},
        "start": path if path in PACKAGE.shipped or not Path(path).exists() else str(Path(path).resolve()),
        "optimizer": {"lr": rate, "weight_decay": 0.0},
        "average": 0.0,
        "adapter": None if rank is None else {"rank": rank, "method": method},
    }
    return config.build(Recipe, values, settings)


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
