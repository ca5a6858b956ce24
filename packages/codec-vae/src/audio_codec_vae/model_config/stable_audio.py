"""A model_config.json of stable-audio-tools: an autoencoder, or a diffusion or language model with one inside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from audio_core import config
from audio_core.files import InputError
from audio_core.train.stated import build, unknown

from ..config import AutoencoderConfig, SEANetDecoderConfig, SEANetEncoderConfig
from .fit import check_fit
from .parts import BOTTLENECKS, DECODERS, ENCODERS, PRETRANSFORMS, Part, part
from .stated import ModelConfig
from .training import Training, settings

_ORIGIN = "stable-audio-tools"
CONTAINERS = ("diffusion_cond", "diffusion_cond_inpaint", "diffusion_uncond", "lm")
"""The types of models that hold an autoencoder as their pretransform."""
_ELSEWHERE = {
    "diffusion_autoencoder": "whose decoder is a diffusion model",
    **dict.fromkeys(("diffusion_prior", "clap"), "which holds no autoencoder"),
}


@dataclass(frozen=True)
class Decoder(Part):
    soft_clip: bool = False


@dataclass(frozen=True)
class Pretransform:
    type: str
    config: dict[str, Any] | None = None
    scale: float = 1.0
    model_half: bool = False
    iterate_batch: bool = False
    chunked: bool = False
    enable_grad: bool = False


@dataclass(frozen=True, kw_only=True)
class Model:
    encoder: Part
    decoder: Decoder
    bottleneck: Part | None = None
    pretransform: Pretransform | None = None
    latent_dim: int
    downsampling_ratio: int
    io_channels: int
    in_channels: int | None = None
    out_channels: int | None = None


@dataclass(frozen=True, kw_only=True)
class File:
    model_type: Literal["autoencoder"] = "autoencoder"
    sample_rate: int
    model: Model
    sample_size: int | None = None
    audio_channels: int | None = None
    training: Training | None = None


def understood(data: Mapping[str, Any]) -> ModelConfig:
    """The configuration that the content of a model_config.json describes. The content stays as it is."""
    kind = data.get("model_type")
    if kind in CONTAINERS:
        return _contained(data, str(kind))
    if kind != "autoencoder":
        raise InputError(
            f"model_type: {unknown(str(kind), ('autoencoder', *CONTAINERS), _ELSEWHERE.get(str(kind), ''))}"
        )
    file = build(File, data)
    if file.audio_channels not in (None, file.model.in_channels or file.model.io_channels):
        raise InputError(f"audio_channels: is {file.audio_channels}, and model.io_channels {file.model.io_channels}")
    model, remarks = _autoencoder(file.model, file.sample_rate, "model")
    training: dict[str, Any] = {}
    if file.training:
        training, more = settings(file.training, model.channels)
        if file.sample_size is not None:
            training["data"] = {"samples": file.sample_size}
        remarks += more
        if file.model.bottleneck and "commitment_weight" in (file.model.bottleneck.config or {}):
            training["losses"]["quantizer"] = file.model.bottleneck.config["commitment_weight"]
    return ModelConfig(model, _ORIGIN, training, tuple(remarks))


def _contained(data: Mapping[str, Any], kind: str) -> ModelConfig:
    """The autoencoder of a model that generates, whose own settings are of no interest."""
    outer = data.get("model")
    inner = outer.get("pretransform") if isinstance(outer, Mapping) else None
    if inner is None:
        raise InputError(f"model.pretransform: is missing: this {kind} works without an autoencoder")
    where = "model.pretransform"
    pretransform = build(Pretransform, inner, where)
    if pretransform.type != "autoencoder":
        raise InputError(f"{where}.type: is {pretransform.type!r:.60}, where an autoencoder is expected")
    rate = build(Rate, {key: value for key, value in data.items() if key == "sample_rate"}).sample_rate
    model, remarks = _autoencoder(build(Model, pretransform.config, f"{where}.config"), rate, f"{where}.config")
    if pretransform.scale != 1:
        remarks.append(f"the {kind} divides the latents by {pretransform.scale:g}; the autoencoder alone does not")
    return ModelConfig(model, _ORIGIN, remarks=tuple(remarks))


@dataclass(frozen=True)
class Rate:
    sample_rate: int


def _autoencoder(stated: Model, rate: int, where: str) -> tuple[AutoencoderConfig, list[str]]:
    """Our configuration and remarks. What the file states of widths and ratio must fit the networks."""
    pretransform = stated.pretransform
    if pretransform and pretransform.scale != 1:
        raise InputError(f"{where}.pretransform.scale: is {pretransform.scale:g}, and no such pretransform has one")
    channels = stated.in_channels or stated.io_channels, stated.out_channels or stated.io_channels
    if channels[0] != channels[1]:
        raise InputError(f"{where}.out_channels: is {channels[1]} for {channels[0]} that go in; here both are as many")
    kinds = {"encoder": ENCODERS, "decoder": DECODERS, "bottleneck": BOTTLENECKS, "pretransform": PRETRANSFORMS}
    stated_parts = {name: getattr(stated, name) for name in kinds if getattr(stated, name)}
    parts = {name: part(kinds[name], each, f"{where}.{name}") for name, each in stated_parts.items()}
    data = {
        "rate": rate,
        "channels": channels[0],
        "bottleneck": None,
        **{name: {"kind": config.kind(type(each)), **config.plain(each)} for name, each in parts.items()},
        "soft_clip": stated.decoder.soft_clip,
        "frozen": [name for name, each in stated_parts.items() if not getattr(each, "requires_grad", True)],
    }
    try:
        model = config.build(AutoencoderConfig, data)
        check_fit(model, stated.latent_dim, stated.downsampling_ratio)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return model, _remarks(model)


def _remarks(model: AutoencoderConfig) -> list[str]:
    lines, encoder, decoder = [], model.encoder, model.decoder
    if isinstance(encoder, SEANetEncoderConfig) and isinstance(decoder, SEANetDecoderConfig):
        mirrored = [*reversed(encoder.ratios)]
        if [*decoder.ratios] != mirrored:
            lines.append(
                f"the decoder upsamples by {[*decoder.ratios]} in this order, as the original does with this file; "
                f"the mirror of its encoder would be {mirrored}"
            )
    return lines
