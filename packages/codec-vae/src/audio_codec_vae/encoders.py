"""Encoders that learn as a part of another package's model, such as a diffusion autoencoder of audio-gen.

They are found by name in the group `audio_core.encoders`, where `audio_core.codec` says what they have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from audio_core.files import InputError
from audio_core.train.stated import build as checked
from torch import Generator, Tensor, nn

from . import original
from .config import LearningEncoderConfig
from .model_config.parts import BOTTLENECKS, ENCODERS, Part, part
from .models import bottleneck
from .models.autoencoder import CODERS, audio_channels, encoder_width
from .recipe import Losses


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """As a model_config.json of stable-audio-tools states them."""

    encoder: Part
    bottleneck: Part | None = None


class LearningEncoder(nn.Module):
    """Audio to the code of a bottleneck: what `audio_core.codec` asks of an encoder."""

    def __init__(self, config: LearningEncoderConfig, weights: Mapping[str, float]):
        super().__init__()
        self.config, self.weights = config, weights
        self.encoder = CODERS[type(config.encoder)](config.encoder)
        self.bottleneck = bottleneck.build(config.bottleneck, encoder_width(config.encoder))
        self.channels, self.hop = audio_channels(config.encoder), self.encoder.ratio
        self.width = self.bottleneck.width
        if self.bottleneck.noise or getattr(config.bottleneck, "quantize_on_decode", False):
            raise InputError(
                "bottleneck: noise_augment_dim and quantize_on_decode change the code behind it; leave out"
            )
        for parameter in self.parameters():  # several processes would wait for the gradient of one without values
            parameter.requires_grad_(parameter.numel() > 0)
        with torch.no_grad():
            for parameter in self.encoder.parameters():  # as in the original, against saturation at first
                parameter *= 0.5

    def forward(self, audio: Tensor, seeds: Sequence[int] | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Audio (B, C, T) -> code (B, W, F) and losses. Silence fills the last frame."""
        draws = None if seeds is None else [Generator().manual_seed(seed) for seed in seeds]
        encoded = self.bottleneck.encode(self.encoder(F.pad(audio, (0, -audio.shape[-1] % self.hop))), draws)
        return encoded.latents, encoded.losses

    def load_original(self, state: Mapping[str, Tensor], source: Path) -> None:
        """The weights `encoder.*` and `bottleneck.*` of stable-audio-tools, from the file `source`."""
        original.fill(self, self.config, state, source)


def build(parts: Mapping[str, Any]) -> LearningEncoder:
    """Of {"encoder": {"type": ..., "config": {...}}, "bottleneck": ...}, as stable-audio-tools states them."""
    stated = checked(_Parts, parts)
    for name in ("encoder", "bottleneck"):
        if not getattr(getattr(stated, name), "requires_grad", True):
            raise InputError(f"{name}.requires_grad: is off, and an encoder that does not learn is a codec here")
    encoder = part(ENCODERS, stated.encoder, "encoder")
    neck = part(BOTTLENECKS, stated.bottleneck, "bottleneck") if stated.bottleneck else None
    return LearningEncoder(LearningEncoderConfig(encoder=encoder, bottleneck=neck), _weights(stated.bottleneck))


def _weights(stated: Part | None) -> dict[str, float]:
    """Those with which an autoencoder learns by default; a configuration may state that of its codebooks."""
    usual = Losses()
    names = ("mmd", "softnorm", "commitment", "codebook", "quantizer")
    weights = {"kl": usual.kl.weight, **{name: getattr(usual, name) for name in names}}
    if stated and "commitment_weight" in (stated.config or {}):
        weights["quantizer"] = float((stated.config or {})["commitment_weight"])
        if weights["quantizer"] < 0:
            raise InputError(f"bottleneck.config.commitment_weight: is at least 0, got {weights['quantizer']:g}")
    return weights
