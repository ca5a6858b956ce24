"""What a checkpoint of descript-audio-codec says of its model: `metadata.kwargs`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from audio_core.files import InputError
from audio_core.train.stated import build

from ..config import AutoencoderConfig
from .stated import ModelConfig


@dataclass(frozen=True)
class Settings:
    encoder_dim: int = 64
    encoder_rates: tuple[int, ...] = (2, 4, 8, 8)
    latent_dim: int | None = None
    decoder_dim: int = 1536
    decoder_rates: tuple[int, ...] = (8, 8, 4, 2)
    n_codebooks: int = 9
    codebook_size: int = 1024
    codebook_dim: int | tuple[int, ...] = 8
    quantizer_dropout: float = 0.0
    sample_rate: int = 44100


def understood(data: Mapping[str, Any]) -> ModelConfig:
    """The configuration that the arguments of the original's class describe."""
    given = build(Settings, data)
    width = given.encoder_dim * 2 ** len(given.encoder_rates)
    if given.latent_dim not in (None, width):
        raise InputError(f"latent_dim: is {given.latent_dim}, and the encoders here give {width} channels")
    names = ("n_codebooks", "codebook_dim", "codebook_size", "quantizer_dropout")
    data = {
        "rate": given.sample_rate,
        "channels": 1,
        "encoder": {"kind": "DACEncoder", "d_model": given.encoder_dim, "strides": given.encoder_rates},
        "decoder": {
            "kind": "DACDecoder",
            "latent_dim": width,
            "channels": given.decoder_dim,
            "rates": given.decoder_rates,
        },
        "bottleneck": {"kind": "DACRVQ", "input_dim": width, **{name: getattr(given, name) for name in names}},
    }
    return ModelConfig(build(AutoencoderConfig, data), "descript-audio-codec")
