"""The settings of adversarial relativistic-contrastive post-training (ARC, arXiv 2505.08175), without torch.

A rectified flow becomes a model of few steps. Names are those of the original's JSON where it has them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from audio_core.train.optimize import SGD, Adam, AdamW, Constant, Cosine, InverseLR, Staircase

from .backbones import DiTConfig
from .discriminators import ArcDiscriminatorConfig, ConvHeadConfig
from .models import DiffusionConfig
from .timesteps import Distribution, UniformConfig

PROMPT = "prompt"
"""The condition that contrastive pairs take from their neighbours."""


@dataclass(frozen=True, kw_only=True)
class NoiseConfig:
    """The noise levels of both players."""

    generator: Distribution = field(default_factory=UniformConfig)
    """At which the model estimates an item in one step."""
    discriminator: Distribution = field(default_factory=UniformConfig)
    """At which the item and its estimate are compared."""


@dataclass(frozen=True, kw_only=True)
class ArcConfig:
    """Noise levels are those of `noise_dist`, and not of the recipe's `timesteps`."""

    discriminator: ArcDiscriminatorConfig
    noise_dist: NoiseConfig = field(default_factory=NoiseConfig)
    optimizer: AdamW | Adam | SGD = field(default_factory=lambda: AdamW(5e-5, (0.9, 0.999), weight_decay=1e-3))
    """Of the discriminator."""
    schedule: InverseLR | Staircase | Cosine | Constant = field(default_factory=InverseLR)
    """Of the discriminator, by its own updates."""

    def expect_possible(self, model: Any) -> None:
        """Refuse models that cannot be post-trained so."""
        if not isinstance(model, DiffusionConfig) or model.objective == "v":
            raise ValueError("arc: post-trains rectified flows; model.objective must be rectified_flow or rf_denoiser")
        backbone, settings, head = model.backbone, self.discriminator, self.discriminator.head
        if not isinstance(backbone, DiTConfig):
            raise ValueError("arc: the discriminator is a diffusion transformer; model.backbone must be a DiT")
        if settings.dit_hidden_layer >= backbone.depth:
            layer, last = settings.dit_hidden_layer, backbone.depth - 1
            raise ValueError(f"arc.discriminator.dit_hidden_layer: is {layer}, and the last block is {last}")
        positions = model.frames // backbone.patch_size
        if positions < head.least:
            raise ValueError(f"arc.discriminator.head: needs {head.least} positions, and there are {positions}")
        if isinstance(head, ConvHeadConfig) and backbone.embed_dim % head.groups:
            width = backbone.embed_dim
            raise ValueError(f"arc.discriminator.head: needs a multiple of {head.groups} channels, got {width}")
        if settings.contrastive and PROMPT not in model.conditioning.conditioners:
            raise ValueError(f"arc.discriminator.contrastive: takes other prompts, and no conditioner is {PROMPT!r}")
