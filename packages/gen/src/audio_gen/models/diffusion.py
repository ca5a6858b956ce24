"""Diffusion models as a whole: conditioners, backbone and, when audio is wanted, a codec that is installed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from audio_core import codec as codecs
from audio_core.codec import Codec
from audio_core.files import InputError
from torch import Tensor, nn

from ..conditioners.base import Condition, held_outside
from ..conditioners.multi import Item, MultiConditioner, assembled
from ..config import DiffusionConfig
from ..config.backbones import DiTConfig
from ..config.conditioners import CodecSource
from ..config.models import INPAINT_IDS
from ..config.unets import DanceDiffusionUNetConfig
from ..diffusion import objectives
from .adp import ADPUNet
from .dance_diffusion import DanceDiffusionUNet
from .dit import DiT
from .guidance import Conditions, dropped


class Diffusion(nn.Module):
    """Unconditional, conditioned and inpainting models alike. Latents (B, C, T) are those of the codec over `scale`."""

    Config = DiffusionConfig
    codec: Codec | None

    def __init__(self, config: DiffusionConfig):
        super().__init__()
        self.config = config
        backbone = config.backbone
        self.backbone: nn.Module
        if isinstance(backbone, DiTConfig):
            self.backbone = DiT(backbone)
        elif isinstance(backbone, DanceDiffusionUNetConfig):
            self.backbone = DanceDiffusionUNet(backbone)
        else:
            self.backbone = ADPUNet(backbone)
        self.conditioner = MultiConditioner(config.conditioning)
        self.objective = objectives.build(config.objective)
        held_outside(self, "codec", None)

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
    ) -> Conditions:
        """The arguments of the backbone that describe the items."""
        config = self.config
        values = {**self.conditioner(items, device)}
        values |= {key: Condition(value, None) for key, value in (extra or {}).items()}
        given: dict[str, Any] = assembled(
            values,
            config.cross_attention_cond_ids,
            config.global_cond_ids,
            config.input_concat_ids,
            config.prepend_cond_ids,
            config.masks,
        )
        return given | ({"padding_mask": padding} if config.masks and padding is not None else {})

    # --- audio and latents -------------------------------------------------------------------------------------

    def load_codec(self, device: torch.device | None = None) -> Codec | None:
        """The codec, loaded when it is first wanted; None where there is none."""
        source = self.config.codec
        if self.codec is None and source is not None:
            held_outside(self, "codec", open_codec(source, self.config))
        if device is not None and isinstance(self.codec, nn.Module):
            self.codec.to(device)
        return self.codec

    def decode(self, latents: Tensor, samples: int) -> Tensor:
        """Latents as the network has them -> audio (B, C, samples)."""
        codec = self.load_codec(latents.device)
        if codec is None:
            if self.config.hop > 1:
                raise InputError("codec: this model has none, so it gives latents alone; ask for them")
            return latents[..., :samples]
        frames = codec.frames(samples)
        return codec.decode(latents[..., :frames] * self.config.scale, samples)

    def encode(self, audio: Tensor) -> Tensor:
        """Audio (B, C, T) of the model's rate and channels -> latents as the network has them."""
        codec = self.load_codec(audio.device)
        if codec is None and self.config.hop > 1:
            raise InputError("codec: this model has none, so it cannot take audio")
        return audio if codec is None else codec.encode(audio) / self.config.scale


def open_codec(source: CodecSource, config: DiffusionConfig) -> Codec:
    """The codec of a model, which must be the one that it has learnt with."""
    codec = codecs.find(source.name)(source.path)
    if isinstance(codec, nn.Module):
        codec.eval().requires_grad_(False)
    name = f"codec {source.name} {source.path}"
    wanted = {"sample_rate": config.rate, "channels": config.channels, "hop": config.hop, "width": config.width}
    for attribute, value in wanted.items():
        if (found := getattr(codec, attribute)) != value:
            raise InputError(f"{name}: has a {attribute} of {found}, and the model needs {value}")
    if source.fingerprint and codec.fingerprint().hex() != source.fingerprint:
        found = codec.fingerprint().hex()
        raise InputError(
            f"{name}: is another codec ({found}) than the model has learnt with ({source.fingerprint}), and would "
            "make noise of its latents; give the right one"
        )
    return codec


def inpainting(latents: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """What an inpainting model takes beside its input: a mask (B, 1, T), 1 where latents are given, and these."""
    return dict(zip(INPAINT_IDS, (mask, latents * mask), strict=True))
