"""What discriminators for adversarial training, which learn to tell generated audio from real, are made of.

Called on audio (B, C, T), each returns a `DiscriminatorOutput`.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .conv import Conv1d


class DiscriminatorOutput(NamedTuple):
    """One entry for each discriminator, and for each resolution of a discriminator that has several."""

    logits: list[Tensor]  # (B, 1, ...): one value for each stretch of audio, high where it seems real
    features: list[list[Tensor]]  # feature maps: the outputs of all layers but the last, after their activations


class Discriminators(nn.Module):
    """Several discriminators combined: `Discriminators(wave=..., stft=...)`."""

    def __init__(self, **discriminators: nn.Module):
        super().__init__()
        self.discriminators = nn.ModuleDict(discriminators)

    def forward(self, audio: Tensor) -> DiscriminatorOutput:
        outputs = [discriminator(audio) for discriminator in self.discriminators.values()]
        logits = [each for output in outputs for each in output.logits]
        return DiscriminatorOutput(logits, [each for output in outputs for each in output.features])


class Stack(nn.Module):
    """Layers, each followed by LeakyReLU, and a last one for the logits. x -> logits, features."""

    def __init__(self, layers: Iterable[nn.Module], last: nn.Module, slope: float = 0.2):
        super().__init__()
        self.layers, self.last, self.slope = nn.ModuleList(layers), last, slope

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        features = []
        for layer in self.layers:
            x = F.leaky_relu(layer(x), self.slope)
            features.append(x)
        return self.last(x), features


def wave_stack(channels: int = 1, width: int = 16, weight_norm: bool = False, slope: float = 0.2) -> Stack:
    """MelGAN's, over samples (B, C, T): four layers of stride 4 widen `width` to 64 times as many channels.

    Their convolutions are grouped, with four input channels a group.
    """
    if width % 4:
        raise ValueError(f"the width of a wave discriminator is a multiple of 4, got {width}")
    widths = [width, 4 * width, 16 * width, 64 * width, 64 * width]
    first = Conv1d(channels, width, 15, weight_norm=weight_norm)
    strided = [
        Conv1d(inputs, outputs, 41, 4, groups=inputs // 4, weight_norm=weight_norm)
        for inputs, outputs in pairwise(widths)
    ]
    mixing = Conv1d(widths[-1], widths[-1], 5, weight_norm=weight_norm)
    return Stack([first, *strided, mixing], Conv1d(widths[-1], 1, 3, weight_norm=weight_norm), slope)


def parts(spectrum: Tensor) -> Tensor:
    """Complex (B, C, F, frames) -> (B, 2C, frames, F): the real parts of all channels, then the imaginary ones."""
    return torch.cat([spectrum.real, spectrum.imag], 1).transpose(-1, -2)


def gathered(outputs: Iterable[tuple[Tensor, list[Tensor]]]) -> DiscriminatorOutput:
    """Of the networks of a discriminator, each of which returned logits and features."""
    logits, features = zip(*outputs, strict=True)
    return DiscriminatorOutput(list(logits), list(features))
