"""The blocks of the ADP U-Net: resnet blocks, transformers, and the levels made of them.

Shapes are (B, C, T), inside transformers (B, T, C). `mapping` (B, M) tells the time and the global condition, `tokens`
(B, N, E) are those for cross-attention, `mask` (B, N) is 1 where a token counts.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config.unets import TRANSFORMER_GROUPS, ADPConfig

# --- resnet blocks ---------------------------------------------------------------------------------------------


class ConvBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, groups: int):
        super().__init__()
        self.groupnorm = nn.GroupNorm(groups, inputs)
        self.project = nn.Conv1d(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor, scale_shift: tuple[Tensor, Tensor] | None = None) -> Tensor:
        x = self.groupnorm(x)
        if scale_shift is not None:
            scale, shift = scale_shift
            x = x * (1 + scale) + shift
        return self.project(F.silu(x))


class ScaleShift(nn.Module):
    """A scale and a shift (B, C, 1) for each channel."""

    def __init__(self, features: int, channels: int):
        super().__init__()
        self.to_scale_shift = nn.Sequential(nn.SiLU(), nn.Linear(features, 2 * channels))

    def forward(self, mapping: Tensor) -> tuple[Tensor, Tensor]:
        scale, shift = self.to_scale_shift(mapping)[..., None].chunk(2, 1)
        return scale, shift


class ResnetBlock(nn.Module):
    """x + two convolutions, the second of which hears of the mapping."""

    def __init__(self, inputs: int, outputs: int, groups: int, mapping: int | None):
        super().__init__()
        self.block1 = ConvBlock(inputs, outputs, groups)
        self.to_scale_shift = ScaleShift(mapping, outputs) if mapping else None
        self.block2 = ConvBlock(outputs, outputs, groups)
        self.to_out = nn.Identity() if inputs == outputs else nn.Conv1d(inputs, outputs, 1)

    def forward(self, x: Tensor, mapping: Tensor | None) -> Tensor:
        scale_shift = self.to_scale_shift(mapping) if self.to_scale_shift is not None else None
        return self.block2(self.block1(x), scale_shift) + self.to_out(x)


class Patcher(nn.Module):
    """A resnet block, then neighbouring frames become channels."""

    def __init__(self, inputs: int, outputs: int, patch: int, mapping: int | None):
        super().__init__()
        self.patch = patch
        self.block = ResnetBlock(inputs, outputs // patch, 1, mapping)

    def forward(self, x: Tensor, mapping: Tensor | None) -> Tensor:
        return self.block(x, mapping).unflatten(2, (-1, self.patch)).transpose(2, 3).flatten(1, 2)


class Unpatcher(nn.Module):
    """Channels become neighbouring frames again, then a resnet block."""

    def __init__(self, inputs: int, outputs: int, patch: int, mapping: int | None):
        super().__init__()
        self.patch = patch
        self.block = ResnetBlock(inputs // patch, outputs, 1, mapping)

    def forward(self, x: Tensor, mapping: Tensor | None) -> Tensor:
        return self.block(x.unflatten(1, (-1, self.patch)).transpose(2, 3).flatten(2), mapping)


# --- transformers ----------------------------------------------------------------------------------------------


class AttentionBase(nn.Module):
    def __init__(self, width: int, heads: int, head_width: int):
        super().__init__()
        self.heads = heads
        self.to_out = nn.Linear(heads * head_width, width)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (each.unflatten(2, (self.heads, -1)).transpose(1, 2) for each in (q, k, v))  # (B, H, T, D)
        return self.to_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Attention(nn.Module):
    """Of x over a context, which for self-attention is x itself; each has a norm of its own."""

    def __init__(self, width: int, heads: int, head_width: int, context_width: int | None = None):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.norm_context = nn.LayerNorm(context_width or width)
        self.to_q = nn.Linear(width, heads * head_width, bias=False)
        self.to_kv = nn.Linear(context_width or width, 2 * heads * head_width, bias=False)
        self.attention = AttentionBase(width, heads, head_width)

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """Keys and values are multiplied by the mask. So zeros still take part in the softmax: weights know it so."""
        k, v = self.to_kv(self.norm_context(x if context is None else context)).chunk(2, -1)
        if mask is not None:
            k, v = k * mask[..., None], v * mask[..., None]
        return self.attention(self.to_q(self.norm(x)), k, v)


class TransformerBlock(nn.Module):
    def __init__(self, width: int, config: ADPConfig):
        super().__init__()
        heads, tokens = config.heads(width), config.context_embedding_features
        self.attention = Attention(width, *heads)
        self.cross_attention = Attention(width, *heads, tokens) if tokens else None
        inner = config.attention_multiplier * width
        self.feed_forward = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))

    def forward(self, x: Tensor, tokens: Tensor | None, mask: Tensor | None) -> Tensor:
        x = x + self.attention(x)
        if self.cross_attention is not None:
            x = x + self.cross_attention(x, tokens, mask)
        return x + self.feed_forward(x)


class _Transposed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


class Transformer(nn.Module):
    """Blocks between two pointwise convolutions, without a way around them."""

    def __init__(self, width: int, depth: int, config: ADPConfig):
        super().__init__()
        norm = nn.GroupNorm(TRANSFORMER_GROUPS, width, eps=1e-6)
        self.to_in = nn.Sequential(norm, nn.Conv1d(width, width, 1), _Transposed())
        self.blocks = nn.ModuleList(TransformerBlock(width, config) for _ in range(depth))
        self.to_out = nn.Sequential(_Transposed(), nn.Conv1d(width, width, 1))

    def forward(self, x: Tensor, tokens: Tensor | None, mask: Tensor | None) -> Tensor:
        x = self.to_in(x)
        for block in self.blocks:
            x = block(x, tokens, mask)
        return self.to_out(x)


def _transformer(width: int, depth: int, config: ADPConfig) -> Transformer | None:
    return Transformer(width, depth, config) if depth else None


# --- levels ----------------------------------------------------------------------------------------------------


class Downsampler(nn.Conv1d):
    """A strided convolution whose left margin is the larger one, where they differ."""

    def __init__(self, inputs: int, outputs: int, factor: int, multiplier: int):
        super().__init__(inputs, outputs, factor * multiplier + 1, factor)
        margin = factor * multiplier + 1 - factor
        self.margins = (margin - margin // 2, margin // 2)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, self.margins))


def upsampler(inputs: int, outputs: int, factor: int, nearest: bool) -> nn.Module:
    if factor == 1:
        return nn.Conv1d(inputs, outputs, 3, padding=1)
    if nearest:
        return nn.Sequential(nn.Upsample(scale_factor=factor), nn.Conv1d(inputs, outputs, 3, padding=1))
    odd = factor % 2
    return nn.ConvTranspose1d(inputs, outputs, 2 * factor, factor, padding=factor // 2 + odd, output_padding=odd)


class DownLevel(nn.Module):
    """A level on the way down. What follows each of its blocks, and its transformer, is kept for the way up."""

    def __init__(self, place: int, config: ADPConfig, mapping: int | None):
        super().__init__()
        outer, width = config.widths[place - 1 : place + 1]
        self.downsample = Downsampler(outer, width, config.factors[place - 1], config.kernel_multiplier_downsample)
        self.has_context = config.context_at(place) > 0
        first, count = width + config.context_at(place), config.num_blocks[place - 1]
        self.blocks = nn.ModuleList(
            ResnetBlock(width if at else first, width, config.resnet_groups, mapping) for at in range(count)
        )
        self.transformer = _transformer(width, config.transformers(place), config)

    def forward(
        self, x: Tensor, mapping: Tensor | None, tokens: Tensor | None, mask: Tensor | None, context: Tensor | None
    ) -> tuple[Tensor, list[Tensor]]:
        x = self.downsample(x)
        x = joined(x, context) if self.has_context else x
        skips = []
        for block in self.blocks:
            x = block(x, mapping)
            skips.append(x)
        if self.transformer is not None:
            x = self.transformer(x, tokens, mask)
            skips.append(x)
        return x, skips


class UpLevel(nn.Module):
    """A level on the way up. Each of its blocks takes one of the kept signals, the last one first."""

    def __init__(self, place: int, config: ADPConfig, mapping: int | None):
        super().__init__()
        outer, width = config.widths[place - 1 : place + 1]
        self.skip_scale = 2**-0.5 if config.use_skip_scale else 1.0
        count = config.num_blocks[place - 1] + (config.transformers(place) > 0)
        self.blocks = nn.ModuleList(ResnetBlock(2 * width, width, config.resnet_groups, mapping) for _ in range(count))
        self.transformer = _transformer(width, config.transformers(place), config)
        self.upsample = upsampler(width, outer, config.factors[place - 1], config.use_nearest_upsample)

    def forward(
        self, x: Tensor, skips: list[Tensor], mapping: Tensor | None, tokens: Tensor | None, mask: Tensor | None
    ) -> Tensor:
        for block, skip in zip(self.blocks, reversed(skips), strict=True):
            x = block(torch.cat([x, self.skip_scale * skip], 1), mapping)
        if self.transformer is not None:
            x = self.transformer(x, tokens, mask)
        return self.upsample(x)


class Bottleneck(nn.Module):
    def __init__(self, config: ADPConfig, mapping: int | None):
        super().__init__()
        width = config.widths[-1]
        self.pre_block = ResnetBlock(width, width, config.resnet_groups, mapping)
        self.transformer = _transformer(width, config.attentions[-1], config)
        self.post_block = ResnetBlock(width, width, config.resnet_groups, mapping)

    def forward(self, x: Tensor, mapping: Tensor | None, tokens: Tensor | None, mask: Tensor | None) -> Tensor:
        x = self.pre_block(x, mapping)
        if self.transformer is not None:
            x = self.transformer(x, tokens, mask)
        return self.post_block(x, mapping)


def joined(x: Tensor, context: Tensor | None) -> Tensor:
    """x with the channels of a condition behind its own, each of whose frames is repeated or left out as needed."""
    if context is None:
        return x
    if context.shape[-1] != x.shape[-1]:
        context = F.interpolate(context, x.shape[-1], mode="nearest")
    return torch.cat([x, context], 1)
