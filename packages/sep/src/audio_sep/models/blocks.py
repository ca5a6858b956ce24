"""What the networks are built of, each block once. All are (B, inputs, T, F) -> (B, outputs, T, F)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOMENTUM = 0.01  # of the norms' statistics, except in MobileNet's separable chains
SLOPE = 0.01  # of LeakyReLU


class NormedConv(nn.Module):
    """A convolution, a norm and LeakyReLU.

    With a condition, a linear function of its values is added before the activation, which is ReLU then.
    """

    def __init__(self, conv: nn.Conv2d | nn.ConvTranspose2d, condition: int = 0):
        super().__init__()
        self.conv = conv
        self.norm = nn.BatchNorm2d(conv.out_channels, momentum=MOMENTUM)
        self.shift = nn.Linear(condition, conv.out_channels) if condition else None
        self.slope = 0.0 if condition else SLOPE

    def forward(self, x: Tensor, *condition: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        if self.shift is not None:
            x = x + self.shift(*condition)[:, :, None, None]
        return F.leaky_relu_(x, self.slope)


class ConvBlock(nn.Module):
    """Two 3 x 3 convolutions with norms and activations: the block of the U-Nets."""

    def __init__(self, inputs: int, outputs: int, condition: int = 0):
        super().__init__()
        self.first = NormedConv(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), condition)
        self.second = NormedConv(nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), condition)

    def forward(self, x: Tensor, *condition: Tensor) -> Tensor:
        return self.second(self.first(x, *condition), *condition)


class ResidualBlock(nn.Module):
    """x + conv(act(norm(conv(act(norm(x)))))), with 3 x 3 convolutions: the block of the ResUNets.

    Where the numbers of channels differ, a 1 x 1 convolution of x takes its place in the sum. The activation is
    LeakyReLU with this slope, which is ReLU with 0.
    """

    def __init__(self, inputs: int, outputs: int, slope: float):
        super().__init__()
        self.slope = slope
        self.norm1 = nn.BatchNorm2d(inputs, momentum=MOMENTUM)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs, momentum=MOMENTUM)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.leaky_relu_(self.norm1(x), self.slope))
        y = self.conv2(F.leaky_relu_(self.norm2(y), self.slope))
        return y.add_(self.shortcut(x))


def residual_blocks(inputs: int, outputs: int, slope: float, count: int = 4) -> nn.Sequential:
    """Several in a row: a stage of the ResUNets. The first changes the number of channels."""
    return nn.Sequential(*(ResidualBlock(inputs if at == 0 else outputs, outputs, slope) for at in range(count)))


class SeparableChain(nn.Module):
    """A 3 x 3 convolution of MobileNet: 1 x 1, depthwise 3 x 3, 1 x 1, each after a norm and LeakyReLU."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for channels in (inputs, outputs, outputs))
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(inputs, outputs, 1, bias=False),
                nn.Conv2d(outputs, outputs, 3, padding=1, groups=outputs, bias=False),
                nn.Conv2d(outputs, outputs, 1, bias=False),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = conv(F.leaky_relu_(norm(x), SLOPE))
        return x


class SeparableBlock(nn.Module):
    """Two chains, each added to its input: the block of MobileNet."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.first = SeparableChain(inputs, outputs)
        self.second = SeparableChain(outputs, outputs)
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).add_(self.shortcut(x))
        return self.second(x).add_(x)


class DecoderBlock(nn.Module):
    """Upsampling, then a block that also sees what the encoder had at this resolution."""

    def __init__(self, up: nn.Module, block: nn.Module):
        super().__init__()
        self.up, self.block = up, block

    def forward(self, x: Tensor, skip: Tensor, *condition: Tensor) -> Tensor:
        return self.block(torch.cat([self.up(x, *condition), skip], 1), *condition)


Stride = tuple[int, int]  # over time and frequency


def normed_up(inputs: int, outputs: int, stride: Stride, condition: int = 0) -> NormedConv:
    """The upsampling of the U-Nets."""
    return NormedConv(nn.ConvTranspose2d(inputs, outputs, stride, stride, bias=False), condition)


def preactivated_up(inputs: int, outputs: int, stride: Stride) -> nn.Sequential:
    """That of the ResUNets."""
    conv = nn.ConvTranspose2d(inputs, outputs, stride, stride, bias=False)
    return nn.Sequential(nn.BatchNorm2d(inputs, momentum=MOMENTUM), nn.ReLU(inplace=True), conv)


def nearest_up(inputs: int, outputs: int, stride: Stride) -> nn.Sequential:
    """That of MobileNet. The original repeats the pixels first, which gives the same and takes four times the work."""
    norm, conv = nn.BatchNorm2d(inputs, momentum=MOMENTUM), nn.Conv2d(inputs, outputs, 1, bias=False)
    return nn.Sequential(norm, nn.LeakyReLU(SLOPE, inplace=True), conv, nn.Upsample(scale_factor=stride))
