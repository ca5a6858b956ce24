"""The transformer of diffusion models and language models.

Positions are in this order: memory tokens, prepended tokens, the sequence. Shapes are (B, T, C).

A causal transformer can also go on from what it has seen. The outputs equal those of one call with the whole sequence:

    cache = transformer.start()
    y = transformer(first, prepended=tokens, context=text, cache=cache)
    y = transformer(next_, cache=cache)  # tokens and text are remembered
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..config.transformer import TransformerConfig
from .attention import (
    NO_MASK,
    AttentionMask,
    CrossAttention,
    KeyValueCache,
    SelfAttention,
    attention_mask,
)
from .feedforward import Conformer, FeedForward
from .linear import Linear
from .norms import DynamicTanh, LayerNorm, LayerScale
from .positions import PositionTable, Rotation, Sinusoidal, rotation


@dataclass
class BlockCache:
    """What a block keeps: keys and values of the positions so far, and those of the context."""

    past: KeyValueCache = field(default_factory=KeyValueCache)
    context: list[Tensor] | None = None


@dataclass
class Cache:
    """What a causal transformer has seen. It belongs to one batch of sequences and changes in place."""

    blocks: list[BlockCache]
    positions: int = 0
    """Seen so far, with memory and prepended tokens."""
    valid: Tensor | None = None
    """(B, positions), true where they are real; None: all are."""
    context_mask: AttentionMask = NO_MASK

    def extend(
        self, x: Tensor, valid: Tensor | None, context_mask: AttentionMask
    ) -> tuple[Tensor | None, AttentionMask]:
        """Count the positions of x. Gives which of all positions are real, and the mask of the context."""
        if not self.positions:
            self.context_mask = context_mask
        if valid is not None or self.valid is not None:
            before, new = (
                x.new_ones(len(x), self.positions, dtype=torch.bool),
                x.new_ones(x.shape[:2], dtype=torch.bool),
            )
            parts = before if self.valid is None else self.valid, new if valid is None else valid
            self.valid = torch.cat(parts, 1)
        self.positions += x.shape[1]
        return self.valid, self.context_mask


class ContinuousTransformer(nn.Module):
    """Blocks of `width` channels with heads of `head` channels, between projections from `inputs` and to `outputs`.

    `context_width` is that of the context of cross-attention, `global_width` that of a vector which modulates all
    blocks (adaLN); 0: there is none.
    """

    def __init__(
        self,
        config: TransformerConfig,
        width: int,
        depth: int,
        head: int,
        inputs: int | None = None,
        outputs: int | None = None,
        context_width: int = 0,
        global_width: int = 0,
    ):
        super().__init__()
        config.check_head(head)
        self.config = config
        self.rotated = config.rotated(head)
        self.checkpointing = False
        """Training computes the inside of each block again for the gradients, instead of keeping it in memory."""
        self.project_in = Linear(inputs, width, bias=False) if inputs else nn.Identity()
        self.project_out = Linear(width, outputs, bias=False) if outputs else nn.Identity()
        if config.num_memory_tokens:
            self.memory_tokens = nn.Parameter(torch.randn(config.num_memory_tokens, width))
        self.adds_positions = config.use_sinusoidal_emb or config.use_abs_pos_emb
        if config.use_sinusoidal_emb:
            self.pos_emb: nn.Module = Sinusoidal(width)
        elif config.use_abs_pos_emb:
            self.pos_emb = PositionTable(width, config.abs_pos_emb_max_length)
        self.attends, self.modulated = bool(context_width), bool(global_width)
        if global_width:
            layers = Linear(global_width, width), nn.SiLU(), Linear(width, 6 * width)
            self.global_cond_embedder = nn.Sequential(*layers)
        last = depth - 1 if config.final_cross_attn_ix < 0 else config.final_cross_attn_ix
        self.layers = nn.ModuleList(
            TransformerBlock(config, width, head, context_width if at <= last else 0, self.modulated)
            for at in range(depth)
        )

    def start(self) -> Cache:
        """The cache before the first position."""
        if not self.config.causal:
            raise ValueError("only a causal transformer goes on from what it has seen")
        return Cache([BlockCache() for _ in self.layers])

    def forward(
        self,
        x: Tensor,
        prepended: Tensor | None = None,
        context: Tensor | None = None,
        global_cond: Tensor | None = None,
        *,
        valid: Tensor | None = None,
        prepended_valid: Tensor | None = None,
        context_valid: Tensor | None = None,
        exit_layer: int | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """x (B, T, inputs), prepended (B, P, width), context (B, N, context width), global_cond (B, global width).

        Gives (B, P + T, outputs), or with `exit_layer` (B, P + T, width) as that block leaves it. Attention passes over
        positions and tokens that are not valid: (B, T), (B, P) and (B, N), true where they are real.
        """
        self._expect(prepended, context, global_cond, exit_layer, cache)
        start = cache.positions if cache else 0
        memory = 0 if start else self.config.num_memory_tokens
        x, valid = self._sequence(x, prepended, valid, prepended_valid, memory)
        stop = start + x.shape[1]
        if self.adds_positions:
            x = x + self.pos_emb(start, stop).to(x.dtype)
        context_mask = NO_MASK if context_valid is None else AttentionMask(context_valid[:, None, None])
        seen = valid
        if cache:
            seen, context_mask = cache.extend(x, valid, context_mask)
        inputs = BlockInputs(
            self._rotation(start, stop, x.device),
            attention_mask(x.shape[1], stop, seen, self.config.causal, self.config.sliding_window, x.device),
            context,
            context_mask,
            None if global_cond is None else self.global_cond_embedder(global_cond),
            valid,
        )
        for at, block in enumerate(self.layers if exit_layer is None else self.layers[: exit_layer + 1]):
            if self.checkpointing and torch.is_grad_enabled():
                # Nothing in a block is random but the dropout of adapters.
                x = checkpoint(block, x, inputs, use_reentrant=False, preserve_rng_state=self.training)
            else:
                x = block(x, inputs, cache.blocks[at] if cache else None)
        x = x[:, memory:]
        return self.project_out(x) if exit_layer is None else x

    def _expect(
        self,
        prepended: Tensor | None,
        context: Tensor | None,
        global_cond: Tensor | None,
        exit_layer: int | None,
        cache: Cache | None,
    ) -> None:
        if context is not None and not self.attends:
            raise ValueError("the transformer has no cross-attention, and a context is given")
        if (global_cond is not None) is not self.modulated:
            raise ValueError(f"the transformer has {'' if self.modulated else 'no '}adaLN, which global_cond is for")
        if exit_layer is not None and not 0 <= exit_layer < len(self.layers):
            raise ValueError(f"exit_layer must be from 0 to {len(self.layers) - 1}, got {exit_layer}")
        if exit_layer is not None and cache:
            raise ValueError("a cache needs all blocks, so exit_layer cannot be given with it")
        if cache and cache.positions and not (prepended is context is None):
            raise ValueError("prepended tokens and context come with the first call of a cache")

    def _sequence(
        self, x: Tensor, prepended: Tensor | None, valid: Tensor | None, prepended_valid: Tensor | None, memory: int
    ) -> tuple[Tensor, Tensor | None]:
        """All positions in their order, and which of them are real; None: all are."""
        parts, masks = [self.project_in(x)], [valid]
        if prepended is not None:
            parts.insert(0, prepended)
            masks.insert(0, prepended_valid)
        if memory:
            parts.insert(0, self.memory_tokens.expand(len(x), -1, -1))
            masks.insert(0, None)
        if any(mask is not None for mask in masks):
            everywhere = [part.new_ones(part.shape[:2], dtype=torch.bool) for part in parts]
            valid = torch.cat([one if mask is None else mask for one, mask in zip(everywhere, masks, strict=True)], 1)
        return torch.cat(parts, 1) if len(parts) > 1 else parts[0], valid

    def _rotation(self, start: int, stop: int, device: torch.device) -> Rotation | None:
        if not self.rotated:
            return None
        factors = self.config.rotary_interpolation_factor, self.config.rotary_base_rescale_factor
        return rotation(torch.arange(start, stop, device=device), self.rotated, *factors)


class BlockInputs(NamedTuple):
    """What all blocks see beside the sequence."""

    rotation: Rotation | None
    mask: AttentionMask
    context: Tensor | None  # (B, N, context width)
    context_mask: AttentionMask
    modulation: Tensor | None  # (B, 6 width)
    valid: Tensor | None  # (B, T): which positions of the sequence are real


class TransformerBlock(nn.Module):
    """Adds attention, cross-attention, convolutions and a feed-forward layer to its input, each behind a norm.

    `modulation` scales and shifts the input of attention and of the feed-forward layer, and gates their outputs.
    """

    def __init__(self, config: TransformerConfig, width: int, head: int, context_width: int, modulated: bool):
        super().__init__()
        zero_init = config.zero_init_branch_outputs and not config.layer_scale

        def norm() -> nn.Module:
            return DynamicTanh(width) if config.remove_norms else LayerNorm(width, config.norm)

        def scale() -> nn.Module:
            return LayerScale(width) if config.layer_scale else nn.Identity()

        self.pre_norm = norm()
        self.self_attn = SelfAttention(width, head, config.attention, zero_init)
        self.self_attn_scale = scale()
        self.attends = bool(context_width)
        if context_width:
            self.cross_attend_norm = norm()
            self.cross_attn = CrossAttention(width, head, context_width, config.attention, zero_init)
            self.cross_attn_scale = scale()
        self.mixes = config.conformer
        if config.conformer:
            self.conformer = Conformer(width, config.norm)
            self.conformer_scale = scale()
        self.ff_norm = norm()
        self.ff = FeedForward(width, config.feed_forward, zero_init)
        self.ff_scale = scale()
        if modulated:  # gates begin near sigmoid(1) = 0.73
            self.to_scale_shift_gate = nn.Parameter(torch.randn(6 * width) / width**0.5)

    def forward(self, x: Tensor, inputs: BlockInputs, cache: BlockCache | None = None) -> Tensor:
        valid, modulations = inputs.valid, [None] * 6
        if inputs.modulation is not None:
            modulations = [*(self.to_scale_shift_gate + inputs.modulation)[:, None].chunk(6, 2)]
        y = _modulated(self.pre_norm(x), *modulations[:2])
        y = self.self_attn(y, inputs.rotation, inputs.mask, valid, cache and cache.past)
        x = x + self.self_attn_scale(_gated(y, modulations[2]))
        keys_values = self._context(inputs, cache)
        if keys_values is not None:
            y = self.cross_attn(self.cross_attend_norm(x), keys_values, inputs.context_mask, valid)
            x = x + self.cross_attn_scale(y)
        if self.mixes:
            x = x + self.conformer_scale(self.conformer(x, valid))
        y = self.ff(_modulated(self.ff_norm(x), *modulations[3:5]), valid)
        return x + self.ff_scale(_gated(y, modulations[5]))

    def _context(self, inputs: BlockInputs, cache: BlockCache | None) -> list[Tensor] | None:
        """Keys and values of the context, which are computed once for a cache."""
        if not self.attends or inputs.context is None:
            return cache.context if cache else None
        keys_values = self.cross_attn.keys_values(inputs.context)
        if cache:
            cache.context = keys_values
        return keys_values


def _modulated(x: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
    return x if scale is None else x * (1 + scale) + shift


def _gated(x: Tensor, gate: Tensor | None) -> Tensor:
    return x if gate is None else x * torch.sigmoid(1 - gate)
