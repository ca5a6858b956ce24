"""SoundStream and TinyStream: an encoder, a residual quantizer, a decoder, as in arXiv 2107.03312.

Encoders and decoders are chains that stream (`audio_core.nn.stream`); T samples become F = ceil(T / hop) frames and
F * hop samples again. Shapes are (B, channels, samples or frames).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import torch.nn.functional as F
from audio_core.nn.conv import Conv1d, ConvTranspose1d
from audio_core.nn.quantize import ResidualQuantizer
from audio_core.nn.residual import Residual
from audio_core.nn.stream import Sequential
from torch import Tensor, nn

from .compat import GradientQuantizer, MovingQuantizer
from .layout import SoundStreamConfig, TinyStreamConfig

_QUANTIZERS = {
    "moving": ResidualQuantizer,
    "moving_original": MovingQuantizer,
    "gradient_original": GradientQuantizer,
}
_DILATIONS = (1, 3, 9)


class Rebuilt(NamedTuple):
    """What a training needs of one pass."""

    audio: Tensor  # (B, 1, T)
    codes: Tensor  # (B, N, F)
    losses: Tensor  # (N,) of the quantizer


class NeuralCodec(nn.Module):
    """The face of both codecs; it satisfies `audio_core.codec.Codec`."""

    config: SoundStreamConfig | TinyStreamConfig
    encoder: Sequential  # (B, 1, T) -> (B, width, frames)
    decoder: Sequential  # (B, width, F) -> (B, 1, more than F * hop)
    lead: int
    """Samples of the decoder's output before the first that counts."""
    channels = 1

    def __init__(self, config: SoundStreamConfig | TinyStreamConfig):
        super().__init__()
        self.config = config
        self.sample_rate, self.hop, self.width = config.rate, config.hop, config.width
        self.quantizer = _QUANTIZERS[config.learning](config.width, config.layers, config.size)

    @property
    def codebooks(self) -> tuple[int, ...]:
        return self.quantizer.sizes

    def encode(self, audio: Tensor) -> Tensor:
        """(B, 1, T) -> latents (B, width, ceil(T / hop)); silence follows up to a whole frame."""
        return self.encoder(F.pad(audio, (0, -audio.shape[-1] % self.hop)))

    def decode(self, latents: Tensor) -> Tensor:
        """(B, width, F) -> (B, 1, F * hop)."""
        return self.decoder(latents)[..., self.lead : self.lead + latents.shape[-1] * self.hop]

    def codes(self, audio: Tensor, layers: int | None = None) -> Tensor:
        """(B, 1, T) -> (B, N, F), of the first `layers` if not of all."""
        return self.quantizer.codes(self.encode(audio), layers)

    def from_codes(self, codes: Tensor) -> Tensor:
        """Codes (B, N, F) of any number of layers -> latents (B, width, F)."""
        return self.quantizer.from_codes(codes)

    def forward(self, audio: Tensor, counts: Tensor | None = None) -> Rebuilt:
        """Audio of the same length; `counts` (B,) tells from how many layers each item is rebuilt."""
        latents, codes, losses = self.quantizer(self.encode(audio), counts)
        return Rebuilt(self.decode(latents)[..., : audio.shape[-1]], codes, losses)


