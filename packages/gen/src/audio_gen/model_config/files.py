"""The content of a model_config.json of stable-audio-tools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from audio_core import config
from audio_core.files import InputError
from audio_core.train.stated import build, unknown

from ..config.models import INPAINT_IDS
from ..config.sampling import Objective
from ..config.timesteps import DistributionShiftConfig
from . import training as trainings
from .backbones import CONDITIONED, UNCONDITIONED, backbone
from .conditioning import Codec, Conditioning, conditioning
from .stated import ModelConfig

KINDS = ("diffusion_uncond", "diffusion_cond", "diffusion_cond_inpaint")
_ELSEWHERE = {
    "autoencoder": "which audio-codec-vae reads",
    "diffusion_prior": "which later versions of the original do not have",
    "clap": "which generates nothing",
}


# --- what a file states --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pretransform:
    """A codec. `iterate_batch`, `model_half` and `chunked` say how the original runs it."""

    type: str
    config: dict[str, Any] = field(default_factory=dict)
    scale: float = 1.0
    model_half: bool = False
    iterate_batch: bool = False
    chunked: bool = False
    enable_grad: bool = False


@dataclass(frozen=True, kw_only=True)
class Diffusion:
    type: str
    config: dict[str, Any] | None = None
    diffusion_objective: Objective = "v"
    distribution_shift_options: DistributionShiftConfig | None = None
    cross_attention_cond_ids: tuple[str, ...] = ()
    global_cond_ids: tuple[str, ...] = ()
    input_concat_ids: tuple[str, ...] = ()
    prepend_cond_ids: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Conditioned:
    io_channels: int
    pretransform: Pretransform | None = None
    conditioning: Conditioning | None = None
    diffusion: Diffusion


@dataclass(frozen=True, kw_only=True)
class Unconditioned:
    type: str
    config: dict[str, Any] | None = None
    io_channels: int | None = None
    pretransform: Pretransform | None = None


@dataclass(frozen=True, kw_only=True)
class File:
    model_type: str
    sample_size: int
    sample_rate: int
    audio_channels: int | None = None
    model: dict[str, Any]
    training: trainings.Training | None = None


# --- reading -------------------------------------------------------------------------------------------------


def understood(data: Any) -> ModelConfig:
    """What the content of such a file says. The content stays as it is."""
    if not isinstance(data, Mapping) or "model_type" not in data:
        raise InputError("is no configuration of stable-audio-tools: it has no model_type")
    kind = str(data["model_type"])
    if kind not in KINDS:
        raise InputError(f"model_type: {unknown(kind, KINDS, _ELSEWHERE.get(kind, ''))}")
    file = build(File, data)
    read = _unconditioned if kind == "diffusion_uncond" else _conditioned
    model, has_codec, remarks = read(file)
    training: dict[str, Any] = {}
    if file.training:
        training, more = trainings.settings(file.training, averages=kind == "diffusion_uncond")
        remarks += more
    return ModelConfig(kind, model, has_codec, training, tuple(remarks))


def _unconditioned(file: File) -> tuple[dict[str, Any], bool, list[str]]:
    stated = build(Unconditioned, file.model, "model")
    network = backbone(UNCONDITIONED, stated.type, stated.config, "model.config")
    plain, _, remarks = _signal(file, stated.pretransform, network, stated.io_channels)
    return {**plain, "backbone": network}, stated.pretransform is not None, remarks


def _conditioned(file: File) -> tuple[dict[str, Any], bool, list[str]]:
    stated = build(Conditioned, file.model, "model")
    diffusion = stated.diffusion
    network = backbone(CONDITIONED, diffusion.type, diffusion.config, "model.diffusion.config")
    plain, codec, remarks = _signal(file, stated.pretransform, network, stated.io_channels)
    conditions, more = conditioning(stated.conditioning or Conditioning(), codec, _codec_of, "model.conditioning")
    if file.model_type == "diffusion_cond_inpaint" and not {*INPAINT_IDS} <= {*diffusion.input_concat_ids}:
        raise InputError(f"model.diffusion.input_concat_ids: inpainting needs {' and '.join(INPAINT_IDS)} there")
    plain |= {
        "backbone": network,
        "objective": diffusion.diffusion_objective,
        "conditioning": conditions,
        **{name: list(getattr(diffusion, name)) for name in _IDS},
    }
    if diffusion.distribution_shift_options:
        plain["distribution_shift"] = config.plain(diffusion.distribution_shift_options)
    return plain, stated.pretransform is not None, remarks + more


_IDS = ("cross_attention_cond_ids", "global_cond_ids", "prepend_cond_ids", "input_concat_ids")


def _signal(
    file: File, pretransform: Pretransform | None, network: Mapping[str, Any], width: int | None
) -> tuple[dict[str, Any], Codec | None, list[str]]:
    """What the model generates: audio, or latents of a codec. `width` is what the file states beside the network."""
    plain: dict[str, Any] = {"rate": file.sample_rate, "samples": file.sample_size}
    own = _width(network)
    if width not in (None, own):
        raise InputError(f"model.io_channels: is {width}, and the network has {own}")
    if pretransform is None:
        return {**plain, "channels": file.audio_channels or 2}, None, []
    codec = codec_facts(pretransform, "model.pretransform")
    if codec.width != own:
        raise InputError(f"model.pretransform: its latents have {codec.width} channels, and the network {own}")
    if file.audio_channels not in (None, codec.channels):
        raise InputError(f"audio_channels: is {file.audio_channels}, and the pretransform has {codec.channels}")
    remarks = []
    if pretransform.enable_grad:
        remarks.append("model.pretransform.enable_grad: is left out; a codec does not learn here")
    return {**plain, "channels": codec.channels, "hop": codec.hop, "scale": pretransform.scale}, codec, remarks


def _width(network: Mapping[str, Any]) -> int:
    """Channels of what a network generates."""
    usual = {"DiT": 32, "DanceDiffusionUNet": 2}.get(network["kind"], 0)
    return network["in_channels"] if network["kind"] == "ADP" else network.get("io_channels", usual)


# --- codecs --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Sizes:
    io_channels: int
    downsampling_ratio: int
    latent_dim: int


@dataclass(frozen=True)
class _Patched:
    channels: int
    patch_size: int

    def codec(self) -> Codec:
        return Codec(self.channels, self.patch_size, self.channels * self.patch_size)


@dataclass(frozen=True)
class _Wavelet:
    channels: int
    levels: int
    wavelet: str = "bior4.4"

    def codec(self) -> Codec:
        return Codec(self.channels, 2**self.levels, self.channels * 2**self.levels)


_FIXED: dict[str, Any] = {"patched": _Patched, "wavelet": _Wavelet}
"""Codecs without weights."""
_ABSENT = {
    "pqmf": "a filter bank that no codec here is",
    **dict.fromkeys(("dac_pretrained", "audiocraft_pretrained"), "a codec that is fetched from elsewhere"),
}


def codec_facts(stated: Pretransform, where: str) -> Codec:
    """Sizes of a codec's latents. How its networks are built is the business of its own package."""
    if stated.type in _FIXED:
        return build(_FIXED[stated.type], stated.config, f"{where}.config").codec()
    known = ("autoencoder", *_FIXED)
    if stated.type != "autoencoder":
        raise InputError(f"{where}.type: {unknown(stated.type, known, _ABSENT.get(stated.type, ''))}")
    names = ("io_channels", "downsampling_ratio", "latent_dim")
    sizes = build(_Sizes, {name: stated.config[name] for name in names if name in stated.config}, f"{where}.config")
    if min(sizes.io_channels, sizes.downsampling_ratio, sizes.latent_dim) < 1:
        raise InputError(f"{where}.config: {', '.join(names)} are 1 or more")
    return Codec(sizes.io_channels, sizes.downsampling_ratio, sizes.latent_dim)


def _codec_of(stated: Mapping[str, Any], where: str) -> Codec:
    return codec_facts(build(Pretransform, stated, where), where)
