"""Language models as a whole: conditioners, the network on codes and, when audio is wanted, a discrete codec."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from audio_core.files import InputError
from torch import Tensor

from ..config import LMConfig
from .conditioners.multi import Item, MultiConditioner, assembled
from .guidance import Conditions
from .language import LanguageModel, Loss
from .with_codec import WithCodec


class LM(WithCodec):
    """Codes (B, K, T) are those of the codec's first K codebooks."""

    Config = LMConfig
    config: LMConfig

    def __init__(self, config: LMConfig):
        super().__init__(config)
        self.lm = LanguageModel(config.lm)
        self.conditioner = MultiConditioner(config.conditioning)

    def forward(
        self, codes: Tensor, items: Sequence[Item], valid: Tensor | None = None, chosen: Tensor | None = None
    ) -> Loss:
        """The loss of predicting codes (B, K, T) under the conditions of `items`.

        `valid` (B, T) is true in real frames. `chosen` (B, kinds of tokens) are left out.
        """
        return self.lm.loss(codes, valid, chosen, **self.conditions(items, codes.device))

    def conditions(self, items: Sequence[Item], device: torch.device, masks: bool = False) -> Conditions:
        """The arguments of the network that describe the items; with `masks` which tokens are real, in any model."""
        config = self.config
        values = self.conditioner(items, device)
        masked = config.masks or masks
        return assembled(
            values, config.cross_attention_cond_ids, prepend_cond_ids=config.prepend_cond_ids, masks=masked
        )

    # --- audio and codes -------------------------------------------------------------------------------------

    def decode(self, codes: Tensor, samples: int) -> Tensor:
        """Codes (B, K, T) -> audio (B, C, samples)."""
        codec = self.load_codec(codes.device)
        if codec is None:
            raise InputError("codec: this model has none, so it gives codes alone; ask for them")
        return codec.decode(codec.from_codes(codes[..., : codec.frames(samples)]), samples)

    def encode(self, audio: Tensor) -> Tensor:
        """Audio (B, C, T) of the model's rate and channels -> codes."""
        codec = self.load_codec(audio.device)
        if codec is None:
            raise InputError("codec: this model has none, so it cannot take audio")
        return codec.codes(audio, self.config.lm.codebooks)
