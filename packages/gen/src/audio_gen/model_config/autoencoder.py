"""`diffusion_autoencoder` -> ours, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from audio_core.files import InputError
from audio_core.train.stated import build

from .backbones import DECODING, backbone
from .codecs import Pretransform
from .file import File

_RECONSTRUCTION = 0.1
"""Weight of `use_reconstruction_loss`."""
BUILDER = "codec-vae"
"""Who builds encoders as stable-audio-tools states them."""


@dataclass(frozen=True)
class Part:
    type: str
    config: dict[str, Any] | None = None
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
    pretransform: Pretransform | None = None
    latent_dim: int
    downsampling_ratio: int
    io_channels: int


def decoding(file: File) -> tuple[dict[str, Any], bool, list[str]]:
    stated = build(Model, file.model, "model")
    if stated.decoder:
        raise InputError("model.decoder: is not read here; the original's own `decode` fails where there is one")
    if stated.encoder is None:
        raise InputError("model.encoder: is missing, without which no audio has a code")
    parts = {name: getattr(stated, name) for name in ("encoder", "bottleneck") if getattr(stated, name)}
    for name, each in parts.items():
        if not each.requires_grad:
            raise InputError(f"model.{name}.requires_grad: is off, and what does not learn here is a codec, beside it")
    audio, codec, remarks = file.audio(stated.pretransform)
    if codec is None and file.audio_channels is None:
        audio["channels"] = stated.io_channels
    width, kind = (codec.width, "latents") if codec else (audio["channels"], "audio")
    if stated.io_channels != width:
        raise InputError(f"model.io_channels: is {stated.io_channels}, for {kind} with {width} channels")
    if codec and stated.pretransform:
        audio["latents"] = {"hop": codec.hop, "channels": codec.width, "scale": stated.pretransform.scale}
        if (file.training or {}).get("use_reconstruction_loss"):
            audio["latents"]["reconstruction"] = _RECONSTRUCTION
    plain = {
        **audio,
        "kind": "DiffusionAutoencoder",
        "hop": stated.downsampling_ratio,
        "code_channels": stated.latent_dim,
        "encoder": {
            "name": BUILDER,
            "parts": {name: {"type": each.type, "config": each.config or {}} for name, each in parts.items()},
        },
        "backbone": backbone(DECODING, stated.diffusion.type, stated.diffusion.config, "model.diffusion.config"),
    }
    return plain, codec is not None, remarks
