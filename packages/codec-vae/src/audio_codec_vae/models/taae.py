"""The encoder and decoder of stable-codec (TAAE): strided convolutions with transformers behind or before each.

Shapes are (B, channels, samples or frames). An odd stride of the decoder loses one sample, as in the original: F
frames give a little less than F * ratio samples.
"""

from __future__ import annotations

import math

from audio_core.nn.conv import Conv1d, ConvTranspose1d
from audio_core.nn.residual import ResidualUnit
from audio_core.nn.snake import SnakeBeta
from torch import Tensor, nn

from ..config import TAAEConfig, TAAEDecoderConfig, TAAEEncoderConfig
from .reach import decoder_field, encoder_field
from .transformer import TransformerBlock

_DILATIONS = (1, 3, 9)


class TAAEEncoder(nn.Module):
    def __init__(self, config: TAAEEncoderConfig):
        super().__init__()
        self.config, self.ratio = config, config.ratio
        widths = _widths(config)
        layers: list[nn.Module] = [Conv1d(config.in_channels, widths[0], 7, weight_norm=True)]
        for at, (stride, depth) in enumerate(zip(config.strides, config.transformer_depths, strict=True)):
            inputs, outputs = widths[at : at + 2]
            down: nn.Module = nn.Identity()
            if stride > 1:
                down = Conv1d(inputs, outputs, 2 * stride, stride, padding=math.ceil(stride / 2), weight_norm=True)
            units, act = _units(config, inputs), _activation(config, inputs)
            layers.append(Level(*units, act, down, _transformers(config, outputs, depth)))
        layers += [_activation(config, widths[-1]), Conv1d(widths[-1], config.latent_dim, 3, weight_norm=True)]
        self.layers = nn.Sequential(*layers)

    @property
    def receptive_field(self) -> int | None:
        return encoder_field(self.layers, self.ratio)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, W, T // ratio)."""
        return self.layers(x)


class TAAEDecoder(nn.Module):
    def __init__(self, config: TAAEDecoderConfig):
        super().__init__()
        self.config, self.ratio = config, config.ratio
        widths = _widths(config)
        layers: list[nn.Module] = [Conv1d(config.latent_dim, widths[-1], 3, weight_norm=True)]
        for at, (stride, depth) in reversed([*enumerate(zip(config.strides, config.transformer_depths, strict=True))]):
            outputs, inputs = widths[at : at + 2]
            up: nn.Module = nn.Identity()
            if stride > 1:
                cut = math.ceil(stride / 2)
                up = ConvTranspose1d(inputs, outputs, 2 * stride, stride, padding=cut, weight_norm=True)
            # The original's activation has as many channels as the level's output, and fails where they change.
            act = _activation(config, inputs)
            layers.append(Level(_transformers(config, inputs, depth), act, up, *_units(config, outputs)))
        last = Conv1d(widths[0], config.out_channels, 7, bias=False, weight_norm=True)
        self.layers = nn.Sequential(*layers, _activation(config, widths[0]), last)

    @property
    def receptive_field(self) -> int | None:
        return decoder_field(self.layers, self.ratio)

    def forward(self, z: Tensor) -> Tensor:
        """(B, W, F) -> (B, C, T)."""
        return self.layers(z)


class Level(nn.Module):
    """A change of rate with the transformers at the lower one, and perhaps convolutions at the higher one."""

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Transpose(nn.Module):
    """Between (B, C, T) of convolutions and (B, T, C) of transformers."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


def _widths(config: TAAEConfig) -> list[int]:
    """Before and behind each level of the encoder."""
    widths = [config.channels * factor for factor in config.c_mults]
    return [widths[0], *widths]


def _transformers(config: TAAEConfig, width: int, depth: int) -> nn.Sequential:
    blocks = [TransformerBlock(width, config.sliding_window, config.conformer) for _ in range(depth)]
    return nn.Sequential(Transpose(), *blocks, Transpose())


def _units(config: TAAEConfig, width: int) -> list[nn.Module]:
    if not config.use_dilated_conv:
        return []
    activation = SnakeBeta if config.use_snake else lambda _: nn.ELU()
    return [ResidualUnit(width, dilation=each, activation=activation, weight_norm=True) for each in _DILATIONS]


def _activation(config: TAAEConfig, width: int) -> nn.Module:
    return SnakeBeta(width) if config.use_snake else nn.Identity()
