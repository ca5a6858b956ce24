"""`diffusion_autoencoder` -> ours, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from audio_core.files import InputError
from audio_core.train.stated import build

from .backbones import DECODING, backbone
from .file import File

BUILDER = "codec-vae"
"""Who builds encoders as stable-audio-tools states them."""


@dataclass(frozen=True)
class Part:
    type: str
    config: dict[str, Any] = field(default_factory=dict)
    requires_grad: bool = True


@dataclass(frozen=True)
class Network:
    type: str
    config: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Model:
    encoder: Part | None = None
    bottleneck: Part | None = None
    decoder: dict[str, Any] | None = None
    diffusion: Network
    pretransform: dict[str, Any] | None = None
    latent_dim: int
    downsampling_ratio: int
    io_channels: int


def decoding(file: File) -> tuple[dict[str, Any], bool, list[str]]:
    stated = build(Model, file.model, "model")
    if stated.pretransform:
        raise InputError("model.pretransform: is a codec in whose latents it diffuses; here it diffuses audio alone")
    if stated.decoder:
        raise InputError("model.decoder: is not read here; the original's own `decode` fails where there is one")
    if stated.encoder is None:
        raise InputError("model.encoder: is missing, without which no audio has a code")
    parts = {name: getattr(stated, name) for name in ("encoder", "bottleneck") if getattr(stated, name)}
    for name, each in parts.items():
        if not each.requires_grad:
            raise InputError(f"model.{name}.requires_grad: is off, and what does not learn here is a codec, beside it")
    if file.audio_channels not in (None, stated.io_channels):
        raise InputError(f"audio_channels: is {file.audio_channels}, and model.io_channels {stated.io_channels}")
    plain = {
        "kind": "DiffusionAutoencoder",
        "rate": file.sample_rate,
        "samples": file.sample_size,
        "channels": stated.io_channels,
        "hop": stated.downsampling_ratio,
        "code_channels": stated.latent_dim,
        "encoder": {
            "name": BUILDER,
            "parts": {name: {"type": each.type, "config": each.config} for name, each in parts.items()},
        },
        "backbone": backbone(DECODING, stated.diffusion.type, stated.diffusion.config, "model.diffusion.config"),
    }
    return plain, False, []
