"""A whole autoencoder: what comes before the encoder, the encoder, the bottleneck, the decoder, and back.

Audio is (B, C, T), latents are (B, width, F). stable-audio-tools' models fill the last frame with silence, so that T
samples make ceil(T / hop) frames. LyraCodec's let go what does not fill a frame, and its decoder grows it again.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from audio_core import codec
from audio_core.audio import batch as checked
from audio_core.dsp.precision import Precision, computed_in
from audio_core.files import InputError
from audio_core.weights import no_values
from torch import Generator, Tensor, nn

from ..config import (
    AutoencoderConfig,
    DACDecoderConfig,
    DACEncoderConfig,
    DecoderConfig,
    EncoderConfig,
    LyraDecoderConfig,
    LyraEncoderConfig,
    OobleckDecoderConfig,
    OobleckEncoderConfig,
    SEANetConfig,
    SEANetDecoderConfig,
    SEANetEncoderConfig,
    TAAEDecoderConfig,
    TAAEEncoderConfig,
)
from . import bottleneck, pretransform
from .blocks import for_inference, shortest
from .bottleneck import Encoded
from .dac import DACDecoder, DACEncoder
from .lyra import LyraDecoder, LyraEncoder
from .oobleck import OobleckDecoder, OobleckEncoder
from .seanet import SEANetDecoder, SEANetEncoder
from .taae import TAAEDecoder, TAAEEncoder
from .weight_norm import fit_weight_norm, remove_weight_norm

CODERS: dict[type, Any] = {
    LyraEncoderConfig: LyraEncoder,
    LyraDecoderConfig: LyraDecoder,
    OobleckEncoderConfig: OobleckEncoder,
    OobleckDecoderConfig: OobleckDecoder,
    DACEncoderConfig: DACEncoder,
    DACDecoderConfig: DACDecoder,
    SEANetEncoderConfig: SEANetEncoder,
    SEANetDecoderConfig: SEANetDecoder,
    TAAEEncoderConfig: TAAEEncoder,
    TAAEDecoderConfig: TAAEDecoder,
}


class Reconstruction(NamedTuple):
    """What training needs of one pass."""

    audio: Tensor  # (B, C, T)
    encoded: Encoded


class Autoencoder(nn.Module):
    """It satisfies `audio_core.codec.Codec`."""

    Config = AutoencoderConfig
    precision = torch.float32
    """In which encoder and decoder compute; all else is done in float32."""

    def __init__(self, config: AutoencoderConfig):
        super().__init__()
        self.config = config
        self.sample_rate, self.channels = config.rate, config.channels
        self.pretransform = pretransform.build(config.pretransform, config.channels)
        self.encoder, self.decoder = (CODERS[type(each)](each) for each in (config.encoder, config.decoder))
        self.bottleneck = bottleneck.build(config.bottleneck, encoder_width(config.encoder))
        self.hop, self.width = self.pretransform.ratio * self.encoder.ratio, self.bottleneck.width
        self._expect_fit()
        for name in config.frozen:
            self.get_submodule(name).requires_grad_(False)
        if config.folded:
            for_inference(self)
        self._mark: tuple[Any, bytes] | None = None

    def _expect_fit(self) -> None:
        encoder, decoder, waves = self.config.encoder, self.config.decoder, self.pretransform.width
        pairs = {
            "encoder: takes {} channels, and gets {}": (audio_channels(encoder), waves),
            "decoder: gives {} channels, where {} are expected": (audio_channels(decoder), waves),
            "decoder: takes {} channels, and the bottleneck gives {}": (
                decoder_width(decoder),
                self.bottleneck.outputs,
            ),
            "decoder: has a ratio of {}, and the encoder one of {}": (self.decoder.ratio, self.encoder.ratio),
        }
        for text, (given, expected) in pairs.items():
            if given != expected:
                raise InputError(text.format(given, expected))

    # --- sizes -------------------------------------------------------------------------------------------

    @property
    def codebooks(self) -> tuple[int, ...]:
        return self.bottleneck.codebooks

    @property
    def receptive_field(self) -> tuple[int, int] | None:
        """Samples of the encoder and frames of the decoder, to either side."""
        first, second = self.encoder.receptive_field, self.decoder.receptive_field
        if first is None or second is None or self.hop % self.pretransform.period:
            return None
        before, after = self.pretransform.receptive_field
        return first * self.pretransform.ratio + before, second + -(-after // self.encoder.ratio)

    def frames(self, samples: int) -> int:
        """How many frames `encode` returns for this number of samples; LyraCodec has none of too few."""
        if not isinstance(self.encoder, LyraEncoder):
            return -(-samples // self.hop)
        return self.encoder.frames(-(-samples // self.pretransform.ratio))

    # --- audio to latents and back ---------------------------------------------------------------------------

    def encode(self, audio: Tensor, generator: Generator | None = None) -> Tensor:
        """(B, C, T) -> latents (B, width, F): the means of a Gaussian, or in training or with a generator a sample."""
        return self._encoded(checked(audio, self.channels), generator).latents

    def decode(self, latents: Tensor, samples: int | None = None) -> Tensor:
        """(B, width, F) -> audio (B, C, samples), for any number of samples that makes F frames; F * hop for None."""
        if latents.ndim != 3 or latents.shape[1] != self.width:
            raise InputError(f"latents: have the shape {tuple(latents.shape)}; pass (B, {self.width}, F)")
        if samples is not None and self.frames(samples) != latents.shape[-1]:
            frames = f"{samples} samples make {self.frames(samples)} frames, not {latents.shape[-1]}"
            raise InputError(f"latents: {frames}; pass the length of the audio that was encoded")
        return self._decoded(latents, None, samples)

    @torch.no_grad()
    def codes(self, audio: Tensor, layers: int | None = None) -> Tensor:
        """(B, C, T) -> codes (B, K, F) of all codebooks, or of the first `layers`."""
        if not self.codebooks:
            raise TypeError("this autoencoder has continuous latents and no codes")
        if layers is not None and not 1 <= layers <= len(self.codebooks):
            raise InputError(f"layers: expected 1 to {len(self.codebooks)}, got {layers}")
        codes = self._encoded(checked(audio, self.channels), None).codes
        return cast(Tensor, codes)[:, :layers]

    def from_codes(self, codes: Tensor) -> Tensor:
        """The codes (B, K, F) of the first K codebooks -> latents (B, width, F)."""
        return self.bottleneck.from_codes(codes)

    def forward(self, audio: Tensor, generator: Generator | None = None) -> Reconstruction:
        """Audio of the same length, and how it was encoded."""
        encoded = self._encoded(audio, generator)
        return Reconstruction(self._decoded(encoded.latents, generator, audio.shape[-1]), encoded)

    def _encoded(self, audio: Tensor, generator: Generator | None) -> Encoded:
        samples = audio.shape[-1]
        if not self.frames(samples):
            least = (shortest(self.encoder.strides) - 1) * self.pretransform.ratio + 1
            raise InputError(f"audio: has {samples} samples; this autoencoder needs at least {least}")
        if not isinstance(self.encoder, LyraEncoder):
            audio = F.pad(audio, (0, -samples % self.hop))
        return self.bottleneck.encode(self._run(self.encoder, self.pretransform.encode(audio)), generator)

    def _decoded(self, latents: Tensor, generator: Generator | None, samples: int | None) -> Tensor:
        wanted = latents.shape[-1] * self.hop if samples is None else samples
        inputs = self.bottleneck.decode(latents, generator)
        if isinstance(self.decoder, LyraDecoder):
            waves = self._run(self.decoder, inputs, -(-wanted // self.pretransform.ratio))
        else:
            waves = self._run(self.decoder, inputs)
            # A transposed convolution of an odd stride loses its last sample.
            waves = F.pad(waves, (0, inputs.shape[-1] * self.decoder.ratio - waves.shape[-1]))
        audio = self.pretransform.decode(waves)[..., :wanted]
        return audio.tanh() if self.config.soft_clip else audio

    def _run(self, coder: nn.Module, x: Tensor, *lengths: int) -> Tensor:
        if self.precision == torch.float32:
            return coder(x, *lengths)
        return coder(x.to(self.precision), *lengths).float()

    # --- the rest --------------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Autoencoder:
        super().train(mode)
        if "bottleneck" in self.config.frozen and self.codebooks:  # whose codebooks would move by themselves
            self.bottleneck.eval()
        return self

    def fingerprint(self) -> bytes:
        """Eight bytes that stand for all that decoding depends on. Folding weight norm leaves them as they are.

        They are kept until a weight changes. A copy of lower precision has those of the model that it was made of.
        """
        if self._mark is not None and self.precision != torch.float32:
            return self._mark[1]
        state = [*self.decoder.state_dict().values(), *self.bottleneck.state_dict().values()]
        counts = [0 if tensor.is_inference() else tensor._version for tensor in state]  # those count no changes
        versions = [(count, tensor.dtype, tensor.data_ptr()) for count, tensor in zip(counts, state, strict=True)]
        if self._mark is None or self._mark[0] != versions:
            config = self.config
            parts = plain = nn.ModuleDict({"decoder": self.decoder, "bottleneck": self.bottleneck})
            if not config.folded:
                with no_values():
                    neck = bottleneck.build(config.bottleneck, self.bottleneck.inputs)
                    plain = nn.ModuleDict({"decoder": CODERS[type(config.decoder)](config.decoder), "bottleneck": neck})
                remove_weight_norm(plain)
                plain.load_state_dict(fit_weight_norm(parts.state_dict(), plain), assign=True)
            kinds = [_stated(each) for each in (config.decoder, config.bottleneck, config.pretransform)]
            self._mark = versions, codec.fingerprint(plain, (*kinds, config.soft_clip), "decoder.", "bottleneck.")
        return self._mark[1]


def _stated(config: Any) -> Any:
    """The name of a configuration and its settings that are not the defaults, so that a new one changes nothing."""
    if config is None:
        return None
    values = {field.name: (getattr(config, field.name), field.default) for field in dataclasses.fields(config)}
    return type(config).__name__, sorted((name, value) for name, (value, usual) in values.items() if value != usual)


def folded(model: Autoencoder, device: str = "cpu", precision: Precision = "float32") -> Autoencoder:
    """The same autoencoder for use and not for training: smaller and faster, with results equal up to rounding.

    In bf16, which a device without instructions for it refuses, encoder and decoder compute in 16 bits. That takes
    0.54 to 0.58 of the time, for rounding 26 to 48 dB below the result. Such a copy is for use alone.
    """
    if model.precision != torch.float32:
        raise InputError("model: its weights are rounded to 16 bits; take the one that it was made of")
    kind = computed_in(precision, torch.device(device))
    copied = Autoencoder(dataclasses.replace(model.config, folded=True))
    copied.load_state_dict(fit_weight_norm(model.state_dict(), copied))
    if kind != torch.float32:
        copied.fingerprint()  # before weights are rounded
        copied.precision = kind
        for coder in (copied.encoder, copied.decoder):
            coder.to(kind)
    return copied.to(device).eval()


# --- what configurations say of channels ---------------------------------------------------------------------


def encoder_width(config: EncoderConfig) -> int:
    """Channels of what an encoder gives."""
    if isinstance(config, LyraEncoderConfig):
        return 2 * config.latent_dim
    if isinstance(config, DACEncoderConfig) and config.latent_dim is None:
        return config.d_model * 2 ** len(config.strides)
    return config.dimension if isinstance(config, SEANetEncoderConfig) else cast(int, config.latent_dim)


def decoder_width(config: DecoderConfig) -> int:
    """Channels of what a decoder takes."""
    return config.dimension if isinstance(config, SEANetDecoderConfig) else config.latent_dim


def audio_channels(config: EncoderConfig | DecoderConfig) -> int:
    """Channels of what an encoder takes, or a decoder gives."""
    if isinstance(config, SEANetConfig):
        return config.channels
    names = ("in_channels", "out_channels")
    return next(getattr(config, name) for name in names if hasattr(config, name))
