"""The encoder and decoder of the Descript Audio Codec, also as stable-audio-tools wraps them."""

from __future__ import annotations

from itertools import pairwise

from audio_core.nn.conv import Conv1d
from audio_core.nn.snake import Snake
from torch import nn

from ..config import DACDecoderConfig, DACEncoderConfig
from .blocks import Block, Decoder, Encoder, down, units, up


class DACEncoder(Encoder):
    def __init__(self, config: DACEncoderConfig):
        super().__init__()
        self.config, self.ratio, self.strides = config, config.ratio, config.strides
        widths = [config.d_model * 2**at for at in range(len(config.strides) + 1)]
        self.hidden = widths[0]
        blocks = [
            Block(*units(inputs, Snake, True), Snake(inputs), down(inputs, outputs, stride, True))
            for (inputs, outputs), stride in zip(pairwise(widths), config.strides, strict=True)
        ]
        self.layers = nn.Sequential(
            Conv1d(config.in_channels, widths[0], 7, weight_norm=True),
            *blocks,
            Snake(widths[-1]),
            Conv1d(widths[-1], widths[-1], 3, weight_norm=True),
        )
        self.proj_out = nn.Identity() if config.latent_dim is None else Conv1d(widths[-1], config.latent_dim, 1)

    def steps(self) -> list[nn.Module]:
        return [*self.layers, self.proj_out]


class DACDecoder(Decoder):
    """Each odd stride loses a sample, so that T is a little less than F * ratio."""

    def __init__(self, config: DACDecoderConfig):
        super().__init__()
        self.config, self.ratio, self.strides = config, config.ratio, config.rates
        widths = [config.channels // 2**at for at in range(len(config.rates) + 1)]
        self.hidden = widths[-1]
        blocks = [
            Block(Snake(inputs), up(inputs, outputs, rate, True), *units(outputs, Snake, True))
            for (inputs, outputs), rate in zip(pairwise(widths), config.rates, strict=True)
        ]
        self.layers = nn.Sequential(
            Conv1d(config.latent_dim, widths[0], 7, weight_norm=True),
            *blocks,
            Snake(widths[-1]),
            Conv1d(widths[-1], config.out_channels, 7, weight_norm=True),
            nn.Tanh(),
        )

    def steps(self) -> list[nn.Module]:
        return [*self.layers]
