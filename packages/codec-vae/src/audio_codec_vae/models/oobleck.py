"""Oobleck, the encoder and decoder of the stable-audio models."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from audio_core.nn.conv import Conv1d
from audio_core.nn.snake import SnakeBeta
from torch import Tensor, nn

from ..config import OobleckConfig, OobleckDecoderConfig, OobleckEncoderConfig
from .antialias import AntiAliased
from .blocks import Activation, Block, Decoder, Encoder, down, units, up


class OobleckEncoder(Encoder):
    def __init__(self, config: OobleckEncoderConfig):
        super().__init__()
        self.config, self.ratio, self.strides = config, config.ratio, config.strides
        widths = _widths(config)
        self.hidden = widths[0]
        activation = _activation(config.use_snake)
        last = _activation(config.use_snake, config.antialias_activation)
        blocks = [
            Block(*units(inputs, activation, True), activation(inputs), down(inputs, outputs, stride, True))
            for (inputs, outputs), stride in zip(pairwise(widths), config.strides, strict=True)
        ]
        self.layers = nn.Sequential(
            Conv1d(config.in_channels, widths[0], 7, weight_norm=True),
            *blocks,
            last(widths[-1]),
            Conv1d(widths[-1], config.latent_dim, 3, weight_norm=True),
        )

    def steps(self) -> list[nn.Module]:
        return [*self.layers]


class OobleckDecoder(Decoder):
    """Without `use_nearest_upsample` each odd stride loses a sample, so that T is a little less than F * ratio."""

    def __init__(self, config: OobleckDecoderConfig):
        super().__init__()
        self.config, self.ratio, self.strides = config, config.ratio, config.strides[::-1]
        widths = _widths(config)[::-1]
        self.hidden = widths[-1]
        activation = _activation(config.use_snake)
        smooth = _activation(config.use_snake, config.antialias_activation)
        upsampling = _repeated if config.use_nearest_upsample else _transposed
        blocks = [
            Block(smooth(inputs), upsampling(inputs, outputs, stride), *units(outputs, activation, True))
            for (inputs, outputs), stride in zip(pairwise(widths), self.strides, strict=True)
        ]
        self.layers = nn.Sequential(
            Conv1d(config.latent_dim, widths[0], 7, weight_norm=True),
            *blocks,
            smooth(widths[-1]),
            Conv1d(widths[-1], config.out_channels, 7, bias=False, weight_norm=True),
            nn.Tanh() if config.final_tanh else nn.Identity(),
        )

    def steps(self) -> list[nn.Module]:
        return [*self.layers]


class Repeat(nn.Module):
    """(B, C, T) -> (B, C, T * times), each value `times` times."""

    delay = Fraction(0)

    def __init__(self, times: int):
        super().__init__()
        self.times, self.ratio, self.history = times, Fraction(times), Fraction(times - 1, times)

    def forward(self, x: Tensor) -> Tensor:
        return x.repeat_interleave(self.times, -1)


def _transposed(inputs: int, outputs: int, stride: int) -> nn.Module:
    return up(inputs, outputs, stride, weight_norm=True)


def _repeated(inputs: int, outputs: int, stride: int) -> nn.Module:
    return nn.Sequential(Repeat(stride), Conv1d(inputs, outputs, 2 * stride, bias=False, weight_norm=True))


def _activation(snake: bool, anti_aliased: bool = False) -> Activation:
    def make(channels: int) -> nn.Module:
        act = SnakeBeta(channels) if snake else nn.ELU()
        return AntiAliased(act) if anti_aliased else act

    return make


def _widths(config: OobleckConfig) -> list[int]:
    """Channels before the first block of the encoder and behind each."""
    return [config.channels * factor for factor in (1, *config.c_mults)]