class SoundStream(NeuralCodec):
    """Encoder without look-ahead, decoder with one of 181 samples, all of it with biases and ELU."""

    Config = SoundStreamConfig

    def __init__(self, config: SoundStreamConfig = SoundStreamConfig()):
        super().__init__(config)
        c, strides = config.channels, config.strides
        self.lead = 0
        self.encoder = _chain(
            Conv1d(1, c, 7, padding="causal"),
            [self._down(c * 2**at, stride) for at, stride in enumerate(strides)],
            Conv1d(16 * c, config.width, 3, padding="causal"),
        )
        self.decoder = _chain(
            Conv1d(config.width, 16 * c, 7, padding="causal"),
            [self._up(c * 2 ** (4 - at), stride) for at, stride in enumerate(reversed(strides))],
            Conv1d(c, 1, 7, padding="causal"),
        )

    @staticmethod
    def _down(channels: int, stride: int) -> Sequential:
        down = Conv1d(channels, 2 * channels, 2 * stride, stride, padding="causal")
        return Sequential(*map(SoundStream._unit, (channels,) * 3, _DILATIONS), down, nn.ELU(inplace=True))

    @staticmethod
    def _up(channels: int, stride: int) -> Sequential:
        up = ConvTranspose1d(channels, channels // 2, 2 * stride, stride, padding=stride // 2)
        return Sequential(up, nn.ELU(inplace=True), *map(SoundStream._unit, (channels // 2,) * 3, _DILATIONS))

    @staticmethod
    def _unit(channels: int, dilation: int) -> Residual:
        wide = Conv1d(channels, channels, 7, dilation=dilation, padding="causal")
        return Residual(wide, nn.ELU(inplace=True), Conv1d(channels, channels, 1))


class TinyStream(NeuralCodec):
    """For microcontrollers: depthwise convolutions, no biases but the last, hears 96 ms ahead unless `causal`."""

    Config = TinyStreamConfig

    def __init__(self, config: TinyStreamConfig = TinyStreamConfig()):
        super().__init__(config)
        c, strides = config.channels, config.strides
        widths = (c, 2 * c, 3 * c, 4 * c, 4 * c)
        self.lead = 0 if config.causal else (config.hop - 1) // 2
        edges = "causal" if config.causal else "same"
        self.encoder = _chain(
            Conv1d(1, c, 3, padding=edges, bias=False),
            [self._down(*pair, stride) for *pair, stride in zip(widths, widths[1:], strides)],
            Conv1d(4 * c, config.width, 1, bias=False),
            self._activation(),
        )
        ups = (4 * c, 3 * c, 2 * c, c, c)
        self.decoder = _chain(
            Conv1d(config.width, 4 * c, 1, bias=False),
            [self._up(*pair, stride) for *pair, stride in zip(ups, ups[1:], reversed(strides))],
            Conv1d(c, 1, 3, padding=edges),
            self._activation(),
        )

    def _down(self, inputs: int, outputs: int, stride: int) -> Sequential:
        pads = (stride, 0) if self.config.causal else stride // 2
        down = Conv1d(inputs, inputs, 2 * stride, stride, padding=pads, groups=inputs, bias=False)
        point = Conv1d(inputs, outputs, 1, bias=False)
        return Sequential(*(self._unit(inputs, d) for d in _DILATIONS), down, point, self._activation())

    def _up(self, inputs: int, outputs: int, stride: int) -> Sequential:
        if self.config.causal:
            up = ConvTranspose1d(inputs, outputs, 2 * stride, stride, padding="causal", bias=False)
        else:  # the last of stride * T + stride - 1 samples gets no tap
            up = ConvTranspose1d(
                inputs, outputs, 2 * stride, stride, padding=stride // 2, output_padding=stride - 1, bias=False
            )
        return Sequential(up, self._activation(), *(self._unit(outputs, d) for d in _DILATIONS))

    def _unit(self, channels: int, dilation: int) -> Residual:
        edges = "causal" if self.config.causal else "same"
        deep = Conv1d(channels, channels, 3, dilation=dilation, padding=edges, groups=channels, bias=False)
        point = Conv1d(channels, channels, 1, bias=False)
        return Residual(deep, point, self._activation(), Conv1d(channels, channels, 1, bias=False))

    def _activation(self) -> nn.Module:
        return nn.ReLU(inplace=True) if self.config.activation == "relu" else nn.Hardswish()


def _chain(first: nn.Module, blocks: list[Sequential], last: nn.Module, *after_first: nn.Module) -> Sequential:
    parts = [("first", first), *(("activation", layer) for layer in after_first)]
    parts += [(f"block{at}", block) for at, block in enumerate(blocks)]
    return Sequential(OrderedDict([*parts, ("last", last)]))
