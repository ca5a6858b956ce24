"""Discriminators for adversarial training, on samples and on spectra: they learn to tell generated audio from real.

Called on audio (B, C, T), each returns a `DiscriminatorOutput`. The default `width` is that of the original;
computation and parameters grow with its square.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm as add_weight_norm

from ..dsp.stft import STFT, hann, stft
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


class MultiResolutionSTFTDiscriminator(nn.Module):
    """EnCodec's: real and imaginary parts of STFTs with several windows. Hops are a quarter of the window, not centred.

    Each window has five layers, weight-normed, with dilations 1, 2 and 4 over time in the second to fourth.

    stride       over frequency in the dilated layers: 2 is EnCodec's, 1 stable-audio-tools'
    norm_first   whether the first layer has weight norm, too: EnCodec's has none, stable-audio-tools' has
    normalized   divides spectra by the root of the window's energy, as both do
    power        multiplies spectra by (magnitude + 1e-6)^power: a negative one lifts what is quiet
    """

    def __init__(
        self,
        channels: int = 1,
        width: int = 32,
        windows: Sequence[int] = (2048, 1024, 512),
        stride: int = 2,
        norm_first: bool = False,
        normalized: bool = True,
        power: float = 0.0,
    ):
        super().__init__()

        def conv(inputs: int, outputs: int, over_bins: int = 9, step: int = 1, dilation: int = 1) -> nn.Conv2d:
            pads = dilation, over_bins // 2
            return nn.Conv2d(inputs, outputs, (3, over_bins), (1, step), pads, (dilation, 1))

        def stack() -> Stack:
            first = conv(2 * channels, width)
            dilated = [conv(width, width, step=stride, dilation=dilation) for dilation in (1, 2, 4)]
            layers, last = [first, *dilated, conv(width, width, 3)], conv(width, 1, 3)
            for layer in [*layers, last] if norm_first else [*layers[1:], last]:
                add_weight_norm(layer)
            return Stack(layers, last)

        self.resolutions = nn.ModuleList([stack() for _ in windows])
        self.sizes, self.power = tuple(windows), power
        for size in windows:
            window = hann(size)
            energy = window.square().sum() if normalized else torch.ones(())
            self.register_buffer(f"window_{size}", window / energy.sqrt(), persistent=False)

    def forward(self, audio: Tensor) -> DiscriminatorOutput:
        outputs = []
        for size, resolution in zip(self.sizes, self.resolutions, strict=True):
            window = self.get_buffer(f"window_{size}")
            spectrum = stft(audio, size, size // 4, window, center=False)
            if self.power:
                spectrum = spectrum * (spectrum.abs() + 1e-6) ** self.power
            outputs.append(resolution(parts(spectrum)))
        return gathered(outputs)


def parts(spectrum: Tensor) -> Tensor:
    """Complex (B, C, F, frames) -> (B, 2C, frames, F): the real parts of all channels, then the imaginary ones."""
    return torch.cat([spectrum.real, spectrum.imag], 1).transpose(-1, -2)


def gathered(outputs: Iterable[tuple[Tensor, list[Tensor]]]) -> DiscriminatorOutput:
    """Of the networks of a discriminator, each of which returned logits and features."""
    logits, features = zip(*outputs, strict=True)
    return DiscriminatorOutput(list(logits), list(features))
