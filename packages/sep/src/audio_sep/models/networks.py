"""The seven networks of Bytesep: U-Nets, ResUNets of 143 convolutions, and a MobileNet.

Names and numbers are those of "Decoupling Magnitude and Phase Estimation with Deep ResUNet for Music Source Separation"
(arXiv 2109.05418) and of its program.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from ..config import (
    ConditionalUNetConfig,
    MobileNetSubbandTimeConfig,
    ResUNet143Config,
    ResUNet143DecouplePlusConfig,
    ResUNet143SubbandTimeConfig,
    SeparatorConfig,
    UNetConfig,
    UNetSubbandTimeConfig,
)
from .blocks import (
    SLOPE,
    ConvBlock,
    SeparableBlock,
    nearest_up,
    normed_up,
    preactivated_up,
    residual_blocks,
)
from .body import UNetBody
from .separator import SpectrogramSeparator


def unet(config: SeparatorConfig, condition: int = 0) -> UNetBody:
    block, up = partial(ConvBlock, condition=condition), partial(normed_up, condition=condition)
    return UNetBody(config.inputs, config.widths, block, up)


def resunet(config: SeparatorConfig, slope: float) -> UNetBody:
    block = partial(residual_blocks, slope=slope)
    return UNetBody(config.inputs, config.widths, block, preactivated_up, centre=4, last=(1, 2))


def mobilenet(config: SeparatorConfig) -> UNetBody:
    return UNetBody(config.inputs, config.widths, SeparableBlock, nearest_up, last=(1, 2))


class UNet(SpectrogramSeparator):
    """The U-Net on the whole spectrum."""

    Config = UNetConfig

    def __init__(self, config: UNetConfig):
        super().__init__(config, unet(config))


class UNetSubbandTime(SpectrogramSeparator):
    """The U-Net on four subbands.

    The order of its planes is that of the other models, so that several sources work. In the original they do not.
    """

    Config = UNetSubbandTimeConfig

    def __init__(self, config: UNetSubbandTimeConfig):
        super().__init__(config, unet(config))


class ResUNet143(SpectrogramSeparator):
    """The network of the paper, as published at ISMIR 2021."""

    Config = ResUNet143Config

    def __init__(self, config: ResUNet143Config):
        super().__init__(config, resunet(config, SLOPE))


class ResUNet143DecouplePlus(SpectrogramSeparator):
    """The same with ReLU, on a spectrogram cut in four along frequency."""

    Config = ResUNet143DecouplePlusConfig

    def __init__(self, config: ResUNet143DecouplePlusConfig):
        super().__init__(config, resunet(config, 0.0))
        self.frames_unit *= 2  # more than the network needs, but the weights have seen it


class ResUNet143SubbandTime(SpectrogramSeparator):
    """The network of the paper on four subbands."""

    Config = ResUNet143SubbandTimeConfig
    bounded = True

    def __init__(self, config: ResUNet143SubbandTimeConfig):
        super().__init__(config, resunet(config, SLOPE))


class MobileNetSubbandTime(SpectrogramSeparator):
    """A small network of depthwise convolutions on four subbands."""

    Config = MobileNetSubbandTimeConfig
    bounded = True

    def __init__(self, config: MobileNetSubbandTimeConfig):
        super().__init__(config, mobilenet(config))


class ConditionalUNet(SpectrogramSeparator):
    """The U-Net on a spectrogram cut in four, which separates what a condition asks for."""

    Config = ConditionalUNetConfig
    estimated = 1

    def __init__(self, config: ConditionalUNetConfig):
        super().__init__(config, unet(config, len(config.sources)))

    def forward(self, audio: Tensor, condition: Tensor) -> Tensor:
        """(B, C, T) and a value for each source, (B, S) -> (B, 1, C, T)."""
        mixture = self.analysis(audio)
        return self.estimate(self.features(mixture.magnitude, condition), mixture, [0], audio.shape[-1])

    @torch.inference_mode()
    def separate(self, audio: Tensor, sources: Sequence[str] | None = None) -> dict[str, Tensor]:
        """(B, C, T) -> each source, (B, C, T), in a pass for each."""
        names, mixture = self.config.sources if sources is None else sources, self.analysis(audio)
        conditions = torch.eye(len(self.config.sources), device=audio.device)
        outputs = {}
        for name, place in zip(names, self.places(names), strict=True):
            condition = conditions[place].expand(len(audio), -1)
            features = self.features(mixture.magnitude, condition)
            outputs[name] = self.estimate(features, mixture, [0], audio.shape[-1])[:, 0]
        return outputs
