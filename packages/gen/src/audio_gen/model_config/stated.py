"""What a configuration of stable-audio-tools comes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from audio_core import config

from ..config import DiffusionConfig, LMConfig
from ..config.diffusion_autoencoder import DiffusionAutoencoderConfig

Settled = DiffusionConfig | DiffusionAutoencoderConfig | LMConfig
"""The configuration of a model."""
_CLASSES: dict[str, type[Any]] = {"lm": LMConfig, "diffusion_autoencoder": DiffusionAutoencoderConfig}
"""By the original's `model_type`; all others are of diffusion."""


@dataclass(frozen=True)
class ModelConfig:
    """What is stated of a model and its training, as plain data of ours: settings may still add to it."""

    kind: str
    """The original's `model_type`."""
    model: dict[str, Any]
    has_codec: bool
    """Whether the model generates latents, which a codec makes audio of."""
    training: dict[str, Any] = field(default_factory=dict)
    """The settings of a recipe that are no model."""
    remarks: tuple[str, ...] = ()
    """What to know, a line each."""

    def settled(self, settings: Sequence[str] = ()) -> Settled:
        """The model with `settings` on top, such as codec.name=codec-vae."""
        return config.build(_CLASSES.get(self.kind, DiffusionConfig), self.model, settings)
