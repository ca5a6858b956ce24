"""`diffusion_uncond`, `diffusion_cond` and `diffusion_cond_inpaint` -> ours, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from audio_core import config
from audio_core.files import InputError
from audio_core.train.stated import build

from ..config.models import INPAINT_IDS
from ..config.sampling import Objective
from ..config.timesteps import DistributionShiftConfig
from .backbones import CONDITIONED, UNCONDITIONED, backbone
from .codecs import Codec, Pretransform
from .conditioning import Conditioning, conditioning
from .file import File

# --- what a file states --------------------------------------------------------------------------------------


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


# --- reading -------------------------------------------------------------------------------------------------


def unconditioned(file: File) -> tuple[dict[str, Any], bool, list[str]]:
    stated = build(Unconditioned, file.model, "model")
    network = backbone(UNCONDITIONED, stated.type, stated.config, "model.config")
    plain, _, remarks = _signal(file, stated.pretransform, network, stated.io_channels)
    return {**plain, "backbone": network}, stated.pretransform is not None, remarks


def conditioned(file: File) -> tuple[dict[str, Any], bool, list[str]]:
    stated = build(Conditioned, file.model, "model")
    diffusion = stated.diffusion
    network = backbone(CONDITIONED, diffusion.type, diffusion.config, "model.diffusion.config")
    plain, codec, remarks = _signal(file, stated.pretransform, network, stated.io_channels)
    conditions, more = conditioning(stated.conditioning or Conditioning(), codec)
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
    plain, codec, remarks = file.audio(pretransform)
    own = _width(network)
    if width not in (None, own):
        raise InputError(f"model.io_channels: is {width}, and the network has {own}")
    if codec and codec.width != own:
        raise InputError(f"model.pretransform: its latents have {codec.width} channels, and the network {own}")
    return plain | ({"scale": pretransform.scale} if pretransform else {}), codec, remarks


def _width(network: Mapping[str, Any]) -> int:
    """Channels of what a network generates."""
    usual = {"DiT": 32, "DanceDiffusionUNet": 2}.get(network["kind"], 0)
    return network["in_channels"] if network["kind"] == "ADP" else network.get("io_channels", usual)
