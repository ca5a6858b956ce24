"""The discriminators that a recipe can name, from the core's and from those that only autoencoders of music have."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from audio_core.dsp.stft import STFT, hann, stft
from audio_core.nn.discriminate import (
    DiscriminatorOutput,
    Discriminators,
    Stack,
    gathered,
    parts,
    wave_stack,
)
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from .recipe import Adversary, DACDiscriminator, EncodecDiscriminator, LyraDiscriminator, OobleckDiscriminator
from .resampling import resample


def build(settings: Adversary, channels: int, rate: int) -> nn.Module:
    """The networks of a recipe, for audio (B, channels, T) at `rate`; they return a `DiscriminatorOutput`."""
    if isinstance(settings, EncodecDiscriminator):
        return MultiResolutionSTFTDiscriminator(channels, settings)
    if isinstance(settings, DACDiscriminator):
        return dac(settings, channels, rate)
    if isinstance(settings, OobleckDiscriminator):
        return Oobleck(channels, settings.width, settings.scales, settings.periods)
    assert isinstance(settings, LyraDiscriminator)
    return lyra(settings, channels)


def _halving(inputs: int, width: int) -> list[nn.Module]:
    """Five layers over spectra, of which the second to fourth halve the last axis each."""
    first = nn.Conv2d(inputs, width, (3, 9), padding=(1, 4))
    halving = [nn.Conv2d(width, width, (3, 9), (1, 2), (1, 4)) for _ in range(3)]
    return [weight_norm(conv) for conv in (first, *halving, nn.Conv2d(width, width, 3, padding=1))]


# --- EnCodec's -------------------------------------------------------------------------------------------


class MultiResolutionSTFTDiscriminator(nn.Module):
    """For each window a network over real and imaginary parts of the STFT, whose hop is a quarter and not centred.

    Each has five layers, weight-normed, with dilations 1, 2 and 4 over time in the second to fourth. Spectra are
    divided by the root of the window's energy.
    """

    def __init__(self, channels: int, settings: EncodecDiscriminator):
        super().__init__()
        width, stride = settings.width, settings.stride

        def conv(inputs: int, outputs: int, over_bins: int = 9, step: int = 1, dilation: int = 1) -> nn.Conv2d:
            pads = dilation, over_bins // 2
            return nn.Conv2d(inputs, outputs, (3, over_bins), (1, step), pads, (dilation, 1))

        def stack() -> Stack:
            first = conv(2 * channels, width)
            dilated = [conv(width, width, step=stride, dilation=dilation) for dilation in (1, 2, 4)]
            layers, last = [first, *dilated, conv(width, width, 3)], conv(width, 1, 3)
            for layer in [*layers, last] if settings.norm_first else [*layers[1:], last]:
                weight_norm(layer)
            return Stack(layers, last)

        self.resolutions = nn.ModuleList([stack() for _ in settings.windows])
        self.sizes, self.power = settings.windows, settings.power
        for size in settings.windows:
            window = hann(size)
            self.register_buffer(f"window_{size}", window / window.square().sum().sqrt(), persistent=False)

    def forward(self, audio: Tensor) -> DiscriminatorOutput:
        outputs = []
        for size, resolution in zip(self.sizes, self.resolutions, strict=True):
            window = self.get_buffer(f"window_{size}")
            spectrum = stft(audio, size, size // 4, window, center=False)
            if self.power:
                spectrum = spectrum * (spectrum.abs() + 1e-6) ** self.power
            outputs.append(resolution(parts(spectrum)))
        return gathered(outputs)


# --- over periods ----------------------------------------------------------------------------------------


class Periods(nn.Module):
    """HiFi-GAN's: for each period a network over samples that are so far apart.

    whole_period    audio that fits its period is extended by one, as in DAC; otherwise it is not
    """

    def __init__(self, channels: int, width: int, periods: Sequence[int], slope: float, whole_period: bool):
        super().__init__()
        self.periods, self.whole_period = tuple(periods), whole_period
        widths = [channels, width, 4 * width, 16 * width, 32 * width, 32 * width]

        def stack() -> Stack:
            strides = (3, 3, 3, 3, 1)
            layers = [
                weight_norm(nn.Conv2d(inputs, outputs, (5, 1), (stride, 1), (2, 0)))
                for (inputs, outputs), stride in zip(pairwise(widths), strides, strict=True)
            ]
            return Stack(layers, weight_norm(nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0))), slope)

        self.stacks = nn.ModuleList([stack() for _ in periods])

    def forward(self, audio: Tensor) -> DiscriminatorOutput:
        outputs = []
        for period, stack in zip(self.periods, self.stacks, strict=True):
            missing = -audio.shape[-1] % period
            if self.whole_period and not missing:
                missing = period
            outputs.append(stack(folded(F.pad(audio, (0, missing), "reflect"), period)))
        return gathered(outputs)


def folded(audio: Tensor, period: int) -> Tensor:
    """(B, C, T) -> (B, C, T / period, period)"""
    return audio.unflatten(-1, (-1, period))


# --- DAC's -----------------------------------------------------------------------------------------------


class Levelled(nn.Module):
    """Discriminators of audio whose channels each have the mean 0 and the peak 0.8."""

    def __init__(self, discriminators: Discriminators):
        super().__init__()
        self.discriminators = discriminators

    def forward(self, audio: Tensor) -> DiscriminatorOutput:
        audio = audio - audio.mean(-1, keepdim=True)
        return self.discriminators(0.8 * audio / (audio.abs().amax(-1, keepdim=True) + 1e-9))


class Bands(nn.Module):
    """For each window a network over the complex STFT, whose bands have layers of their own. Channels become items."""

    def __init__(self, width: int, windows: Sequence[int], cuts: Sequence[float]):
        super().__init__()
        self.windows = tuple(windows)
        self.edges = []
        for window in windows:
            bins = window // 2 + 1
            self.edges.append([0, *(int(cut * bins) for cut in cuts), bins])
        self.stacks = nn.ModuleList([_BandStack(width, len(cuts) + 1) for _ in windows])

    def forward(self, audio: Tensor) -> DiscriminatorOutput:
        waves, outputs = audio.flatten(0, 1)[:, None], []  # (B * C, 1, T)
        for window, edges, stack in zip(self.windows, self.edges, self.stacks, strict=True):
            spectrum = parts(matching_stft(waves, window, window // 4))  # (B * C, 2, frames, F)
            outputs.append(stack([spectrum[..., low:high] for low, high in pairwise(edges)]))
        return gathered(outputs)


class _BandStack(nn.Module):
    """Five layers for each band, and a last one over all bands joined. The features are those of band after band."""

    def __init__(self, width: int, bands: int):
        super().__init__()

        self.bands = nn.ModuleList([Stack(_halving(2, width), nn.Identity(), 0.1) for _ in range(bands)])
        self.last = weight_norm(nn.Conv2d(width, 1, 3, padding=1))

    def forward(self, spectra: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        outputs = [band(spectrum) for band, spectrum in zip(self.bands, spectra, strict=True)]
        joined = torch.cat([last for last, _ in outputs], -1)
        return self.last(joined), [feature for _, features in outputs for feature in features]


def matching_stft(x: Tensor, window: int, hop: int) -> Tensor:
    """descript-audiotools' `match_stride`: (B, C, T) -> complex (B, C, F, ceil(T / hop)), one frame for each hop."""
    side, behind = (window - hop) // 2, -x.shape[-1] % hop
    if x.shape[-1] <= max(side + behind, window // 2):
        raise ValueError(f"an STFT of {window} points needs more than {window // 2} samples, got {x.shape[-1]}")
    padded = F.pad(x, (side, side + behind), "reflect")
    return stft(padded, window, hop, hann(window))[..., 2:-2]


class Rates(nn.Module):
    """MelGAN's stack at each of several sampling rates."""

    def __init__(self, channels: int, rate: int, rates: Sequence[int]):
        super().__init__()
        self.rate, self.rates = rate, tuple(rates)
        self.stacks = nn.ModuleList([wave_stack(channels, weight_norm=True, slope=0.1) for _ in rates])

    def forward(self, audio: Tensor) -> DiscriminatorOutput:
        pairs = zip(self.rates, self.stacks, strict=True)
        return gathered([stack(resample(audio, self.rate, rate)) for rate, stack in pairs])


def dac(settings: DACDiscriminator, channels: int, rate: int) -> Levelled:
    """Those of the settings' kinds that have any networks."""
    kinds: dict[str, nn.Module] = {}
    if settings.periods:
        kinds["periods"] = Periods(channels, settings.width, settings.periods, 0.1, whole_period=True)
    if settings.rates:
        kinds["rates"] = Rates(channels, rate, settings.rates)
    if settings.windows:
        kinds["bands"] = Bands(settings.width, settings.windows, settings.bands)
    return Levelled(Discriminators(**kinds))


# --- Oobleck's -------------------------------------------------------------------------------------------


class Oobleck(nn.Module):
    """RAVE's: networks over scales, each half the last, and over periods of samples.

    The only logits are one score an item: the sum over the networks of the mean of their outputs. Features are the
    outputs of all convolutions, those of the last included and before their activation.
    """

    def __init__(self, channels: int, width: int, scales: int, periods: Sequence[int]):
        super().__init__()
        self.periods = tuple(periods)
        self.scales = nn.ModuleList([_StridedStack(nn.Conv1d, channels, width) for _ in range(scales)])
        self.folds = nn.ModuleList([_StridedStack(nn.Conv2d, channels, width) for _ in periods])

    def forward(self, audio: Tensor) -> DiscriminatorOutput:
        features, scaled = [], audio
        for scale in self.scales:
            features.append(scale(scaled))
            scaled = F.avg_pool1d(scaled, 2)
        for period, fold in zip(self.periods, self.folds, strict=True):
            features.append(fold(folded(F.pad(audio, (0, -audio.shape[-1] % period)), period)))
        scores = [network[-1].flatten(1).mean(1) for network in features]
        return DiscriminatorOutput([torch.stack(scores).sum(0)], features)


class _StridedStack(nn.Module):
    """Four convolutions of 15 taps and stride 4, each followed by SiLU, and a last one. x -> what they return."""

    def __init__(self, conv: type[nn.Conv1d | nn.Conv2d], channels: int, width: int):
        super().__init__()
        widths = [channels, width, 2 * width, 4 * width, 8 * width]
        layers = [weight_norm(conv(inputs, outputs, 15, 4, 7)) for inputs, outputs in pairwise(widths)]
        self.layers, self.last = nn.ModuleList(layers), conv(widths[-1], 1, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        outputs: list[Tensor] = []
        for layer in [*self.layers, self.last]:
            x = layer(F.silu(x) if outputs else x)
            outputs.append(x)
        return outputs


# --- LyraCodec's -----------------------------------------------------------------------------------------


class Pooled(nn.Module):
    """MelGAN's stack on the means of so many samples each."""

    def __init__(self, channels: int, sizes: Sequence[int]):
        super().__init__()
        self.sizes = tuple(sizes)
        self.stacks = nn.ModuleList([wave_stack(channels, weight_norm=True) for _ in sizes])

    def forward(self, audio: Tensor) -> DiscriminatorOutput:
        pairs = zip(self.sizes, self.stacks, strict=True)
        return gathered([stack(F.avg_pool1d(audio, size)) for size, stack in pairs])


class Magnitudes(nn.Module):
    """A network over the magnitudes of one STFT of the mean of all channels, with frequency before time."""

    def __init__(self, width: int, window: int, hop: int):
        super().__init__()
        self.stft = STFT(window, hop)
        self.stack = Stack(_halving(1, width), weight_norm(nn.Conv2d(width, 1, 3, padding=1)))

    def forward(self, audio: Tensor) -> DiscriminatorOutput:
        return gathered([self.stack(self.stft(audio.mean(1, keepdim=True)).abs())])  # of (B, 1, F, frames)


def lyra(settings: LyraDiscriminator, channels: int) -> Discriminators:
    """Those of the settings' kinds that have any networks."""
    kinds: dict[str, nn.Module] = {}
    if settings.periods:
        kinds["periods"] = Periods(channels, settings.width, settings.periods, 0.2, whole_period=False)
    if settings.scales:
        kinds["scales"] = Pooled(channels, settings.scales)
    if settings.window:
        kinds["magnitudes"] = Magnitudes(settings.width, settings.window, settings.hop)
    return Discriminators(**kinds)
