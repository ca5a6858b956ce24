"""Discriminators for adversarial training, on samples and on spectra: they learn to tell generated audio from real.

Called on audio (B, C, T), each returns a `DiscriminatorOutput`. The default `width` is that of the original;
computation and parameters grow with its square.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..dsp.stft import STFT
from .conv import Conv1d


class DiscriminatorOutput(NamedTuple):
    """One entry for each discriminator, and for each resolution of a discriminator that has several."""

    logits: list[Tensor]  # (B, 1, ...): one value for each stretch of audio, high where it seems real
    features: list[list[Tensor]]  # feature maps: the outputs of all layers but the last, after their activations


class Discriminators(nn.Module):
    """Several discriminators combined: `Discriminators(wave=WaveDiscriminator(), stft=STFTDiscriminator())`."""

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
        raise ValueError(f"the width of a WaveDiscriminator is a multiple of 4, got {width}")
    widths = [width, 4 * width, 16 * width, 64 * width, 64 * width]
    first = Conv1d(channels, width, 15, weight_norm=weight_norm)
    strided = [
        Conv1d(inputs, outputs, 41, 4, groups=inputs // 4, weight_norm=weight_norm)
        for inputs, outputs in pairwise(widths)
    ]
    mixing = Conv1d(widths[-1], widths[-1], 5, weight_norm=weight_norm)
    return Stack([first, *strided, mixing], Conv1d(widths[-1], 1, 3, weight_norm=weight_norm), slope)


class WaveDiscriminator(nn.Module):
    """MelGAN's multi-scale discriminator in SoundStream's form: a stack for each of `scales` rates, each half the last.

    A stack downsamples by 256: logits (B, 1, ceil(T / 256)) at the first rate.
    """

    def __init__(self, channels: int = 1, width: int = 16, scales: int = 3, weight_norm: bool = False):
        super().__init__()
        self.scales = nn.ModuleList([wave_stack(channels, width, weight_norm) for _ in range(scales)])

    def forward(self, audio: Tensor) -> DiscriminatorOutput:
        outputs = []
        for place, scale in enumerate(self.scales):
            if place:
                audio = F.avg_pool1d(audio, 4, stride=2, padding=1)
            outputs.append(scale(audio))
        return gathered(outputs)


class STFTDiscriminator(nn.Module):
    """SoundStream's: six blocks over real and imaginary parts of an STFT, which downsample time by 8, frequency by 64.

    Logits (B, 1, frames // 8) are means over the remaining frequencies. Features are the outputs of the blocks.
    """

    def __init__(self, channels: int = 1, width: int = 32, n_fft: int = 1024, hop: int = 256):
        super().__init__()
        self.stft, self.shortest = STFT(n_fft, hop), 7 * hop  # samples
        widths = [width, width, 2 * width, 4 * width, 4 * width, 8 * width, 8 * width]
        blocks = [
            nn.Sequential(
                nn.Conv2d(inputs, inputs, 3, padding=1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(inputs, outputs, (stride + 2, 4), (stride, 2), padding=1),
            )
            for (inputs, outputs), stride in zip(pairwise(widths), (1, 2, 1, 2, 1, 2), strict=True)
        ]
        self.first = nn.Conv2d(2 * channels, width, 7, padding=3)
        self.blocks = Stack(blocks, nn.Conv2d(widths[-1], 1, 1))

    def forward(self, audio: Tensor) -> DiscriminatorOutput:
        if audio.shape[-1] < self.shortest:
            raise ValueError(f"the STFTDiscriminator needs at least {self.shortest} samples, got {audio.shape[-1]}")
        logits, features = self.blocks(F.leaky_relu(self.first(self.spectrum(audio)), 0.2))
        return DiscriminatorOutput([logits.mean(-1)], [features])

    def spectrum(self, audio: Tensor) -> Tensor:
        """(B, 2C, frames, F)"""
        return parts(self.stft(audio))


def parts(spectrum: Tensor) -> Tensor:
    """Complex (B, C, F, frames) -> (B, 2C, frames, F): the real parts of all channels, then the imaginary ones."""
    return torch.cat([spectrum.real, spectrum.imag], 1).transpose(-1, -2)


def gathered(outputs: Iterable[tuple[Tensor, list[Tensor]]]) -> DiscriminatorOutput:
    """Of the networks of a discriminator, each of which returned logits and features."""
    logits, features = zip(*outputs, strict=True)
    return DiscriminatorOutput(list(logits), list(features))
