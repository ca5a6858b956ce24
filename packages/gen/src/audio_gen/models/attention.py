"""Attention within a sequence and to a context, masks of what is seen, and memory of keys and values.

Shapes are (B, T, C), heads (B, H, T, D).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config.transformer import AttentionConfig
from .linear import Linear
from .norms import DynamicTanh, UnitLength
from .positions import Rotation


class AttentionMask(NamedTuple):
    """Which keys the queries see; all, unless something here says otherwise."""

    allowed: Tensor | None = None  # (B or 1, 1, T or 1, K): true where a query sees a key
    causal: bool = False  # query i sees the keys up to i; only where `allowed` is None


NO_MASK = AttentionMask()


def attention_mask(
    queries: int, keys: int, valid: Tensor | None, causal: bool, window: tuple[int, int] | None, device: torch.device
) -> AttentionMask:
    """For the last `queries` of `keys` positions: they see the valid ones (B, K), none later, none beyond a window."""
    if causal and window is None and valid is None and queries in (1, keys):
        return AttentionMask(causal=queries > 1)  # a single query is the last position
    masks = [] if valid is None else [valid[:, None, None]]
    if causal or window is not None:
        at = torch.arange(keys, device=device)
        ahead = at - at[keys - queries :, None]  # (T, K)
        if window is not None:
            masks.append(((ahead >= -window[0]) & (ahead <= window[1]))[None, None])
        if causal:
            masks.append((ahead <= 0)[None, None])
    return AttentionMask(functools.reduce(torch.logical_and, masks)) if masks else NO_MASK


class KeyValueCache:
    """Keys and values of the positions so far, (B, H, K, D) each. The room doubles when it is full."""

    def __init__(self) -> None:
        self.length = 0
        self._rooms: list[Tensor] = []

    def append(self, *parts: Tensor) -> list[Tensor]:
        """The new positions (B, H, T, D) of each part, behind those before."""
        start, self.length = self.length, self.length + parts[0].shape[2]
        if not self._rooms or self._rooms[0].shape[2] < self.length:
            self._rooms = [*self._grown(parts, start)]
        for room, part in zip(self._rooms, parts, strict=True):
            room[:, :, start : self.length] = part
        return [room[:, :, : self.length] for room in self._rooms]

    def _grown(self, parts: Iterable[Tensor], start: int) -> Iterable[Tensor]:
        for index, part in enumerate(parts):
            batch, heads, _, width = part.shape
            room = part.new_empty(batch, heads, 2 * self.length, width)
            if start:
                room[:, :, :start] = self._rooms[index][:, :, :start]
            yield room


class Attention(nn.Module):
    """What both kinds share: norms of queries and keys, the attention itself, the output.

    The output of differential attention is that of a first pair of queries and keys minus that of a second pair, over
    the same values.
    """

    def __init__(self, width: int, head: int, config: AttentionConfig, zero_init: bool):
        super().__init__()
        self.head = head
        self.pairs = 2 if config.differential else 1
        self.to_out = Linear(width, width, bias=False)
        if zero_init:
            nn.init.zeros_(self.to_out.weight)
        self.q_norm, self.k_norm = _head_norm(config.qk_norm, head), _head_norm(config.qk_norm, head)
        self.scales = config.feat_scale
        if config.feat_scale:
            self.lambda_dc = nn.Parameter(torch.zeros(width))
            self.lambda_hf = nn.Parameter(torch.zeros(width))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (-1, self.head)).transpose(1, 2)

    def _attend(self, queries: list[Tensor], keys: list[Tensor], v: Tensor, mask: AttentionMask) -> Tensor:
        """As many keys as queries, each (B, H, T, D) -> (B, T, C)."""
        outputs = [
            F.scaled_dot_product_attention(q, k, v, attn_mask=mask.allowed, is_causal=mask.causal)
            for q, k in zip(queries, keys, strict=True)
        ]
        y = outputs[0] - outputs[1] if len(outputs) == 2 else outputs[0]
        return self.to_out(y.transpose(1, 2).flatten(2))

    def _scaled(self, y: Tensor, valid: Tensor | None) -> Tensor:
        """The mean over the valid positions and the rest, each with its own learned scale."""
        if not self.scales:
            return y
        if valid is None:
            mean = y.mean(1, keepdim=True)
        else:
            weights = valid[..., None].to(y.dtype)
            mean = (y * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True).clamp_min(1)
        return y + self.lambda_dc * mean + self.lambda_hf * (y - mean)


class SelfAttention(Attention):
    def __init__(self, width: int, head: int, config: AttentionConfig, zero_init: bool):
        super().__init__(width, head, config, zero_init)
        self.to_qkv = Linear(width, (1 + 2 * self.pairs) * width, bias=False)  # q, k, v, second q, second k

    def forward(
        self,
        x: Tensor,
        rotation: Rotation | None = None,
        mask: AttentionMask = NO_MASK,
        valid: Tensor | None = None,
        past: KeyValueCache | None = None,
    ) -> Tensor:
        """`valid` (B, T) is of the positions of x. With a `past`, x goes on from there, and becomes part of it."""
        q, k, v, *second = (self._heads(part) for part in self.to_qkv(x).chunk(1 + 2 * self.pairs, 2))
        queries = [self._prepared(each, self.q_norm, rotation) for each in (q, *second[:1])]
        keys = [self._prepared(each, self.k_norm, rotation) for each in (k, *second[1:])]
        if past is not None:
            *keys, v = past.append(*keys, v)
        return self._scaled(self._attend(queries, keys, v, mask), valid)

    def _prepared(self, heads: Tensor, norm: nn.Module, rotation: Rotation | None) -> Tensor:
        normed = norm(heads)
        return (normed if rotation is None else rotation(normed)).to(heads.dtype)


class CrossAttention(Attention):
    """To a context of `context_width`. Where that is less than `width`, several heads of queries share one of keys."""

    def __init__(self, width: int, head: int, context_width: int, config: AttentionConfig, zero_init: bool):
        super().__init__(width, head, config, zero_init)
        self.shared = width // context_width
        self.to_q = Linear(width, self.pairs * width, bias=False)
        self.to_kv = Linear(context_width, (1 + self.pairs) * context_width, bias=False)  # k, second k, v

    def keys_values(self, context: Tensor) -> list[Tensor]:
        """Keys and values of a context (B, N, C), which stay the same while it does."""
        *keys, v = (self._heads(part) for part in self.to_kv(context).chunk(1 + self.pairs, 2))
        parts = [*(self.k_norm(k).to(v.dtype) for k in keys), v]
        return [part.repeat_interleave(self.shared, 1) for part in parts] if self.shared > 1 else parts

    def forward(
        self, x: Tensor, keys_values: list[Tensor], mask: AttentionMask = NO_MASK, valid: Tensor | None = None
    ) -> Tensor:
        *keys, v = keys_values
        queries = [self.q_norm(self._heads(q)).to(v.dtype) for q in self.to_q(x).chunk(self.pairs, 2)]
        return self._scaled(self._attend(queries, keys, v, mask), valid)


def _head_norm(kind: str, head: int) -> nn.Module:
    """Of queries or keys, within each head."""
    if kind == "ln":
        return nn.LayerNorm(head, eps=1e-6)
    return {"none": nn.Identity, "l2": UnitLength, "dyt": lambda: DynamicTanh(head)}[kind]()
