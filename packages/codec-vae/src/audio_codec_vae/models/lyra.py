"""LyraCodec's encoder and decoder, of its first revision and of the later one with group norm."""

from __future__ import annotations

from itertools import pairwise

import torch
from audio_core.nn.conv import Conv1d, ConvTranspose1d
from audio_core.nn.residual import Residual
from audio_core.nn.snake import SnakeBeta
from torch import Tensor, nn

from ..config import LyraConfig, LyraDecoderConfig, LyraEncoderConfig
from ..config.coders import GROUPS
from .blocks import Block, Decoder, Encoder, down, stage_lengths, units, up


class LyraEncoder(Encoder):
    """(B, C, T) -> (B, 2 W, F), mean and log variance."""

    def __init__(self, config: LyraEncoderConfig):
        super().__init__()
        self.config, self.ratio, self.strides = config, config.ratio, config.strides
        self.local = not config.group_norm  # which averages over time
        widths = _widths(config)
        self.hidden = widths[0]
        self.init = Conv1d(config.in_channels, widths[0], 7)
        pairs = zip(pairwise(widths), config.strides, strict=True)
        self.blocks = nn.ModuleList(encoder_block(*pair, stride, config.group_norm) for pair, stride in pairs)
        self.final_activation = SnakeBeta(widths[-1])
        self.distribution_conv = Conv1d(widths[-1], 2 * config.latent_dim, 3)
        if config.group_norm:
            _initialize(self)

    def steps(self) -> list[nn.Module]:
        return [self.init, *self.blocks, self.final_activation, self.distribution_conv]


class LyraDecoder(Decoder):
    """(B, W, F) -> (B, C, T). T is F * ratio, or a number of samples of which the encoder makes F latents.

    The lengths that were rounded down in the encoder are restored behind each block: zeros follow its output.
    """

    def __init__(self, config: LyraDecoderConfig):
        super().__init__()
        self.config, self.ratio, self.strides = config, config.ratio, config.strides[::-1]
        self.local = not config.group_norm  # which averages over time
        widths = _widths(config)[::-1]
        self.hidden = widths[-1]
        self.projection = Conv1d(config.latent_dim, widths[0], 3)
        pairs = zip(pairwise(widths), self.strides, strict=True)
        self.blocks = nn.ModuleList(decoder_block(*pair, stride, config.group_norm) for pair, stride in pairs)
        self.final_activation = SnakeBeta(widths[-1])
        self.final_projection = Conv1d(widths[-1], config.out_channels, 7)
        if config.group_norm:
            _initialize(self)

    def steps(self) -> list[nn.Module]:
        return [self.projection, *self.blocks, self.final_activation, self.final_projection]

    def forward(self, z: Tensor, samples: int | None = None) -> Tensor:
        if samples is None:
            return super().forward(z)
        *lengths, frames = stage_lengths(samples, self.config.strides)
        if frames != z.shape[-1]:
            raise ValueError(f"{samples} samples make {frames} latents, got {z.shape[-1]}")
        return self.decode(z, lengths[::-1])


def encoder_block(inputs: int, outputs: int, stride: int, group_norm: bool = False) -> Block:
    return Block(*_units(inputs, group_norm), SnakeBeta(inputs), down(inputs, outputs, stride, weight_norm=False))


def decoder_block(inputs: int, outputs: int, stride: int, group_norm: bool = False) -> Block:
    upsampling = up(inputs, outputs, stride, weight_norm=False, whole=True)
    return Block(*_units(inputs, group_norm), SnakeBeta(inputs), upsampling)


def _units(channels: int, group_norm: bool) -> list[nn.Module]:
    plain = units(channels, SnakeBeta, weight_norm=False)
    return [_normalized(unit.layers, channels) for unit in plain] if group_norm else plain


def _normalized(layers: nn.Sequential, channels: int) -> Residual:
    """A residual unit with a group norm behind each of its convolutions."""
    first, wide, second, mix = layers
    before, after = (nn.GroupNorm(min(GROUPS, channels), channels) for _ in range(2))
    return Residual(first, wide, before, second, mix, after)


def _widths(config: LyraConfig) -> list[int]:
    """Channels before the first block of the encoder and behind each."""
    factors = [config.c_mults[0][0], *(after for _, after in config.c_mults)]
    return [config.base_channels * factor for factor in factors]


@torch.no_grad()
def _initialize(model: nn.Module) -> None:
    """As the later revision does."""
    for layer in model.modules():
        if isinstance(layer, Conv1d | ConvTranspose1d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
