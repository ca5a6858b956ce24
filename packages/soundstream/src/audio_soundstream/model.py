"""SoundStream and TinyStream: an encoder, a residual quantizer, a decoder, as in arXiv 2107.03312.

Encoders and decoders are chains that stream (`audio_core.nn.stream`); T samples become F = ceil(T / hop) frames and
F * hop samples again. Shapes are (B, channels, samples or frames).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from audio_core.audio import batch as checked
from audio_core.codec import fingerprint
from audio_core.files import InputError
from audio_core.nn.conv import Conv1d, ConvTranspose1d, Padding
from audio_core.nn.quantize import ResidualQuantizer
from audio_core.nn.residual import Residual
from audio_core.nn.stream import Sequential
from torch import Tensor, nn

from . import PACKAGE
from .config import SoundStreamConfig, TinyStreamConfig

_DILATIONS = (1, 3, 9)


class Reconstruction(NamedTuple):
    """What training needs of one pass."""

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
    loss_of_power: float
    """The factor by which the activation lowers the power of its input."""
    channels = 1

    def __init__(self, config: SoundStreamConfig | TinyStreamConfig):
        super().__init__()
        self.config = config
        self.sample_rate, self.hop, self.width = config.rate, config.hop, config.width
        self.quantizer = _quantizer(config)

    @property
    def codebooks(self) -> tuple[int, ...]:
        return self.quantizer.sizes

    @property
    def receptive_field(self) -> tuple[int, int]:
        """Samples of the encoder and frames of the decoder, to either side and rounded up."""
        ahead = self.decoder.delay + Fraction(self.lead, self.hop)
        encoder = max(self.encoder.history, self.encoder.delay)
        return math.ceil(encoder), math.ceil(max(self.decoder.history, ahead)) + 1

    def frames(self, samples: int) -> int:
        return -(-samples // self.hop)

    def fingerprint(self) -> bytes:
        """Eight bytes that stand for what a decoder must have: the codebooks and the decoder."""
        config = self.config
        kind = (type(self).__name__, *(getattr(config, name, None) for name in ("strides", "causal", "activation")))
        return fingerprint(self, kind, "decoder.", "quantizer.codebooks")

    def encode(self, audio: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """(B, 1, T) -> latents (B, width, ceil(T / hop)); silence fills the last frame.

        These latents are no distribution, so `generator` draws nothing.
        """
        return self._latents(checked(audio, self.channels))

    def decode(self, latents: Tensor, samples: int | None = None) -> Tensor:
        """(B, width, F) -> (B, 1, F * hop), or the first `samples` of it."""
        if latents.ndim != 3 or latents.shape[1] != self.width:
            raise InputError(f"latents: have the shape {tuple(latents.shape)}; pass (B, {self.width}, F)")
        end = latents.shape[-1] * self.hop if samples is None else samples
        return self.decoder(latents)[..., self.lead : self.lead + end]

    @torch.no_grad()
    def codes(self, audio: Tensor, layers: int | None = None) -> Tensor:
        """(B, 1, T) -> (B, N, F) of all layers, or of the first `layers`."""
        if layers is not None and not 1 <= layers <= self.config.layers:
            raise InputError(f"layers: expected 1 to {self.config.layers}, got {layers}")
        return self.quantizer.codes(self.encode(audio), layers)

    def from_codes(self, codes: Tensor) -> Tensor:
        """Codes (B, N, F) of the first N layers -> latents (B, width, F)."""
        if not isinstance(codes, Tensor) or codes.dtype not in (torch.int64, torch.int32, torch.int16, torch.uint8):
            kind = codes.dtype if isinstance(codes, Tensor) else type(codes).__name__
            raise InputError(f"codes: are of type {kind}; pass a tensor of integers (B, N, F)")
        if codes.ndim != 3:
            raise InputError(f"codes: have the shape {tuple(codes.shape)}; pass (B, N, F)")
        return self.quantizer.from_codes(codes.long())

    def forward(self, audio: Tensor, counts: Tensor | None = None) -> Reconstruction:
        """Audio of the same length; `counts` (B,) is the number of layers that each item is decoded from."""
        latents, codes, losses = self.quantizer(self._latents(audio), counts)
        return Reconstruction(self.decode(latents)[..., : audio.shape[-1]], codes, losses)

    def _latents(self, audio: Tensor) -> Tensor:
        return self.encoder(F.pad(audio, (0, -audio.shape[-1] % self.hop)))


def _quantizer(config: SoundStreamConfig | TinyStreamConfig) -> ResidualQuantizer:
    size = config.width, config.layers, config.size
    if config.learning in ("moving", "none"):
        return ResidualQuantizer(*size, learns=config.learning == "moving")
    from . import original  # which imports this module

    return (original.MovingQuantizer if config.learning == "moving_original" else original.GradientQuantizer)(*size)


@torch.no_grad()
def spread(model: NeuralCodec) -> None:
    """Initial weights that keep the level of the signal from layer to layer.

    With PyTorch's the level falls, as there are no norms and hardly any biases, and hundreds of steps pass until the
    output has a level at all.
    """
    for chain in (model.encoder, model.decoder):
        for name, conv in chain.named_modules():
            if isinstance(conv, Conv1d | ConvTranspose1d):
                shared = conv.groups if isinstance(conv, Conv1d) else conv.stride[0]
                inputs = conv.in_channels * conv.kernel_size[0] / shared  # that an output is the sum of
                plain = conv.groups > 1 or name == "last" or (name == "first" and "activation" not in chain._modules)
                nn.init.normal_(conv.weight, std=math.sqrt((1 if plain else model.loss_of_power) / inputs))
                if conv.bias is not None:
                    nn.init.zeros_(conv.bias)
        for unit in chain.modules():
            if isinstance(unit, Residual):  # 24 of them: each adds little to the sum
                unit.layers[-1].weight.mul_(0.3)
    model.decoder.get_submodule("last").weight.mul_(0.3)  # too soft is better than too loud


def finished(model: NeuralCodec) -> NeuralCodec:
    """The same codec without what only learning needs, which is half of its size."""
    copy = type(model)(replace(model.config, learning="none"))
    names = copy.state_dict().keys()
    copy.load_state_dict({name: tensor for name, tensor in model.state_dict().items() if name in names}, strict=False)
    return copy.eval()


class SoundStream(NeuralCodec):
    """Encoder without look-ahead, decoder with one of 181 samples, all of it with biases and ELU."""

    Config = SoundStreamConfig

    def __init__(self, config: SoundStreamConfig):
        super().__init__(config)
        c, strides = config.channels, config.strides
        self.lead, self.loss_of_power = 0, 1.5
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
    """For microcontrollers: depthwise convolutions, a bias in the last one only, look-ahead unless `causal`."""

    Config = TinyStreamConfig
    config: TinyStreamConfig

    def __init__(self, config: TinyStreamConfig):
        super().__init__(config)
        c, strides = config.channels, config.strides
        widths = (c, 2 * c, 3 * c, 4 * c, 4 * c)
        self.lead = 0 if config.causal else (config.hop - 1) // 2
        self.loss_of_power = 2.0
        edges = self._edges
        self.encoder = _chain(
            Conv1d(1, c, 3, padding=edges, bias=False),
            [self._down(i, o, s) for i, o, s in zip(widths[:-1], widths[1:], strides, strict=True)],
            Conv1d(4 * c, config.width, 1, bias=False),
            self._activation(),
        )
        ups = (4 * c, 3 * c, 2 * c, c, c)
        self.decoder = _chain(
            Conv1d(config.width, 4 * c, 1, bias=False),
            [self._up(i, o, s) for i, o, s in zip(ups[:-1], ups[1:], reversed(strides), strict=True)],
            Conv1d(c, 1, 3, padding=edges),
            self._activation(),
        )

    @property
    def _edges(self) -> Padding:
        return "causal" if self.config.causal else "same"

    def _down(self, inputs: int, outputs: int, stride: int) -> Sequential:
        pads: Padding = (stride, 0) if self.config.causal else stride // 2
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
        deep = Conv1d(channels, channels, 3, dilation=dilation, padding=self._edges, groups=channels, bias=False)
        point = Conv1d(channels, channels, 1, bias=False)
        return Residual(deep, point, self._activation(), Conv1d(channels, channels, 1, bias=False))

    def _activation(self) -> nn.Module:
        return nn.ReLU(inplace=True) if self.config.activation == "relu" else nn.Hardswish()


def _chain(first: nn.Module, blocks: list[Sequential], last: nn.Module, *after_first: nn.Module) -> Sequential:
    parts = [("first", first), *(("activation", layer) for layer in after_first)]
    parts += [(f"block{at}", block) for at, block in enumerate(blocks)]
    return Sequential(OrderedDict([*parts, ("last", last)]))


def build(config: SoundStreamConfig | TinyStreamConfig) -> NeuralCodec:
    """The codec of a configuration, with PyTorch's first weights."""
    return TinyStream(config) if isinstance(config, TinyStreamConfig) else SoundStream(config)


def load(path: str | Path = "default", device: str = "cpu") -> NeuralCodec:
    """The codec of a bundle: a folder, a Hub id, or the text `default`, which is the one in the wheel.

    A folder of that name is `Path("default")` or `./default`.
    """
    model = PACKAGE.load(path, [SoundStream, TinyStream], device)
    for name, tensor in model.state_dict().items():
        if not tensor.isfinite().all() or (name == "quantizer.counts" and tensor.min() < 0):
            raise InputError(f"{path}: {name} holds values that are not finite, or counts below 0")
    return model
