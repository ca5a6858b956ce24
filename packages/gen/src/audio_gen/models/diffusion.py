"""Diffusion models as a whole: conditioners, backbone and, when audio is wanted, a codec that is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from audio_core.files import InputError
from torch import Tensor

from ..config import DiffusionConfig
from ..config.models import INPAINT_IDS
from ..diffusion import objectives
from . import backbones
from .adp import ADPUNet
from .conditioners.base import Condition
from .conditioners.latents import LatentConditioner
from .conditioners.multi import Item, MultiConditioner, assembled
from .guidance import Conditions, dropped
from .with_codec import WithCodec


class Diffusion(WithCodec):
    """Unconditional, conditioned and inpainting models alike. Latents (B, C, T) are those of the codec over `scale`."""

    Config = DiffusionConfig
    config: DiffusionConfig

    def __init__(self, config: DiffusionConfig):
        super().__init__(config)
        self.backbone = backbones.build(config.backbone)
        self.conditioner = MultiConditioner(config.conditioning)
        self.objective = objectives.build(config.objective)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        items: Sequence[Item],
        extra: Mapping[str, Tensor] | None = None,
        chosen: Tensor | None = None,
        padding: Tensor | None = None,
    ) -> Tensor:
        """What the network predicts of x (B, C, T) at times t (B,), under the conditions of `items`.

        `extra` has conditions that are tensors, such as those of inpainting. `chosen` (B, kinds of tokens) are left
        out. `padding` (B, T) is true in real frames.
        """
        conditions = self.conditions(items, x.device, extra, padding)
        return self.backbone(x, t, **(conditions if chosen is None else dropped(conditions, chosen, self.null)))

    def null(self, tokens: Tensor) -> Tensor:
        """What the backbone sees in place of tokens that are left out."""
        return self.backbone.null_tokens(tokens) if isinstance(self.backbone, ADPUNet) else torch.zeros_like(tokens)

    def conditions(
        self,
        items: Sequence[Item],
        device: torch.device,
        extra: Mapping[str, Tensor] | None = None,
        padding: Tensor | None = None,
        masks: bool = False,
    ) -> Conditions:
        """The arguments of the backbone that describe the items; with `masks` which tokens are real, in any model."""
        config = self.config
        if any(isinstance(each, LatentConditioner) for each in self.conditioner.modules()):
            self.load_codec(device)
        values = {**self.conditioner(items, device)}
        values |= {key: Condition(value, None) for key, value in (extra or {}).items()}
        given: dict[str, Any] = assembled(
            values,
            config.cross_attention_cond_ids,
            config.global_cond_ids,
            config.input_concat_ids,
            config.prepend_cond_ids,
            config.masks or masks,
        )
        return given | ({"padding_mask": padding} if config.masks and padding is not None else {})

    # --- audio and latents -------------------------------------------------------------------------------------

    def decode(self, latents: Tensor, samples: int) -> Tensor:
        """Latents as the network has them -> audio (B, C, samples)."""
        codec = self.load_codec(latents.device)
        if codec is None:
            if self.config.hop > 1:
                raise InputError("codec: this model has none, so it gives latents alone; ask for them")
            return latents[..., :samples]
        return codec.decode(latents[..., : codec.frames(samples)] * self.config.scale, samples)

    def encode(self, audio: Tensor) -> Tensor:
        """Audio (B, C, T) of the model's rate and channels -> latents as the network has them."""
        codec = self.load_codec(audio.device)
        if codec is None and self.config.hop > 1:
            raise InputError("codec: this model has none, so it cannot take audio")
        return audio if codec is None else codec.encode(audio) / self.config.scale


def inpainting(latents: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """What an inpainting model takes beside its input: a mask (B, 1, T), 1 where latents are given, and these."""
    return dict(zip(INPAINT_IDS, (mask, latents * mask), strict=True))
