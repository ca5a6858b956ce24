"""The language model of codes: a causal transformer that predicts the next step of a codebook pattern.

Codes are (B, K, T), for each of K codebooks from 0 to below `codebook_size`. All conditions are optional:

    cross_attn_cond (B, N, W)     tokens for cross-attention
    cross_attn_mask (B, N)        which of them are real; without it all count, those of padding too
    prepend_cond (B, P, W)        tokens before the sequence
    prepend_cond_mask (B, P)      which of them are real
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from audio_core.dsp.precision import full_precision
from torch import Tensor, nn

from ..config.language import LanguageModelConfig
from ..diffusion.objectives import least_one
from .conditions import expect, projection
from .guidance import dropped
from .linear import Linear
from .patterns import Pattern, pattern
from .transformer import Cache, ContinuousTransformer


class Loss(NamedTuple):
    total: Tensor  # (), the mean over codebooks
    codebooks: Tensor  # (K,)


class LanguageModel(nn.Module):
    Config = LanguageModelConfig

    def __init__(self, config: LanguageModelConfig):
        super().__init__()
        self.config = config
        width = config.embed_dim
        self.special = config.codebook_size
        """The token of where there is no code."""
        tables = (nn.Embedding(config.codebook_size + 1, width) for _ in range(config.codebooks))
        self.embeds = nn.ModuleList(tables)
        if config.cross_attn_cond_dim and config.project_cross_attn_cond:
            self.to_cross_attn_embed = projection(config.cross_attn_cond_dim, width)
        if config.prepend_cond_dim:
            self.to_prepend_embed = projection(config.prepend_cond_dim, width)
        self.transformer = ContinuousTransformer(
            config.transformer, width, config.depth, config.dim_heads, width, width, config.context_width
        )
        self.quantizer_heads = nn.ModuleList(Linear(width, config.codebook_size) for _ in range(config.codebooks))

    def pattern(self, frames: int) -> Pattern:
        return pattern(self.config.pattern, self.config.codebooks, frames)

    def forward(self, codes: Tensor, **conditions: Tensor | None) -> tuple[Tensor, Tensor]:
        """Logits of codes (B, K, T), each seeing what comes before it in the pattern: (B, K, T, codebook size).

        With them the mask (K, T): the pattern's last codes are not predicted in training, and have logits of 0.
        """
        laid_out = self.pattern(codes.shape[2])
        sequence = laid_out.build(codes, self.special, whole=False)
        return laid_out.revert(self.heads(self.hidden(sequence, **conditions)))

    def hidden(
        self,
        sequence: Tensor,
        cross_attn_cond: Tensor | None = None,
        cross_attn_mask: Tensor | None = None,
        prepend_cond: Tensor | None = None,
        prepend_cond_mask: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """What the transformer makes of a sequence (B, K, S) of codes and special tokens: (B, S, width).

        With a cache the sequence goes on from those before, and conditions come with the first.
        """
        x = sum(embed(tokens) for embed, tokens in zip(self.embeds, sequence.unbind(1), strict=True))
        y = self.transformer(
            x,
            self._projected("prepend", prepend_cond),
            self._projected("cross_attn", cross_attn_cond),
            prepended_valid=prepend_cond_mask,
            context_valid=cross_attn_mask,
            cache=cache,
        )
        return y[:, -sequence.shape[2] :]

    def heads(self, hidden: Tensor) -> Tensor:
        """(B, S, width) -> logits of the step after each, (B, K, S, codebook size)."""
        return torch.stack([head(hidden) for head in self.quantizer_heads], 1)

    def loss(
        self,
        codes: Tensor,
        valid: Tensor | None = None,
        chosen: Tensor | None = None,
        **conditions: Tensor | None,
    ) -> Loss:
        """Of predicting codes (B, K, T) in the frames that are real, `valid` (B, T); None: all are.

        `chosen` (B, kinds of tokens) are left out, for guidance to build on.
        The model sees no code of a frame that is not real, as if the item had ended before.
        """
        if valid is not None:
            codes = codes.masked_fill(~valid[:, None], self.special)
        logits, mask = self(codes, **(conditions if chosen is None else dropped(conditions, chosen)))
        mask = mask.expand_as(codes)
        return cross_entropies(logits, codes, mask if valid is None else mask & valid[:, None])

    def _projected(self, name: str, tokens: Tensor | None) -> Tensor | None:
        """Tokens in the transformer's width, unless they keep their own. Those of zeros stay zeros."""
        if tokens is None:
            return None
        expect(f"{name}_cond", tokens, getattr(self.config, f"{name}_cond_dim"), -1)
        tokens = tokens.to(self.embeds[0].weight.dtype)
        layers = getattr(self, f"to_{name}_embed", None)
        return tokens if layers is None else layers(tokens)


@full_precision
def cross_entropies(logits: Tensor, codes: Tensor, mask: Tensor) -> Loss:
    """Of logits (B, K, T, N) for codes (B, K, T), over the positions of each codebook where mask (B, K, T) is true.

    Every codebook counts the same, however many of its positions are masked; one without any has the loss 0.
    """
    targets = torch.where(mask, codes, -1)
    each = F.cross_entropy(logits.flatten(0, 2), targets.flatten(), ignore_index=-1, reduction="none").view_as(codes)
    codebooks = each.sum((0, 2)) / least_one(mask.sum((0, 2)))
    return Loss(codebooks.mean(), codebooks)
