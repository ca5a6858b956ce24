"""EnCodec's encoder and decoder (SEANet): convolutions that reflect the ends, residual blocks, an LSTM.

Shapes are (B, channels, samples or frames). T samples become ceil(T / ratio) frames, and F frames F * ratio samples.
"""

from __future__ import annotations

import math
from fractions import Fraction

import torch.nn.functional as F
from audio_core.nn.conv import ConvTranspose1d
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from ..config import SEANetConfig, SEANetDecoderConfig, SEANetEncoderConfig
from .reach import decoder_field, encoder_field


class SEANetEncoder(nn.Module):
    def __init__(self, config: SEANetEncoderConfig):
        super().__init__()
        self.config, self.ratio = config, config.ratio
        width = config.n_filters
        layers: list[nn.Module] = [ReflectConv1d(config.channels, width, config.kernel_size)]
        for ratio in config.ratios:
            layers += _blocks(config, width)
            layers += [nn.ELU(), ReflectConv1d(width, 2 * width, 2 * ratio, ratio)]
            width *= 2
        layers += _recurrent(config, width)
        layers += [nn.ELU(), ReflectConv1d(width, config.dimension, config.last_kernel_size)]
        self.model = nn.Sequential(*layers)

    @property
    def receptive_field(self) -> int | None:
        return encoder_field(self.model, self.ratio)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, W, F)."""
        return self.model(x)


class SEANetDecoder(nn.Module):
    def __init__(self, config: SEANetDecoderConfig):
        super().__init__()
        self.config, self.ratio = config, config.ratio
        width = config.n_filters * 2 ** len(config.ratios)
        layers: list[nn.Module] = [ReflectConv1d(config.dimension, width, config.kernel_size)]
        layers += _recurrent(config, width)
        for ratio in config.ratios:
            trims = math.ceil(ratio / 2), ratio // 2
            up = ConvTranspose1d(width, width // 2, 2 * ratio, ratio, padding=trims, weight_norm=True)
            width //= 2
            layers += [nn.ELU(), up, *_blocks(config, width)]
        layers += [nn.ELU(), ReflectConv1d(width, config.channels, config.last_kernel_size)]
        self.model = nn.Sequential(*layers)

    @property
    def receptive_field(self) -> int | None:
        return decoder_field(self.model, self.ratio)

    def forward(self, z: Tensor) -> Tensor:
        """(B, W, F) -> (B, C, T)."""
        return self.model(z)


def _blocks(config: SEANetConfig, width: int) -> list[nn.Module]:
    kernel, narrow = config.residual_kernel_size, width // config.compress
    dilations = [config.dilation_base**at for at in range(config.n_residual_layers)]
    return [SEANetBlock(width, narrow, kernel, dilation) for dilation in dilations]


def _recurrent(config: SEANetConfig, width: int) -> list[nn.Module]:
    return [ResidualLSTM(width, config.lstm)] if config.lstm else []


class SEANetBlock(nn.Module):
    """A 1-wide convolution beside ELU, a dilated convolution to fewer channels, ELU, and one back: their sum."""

    def __init__(self, width: int, narrow: int, kernel: int, dilation: int):
        super().__init__()
        wide = ReflectConv1d(width, narrow, kernel, dilation=dilation)
        self.block = nn.Sequential(nn.ELU(), wide, nn.ELU(), ReflectConv1d(narrow, width, 1))
        self.shortcut = ReflectConv1d(width, width, 1)

        self.history, self.delay = wide.history, wide.delay

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.block(x)


class ResidualLSTM(nn.Module):
    """x + LSTM(x), which depends on all frames before."""

    history = None

    def __init__(self, width: int, layers: int):
        super().__init__()
        self.lstm = nn.LSTM(width, width, layers)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(x.permute(2, 0, 1))  # (F, B, W)
        return x + y.permute(1, 2, 0)


class ReflectConv1d(nn.Conv1d):
    """(B, C, T) -> (B, C', ceil(T / stride)): the input is reflected at both ends, at the right to fill the last frame.

    With span = (kernel - 1) * dilation + 1 the padding is span - stride, of an odd number one more left.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1):
        super().__init__(inputs, outputs, kernel, stride, dilation=dilation)
        self.span = (kernel - 1) * dilation + 1
        self.right = (self.span - stride) // 2
        self.left = self.span - stride - self.right
        self.ratio, self.history, self.delay = Fraction(1, stride), self.left, self.span - 1 - self.left
        weight_norm(self)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(reflect(x, self.left, self.right - x.shape[-1] % -self.stride[0]))


def reflect(x: Tensor, left: int, right: int) -> Tensor:
    """(..., T) with `left` and `right` mirrored samples. Inputs that are too short for it are followed by zeros."""
    missing = max(0, max(left, right) + 1 - x.shape[-1])
    padded = F.pad(F.pad(x, (0, missing)), (left, right), mode="reflect")
    return padded[..., : padded.shape[-1] - missing]
