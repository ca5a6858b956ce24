"""Autoencoders whose decoder is a diffusion model: audio to the code of a codec, and from the code back by sampling.

The code is that of an encoder that learns with the rest, and which another package builds: it is found by name, as
codecs are. Or it is that of a codec, which is held outside and does not learn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch.nn.functional as F
from audio_core import codec as codecs
from audio_core import config as configs
from audio_core.codec import Codec
from audio_core.files import InputError
from torch import Tensor, nn

from ..config.diffusion_autoencoder import CodeDecoderConfig, DiffusionAutoencoderConfig
from ..diffusion import objectives
from ..diffusion.noise import ItemNoise
from ..diffusion.sampling import sample
from . import backbones
from .with_codec import WithCodec, expect_sizes


class Estimate(NamedTuple):
    """What training needs of one pass."""

    v: Tensor  # (B, C, T)
    code: Tensor  # (B, W, F)
    losses: dict[str, Tensor]  # of the bottleneck, without weights


class DiffusionAutoencoder(WithCodec):
    """Codes are (B, W, F), audio (B, C, T) with `hop` samples for each of their frames.

    Where it diffuses in latents, these stand for audio in `forward`, `v` and `condition`, with as many frames.
    """

    Config = DiffusionAutoencoderConfig
    config: DiffusionAutoencoderConfig

    def __init__(self, config: DiffusionAutoencoderConfig):
        super().__init__(config)
        self.encoder = encoder(config) if config.encoder else None
        self.decoder = CodeDecoder(config.code_channels, config.decoder) if config.decoder else None
        self.backbone = backbones.build(config.backbone)
        self.objective = objectives.build("v")

    def forward(self, x: Tensor, t: Tensor, source: Tensor, seeds: Sequence[int] | None = None) -> Estimate:
        """Of audio x (B, C, T) with noise, at times t (B,).

        The source is the audio without noise where the model has an encoder, which draws a code with a seed for each
        item; and otherwise the code.
        """
        code, losses = self.encoder(source, seeds) if self.encoder else (source, {})
        return Estimate(self.v(x, t, code), code, losses)

    def v(self, x: Tensor, t: Tensor, code: Tensor) -> Tensor:
        return self.backbone(x, t, input_concat_cond=self.condition(code, x.shape[-1]))

    def condition(self, code: Tensor, length: int) -> Tensor:
        """What the network sees of a code: (B, W, length). Behind its end the last frame goes on."""
        decoded = code if self.decoder is None else self.decoder(code)
        frames = -(-length // self.config.hop)
        missing = frames - decoded.shape[2]
        decoded = F.pad(decoded, (0, missing), "replicate") if missing > 0 else decoded[..., :frames]
        return decoded.repeat_interleave(self.config.hop, 2)[..., :length]

    @property
    def loss_weights(self) -> Mapping[str, float]:
        """Of the losses of its bottleneck."""
        source = self.config.encoder
        return {**self.encoder.weights, **source.weights} if self.encoder and source else {}

    # --- audio and codes -------------------------------------------------------------------------------------

    def signal(self, audio: Tensor) -> Tensor:
        """Audio (B, C, T) of the model's rate and channels -> what it diffuses: itself, or latents."""
        return self._latents_codec(audio).encode(audio) / self.config.latents.scale if self.config.latents else audio

    def _latents_codec(self, tensor: Tensor) -> Codec:
        codec = self.load_codec(tensor.device)
        if codec is None:
            raise InputError("latents.codec: this model has none, so it can neither take audio nor give it")
        return codec

    def encode(self, audio: Tensor) -> Tensor:
        """Audio (B, C, T) of the model's rate and channels -> its code, in eval mode the mean of its distribution."""
        if self.encoder:
            return self.encoder(self.signal(audio))[0]
        codec = self.load_codec(audio.device)
        if codec is None:
            raise InputError(
                "codec: this model has neither one nor an encoder, so it cannot take audio; give codes that were "
                "computed before"
            )
        return codec.encode(audio) / self.config.scale

    def decode(
        self,
        code: Tensor,
        samples: int | None = None,
        seeds: Sequence[int] | None = None,
        steps: int | None = None,
    ) -> Tensor:
        """A code -> audio (B, C, samples), all of its frames by default. Each item begins at the noise of its seed."""
        items, _, frames = code.shape
        wanted = frames * self.config.frame_samples if samples is None else samples
        length = self.config.frames_for(wanted)
        fresh = ItemNoise(range(items) if seeds is None else seeds)
        noise = fresh(code.new_empty(items, self.config.signal.width, length))
        own = self.config.sampling
        sampling = own if steps is None else replace(own, steps=steps)
        result = sample(lambda x, t: self.v(x, t, code), noise, sampling, fresh)
        return self.audio(result, wanted)

    def audio(self, signal: Tensor, samples: int) -> Tensor:
        """What it diffuses -> audio (B, C, samples)."""
        if self.config.latents is None:
            return signal[..., :samples]
        codec = self._latents_codec(signal)
        return codec.decode(signal[..., : codec.frames(samples)] * self.config.latents.scale, samples)


def encoder(config: DiffusionAutoencoderConfig) -> Any:
    """A new encoder of a model, with what `audio_core.codec` says that it has."""
    source = config.encoder
    assert source
    name = f"encoder {source.name}"
    build = codecs.find(source.name, codecs.ENCODERS)
    try:
        module = build(configs.plain(source)["parts"])
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    expect_sizes(name, module, channels=config.signal.width, hop=config.hop, width=config.code_channels)
    if others := {*source.weights} - {*module.weights}:
        known = ", ".join(module.weights) or "none"
        raise InputError(f"{name}: weights: {min(others)} is no loss of its bottlenecks; there are {known}")
    return module


class CodeDecoder(nn.Module):
    """(B, W, F) -> (B, channels, F)."""

    def __init__(self, inputs: int, config: CodeDecoderConfig):
        super().__init__()
        width, kernel = config.channels, config.kernel_size
        self.layers = nn.ModuleList(
            nn.Conv1d(width if at else inputs, width, kernel, padding=kernel // 2) for at in range(config.depth)
        )

    def forward(self, code: Tensor) -> Tensor:
        for at, layer in enumerate(self.layers):
            code = layer(F.silu(code) if at else code)
        return code
