"""The transformer blocks of TAAE: attention with a window, a gated feed-forward layer, perhaps a convolution between.

Shapes are (B, T, C), heads (B, H, T, D).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from audio_core.nn.transformer import GLU, Conformer, LayerScale
from torch import Tensor, nn

from ..config.coders import HEAD

Window = tuple[int, int] | None
EPS = 1e-2  # of the layer norms; in the norms of queries and keys it is 1e-6


class TransformerBlock(nn.Module):
    """x + attention, x + convolutions if it is a conformer, x + feed-forward: each normed before and scaled after."""

    def __init__(self, width: int, window: Window, conformer: bool):
        super().__init__()
        convolved = Conformer.reach if conformer else 0
        # Positions to either side that an output depends on, for `reach`.
        self.history = None if window is None else window[0] + convolved
        self.delay = None if window is None else window[1] + convolved
        self.pre_norm = LayerNorm(width)
        self.self_attn = Attention(width, window)
        self.self_attn_scale = LayerScale(width)
        self.mixes = conformer
        if conformer:
            self.conformer, self.conformer_scale = Conformer(width, LayerNorm), LayerScale(width)
        self.ff_norm = LayerNorm(width)
        self.ff = FeedForward(width)
        self.ff_scale = LayerScale(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn_scale(self.self_attn(self.pre_norm(x)))
        if self.mixes:
            x = x + self.conformer_scale(self.conformer(x))
        return x + self.ff_scale(self.ff(self.ff_norm(x)))


class LayerNorm(nn.Module):
    """Over channels, with a gain and no shift."""

    def __init__(self, width: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.gamma.shape, self.gamma, None, EPS)


class FeedForward(nn.Sequential):
    def __init__(self, width: int):
        super().__init__(GLU(width, 4 * width), nn.Linear(4 * width, width))


class Attention(nn.Module):
    """Heads of 128 channels with normed queries and keys, whose first half is rotated by the position."""

    def __init__(self, width: int, window: Window):
        super().__init__()
        self.window = window
        self.head = min(HEAD, width)
        self.to_qkv = nn.Linear(width, 3 * width, bias=False)
        self.to_out = nn.Linear(width, width, bias=False)
        self.q_norm = nn.LayerNorm(self.head, eps=1e-6)
        self.k_norm = nn.LayerNorm(self.head, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(2, (-1, self.head)).transpose(1, 2) for part in self.to_qkv(x).chunk(3, 2))
        q, k = self.q_norm(q), self.k_norm(k)
        if self.window is None:
            y = F.scaled_dot_product_attention(rotate(q), rotate(k), v)
        else:
            y = near_attention(q, k, v, *self.window)
        return self.to_out(y.transpose(1, 2).flatten(2))


def near_attention(q: Tensor, k: Tensor, v: Tensor, left: int, right: int) -> Tensor:
    """Query i attends to the keys i - left to i + right, (B, H, T, D) -> (B, H, T, D).

    Queries are taken in blocks, each with the keys that it can reach, so work and memory grow with T and not T².
    Positions are counted from the block's first key: only distances matter, and small angles are exact.
    """
    heads, time = q.shape[1], q.shape[2]
    size = max(left + right, 16)
    count = -(-time // size)
    missing, reached = count * size - time, left + size + right
    q = F.pad(q, (0, 0, 0, missing)).unflatten(2, (count, size)).flatten(0, 1)  # (B H, N, size, D)
    k, v = (F.pad(each, (0, 0, left, missing + right)).unfold(2, reached, size).flatten(0, 1).mT for each in (k, v))
    ahead = torch.arange(reached, device=q.device) - torch.arange(size, device=q.device)[:, None]
    near = (ahead >= 0) & (ahead <= left + right)  # (size, reached)
    key = torch.arange(count, device=q.device)[:, None] * size + torch.arange(reached, device=q.device) - left
    exists = (key >= 0) & (key < time)  # (N, reached)
    beyond = (torch.arange(count * size, device=q.device) >= time).view(count, size, 1)  # queries without any key
    # Queries (B H, N, size, D), keys and values (B H, N, reached, D).
    y = F.scaled_dot_product_attention(rotate(q, left), rotate(k), v, near & exists[:, None] | beyond)
    return y.unflatten(0, (-1, heads)).flatten(2, 3)[:, :, :time]


def rotate(x: Tensor, first: int = 0) -> Tensor:
    """Rotary embedding (..., T, D) of the first half of D, for the positions from `first` on."""
    turned, plain = x.chunk(2, -1)
    cos, sin = (each.to(x) for each in rotation(x.shape[-1], first, x.shape[-2]))
    a, b = turned.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin, plain], -1)


def rotation(channels: int, first: int, count: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines (T, D / 4) of the angles of `count` positions from `first` on, for heads of D channels."""
    quarter = channels // 4
    speeds = 10000.0 ** -(torch.arange(quarter, dtype=torch.float64) / quarter)
    angles = torch.arange(first, first + count, dtype=torch.float64)[:, None] * speeds
    return angles.cos(), angles.sin()
