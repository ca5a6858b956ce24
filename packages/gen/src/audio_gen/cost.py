"""What a model costs: parameters, and the multiplications of a step and of a whole result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from audio_core import config as configs
from audio_core.command import columns
from audio_core.weights import no_values
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from .config import AudioConfig, DiffusionConfig, LMConfig
from .config.backbones import DiTConfig
from .config.diffusion_autoencoder import DiffusionAutoencoderConfig
from .models.diffusion import Diffusion
from .models.diffusion_autoencoder import DiffusionAutoencoder
from .models.lm import LM


def describe(config: AudioConfig) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "type": "",
        "rate": config.rate,
        "channels": config.channels,
        "seconds": config.samples / config.rate,
        "codec": config.codec.name if config.codec else None,
        "frames": config.frames,
        "width": config.width,
        "conditions": [*config.conditioning.conditioners],
    }
    if isinstance(config, LMConfig):
        return facts | _of_codes(config)
    if isinstance(config, DiffusionAutoencoderConfig):
        return facts | _of_autoencoder(config)
    assert isinstance(config, DiffusionConfig)
    return facts | _of_diffusion(config)


def _of_diffusion(config: DiffusionConfig) -> dict[str, Any]:
    with no_values(), torch.device("meta"):
        model = Diffusion(config)
    sampling, guidance = config.default_sampling, config.default_guidance
    conditioned = "diffusion_cond" if config.conditioning.conditioners else "diffusion_uncond"
    macs = _macs(model.backbone, config.width, config.frames, _conditions(config)) * (1 if guidance.scale == 1 else 2)
    return {
        "type": "diffusion_cond_inpaint" if config.inpaints else conditioned,
        "network": f"{configs.kind(type(config.backbone))}, objective {config.objective}",
        "frames_per_second": config.rate / config.hop,
        "parameters": _count(model),
        "network_parameters": _count(model.backbone),
        "sampling": f"{sampling.sampler}, {sampling.steps} steps, cfg {guidance.scale:g}",
        "macs_per_step": macs,
        "macs": macs * sampling.steps,
    }


def _of_autoencoder(config: DiffusionAutoencoderConfig) -> dict[str, Any]:
    with no_values(), torch.device("meta"):
        model = DiffusionAutoencoder(config)
    code = torch.empty(1, config.code_channels, -(-config.frames // config.hop), device="meta")
    beside = {"input_concat_cond": model.condition(code, config.frames)}
    macs = _macs(model.backbone, config.signal.width, config.frames, beside)
    return {
        "type": "diffusion_autoencoder",
        "network": f"{configs.kind(type(config.backbone))}, objective v",
        "frames_per_second": config.rate / config.frame_samples,
        "parameters": _count(model),
        "network_parameters": _count(model.backbone),
        "sampling": f"{config.sampling.sampler}, {config.sampling.steps} steps",
        "macs_per_step": macs,
        "macs": macs * config.sampling.steps,
    }


def _of_codes(config: LMConfig) -> dict[str, Any]:
    with no_values(), torch.device("meta"):
        model = LM(config)
    steps = model.lm.pattern(config.frames).steps
    weights = _count(model.lm) - _count(model.lm.embeds)
    rows = 1 if config.sampling.guidance == 1 else 2
    return {
        "type": "lm",
        "network": f"{config.lm.codebooks} codebooks of {config.lm.codebook_size}, "
        f"pattern {configs.kind(type(config.lm.pattern))}",
        "frames_per_second": config.rate / config.hop,
        "parameters": _count(model),
        "network_parameters": _count(model.lm),
        "sampling": f"{steps} steps, temperature {config.sampling.temperature:g}, cfg {config.sampling.guidance:g}",
        "macs_per_step": weights * rows,  # besides attention, which grows with what came before
        "macs": weights * rows * steps,
    }


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _macs(backbone: nn.Module, width: int, frames: int, conditions: Mapping[str, Tensor]) -> int:
    """Of one evaluation for one item of the whole length."""
    x = torch.empty(1, width, frames, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        backbone(x, torch.empty(1, device="meta"), **conditions)
    return counter.get_total_flops() // 2


def _conditions(config: DiffusionConfig) -> dict[str, Tensor]:
    backbone = config.backbone
    widths = config.conditioning.output_dim
    tokens = sum(_tokens(config, key) for key in config.cross_attention_cond_ids)
    prepended = sum(_tokens(config, key) for key in config.prepend_cond_ids)
    shapes = {
        "cross_attn_cond": (1, tokens, max(map(widths, config.cross_attention_cond_ids), default=0)),
        "global_cond": (1, sum(map(widths, config.global_cond_ids))),
        "prepend_cond": (1, prepended, max(map(widths, config.prepend_cond_ids), default=0)),
        "input_concat_cond": (1, backbone.input_concat_dim if isinstance(backbone, DiTConfig) else 0, config.frames),
    }
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items() if 0 not in shape}


def _tokens(config: DiffusionConfig, key: str) -> int:
    """Of one condition."""
    return getattr(config.conditioning.conditioners[key], "max_length", 1)


def table(facts: dict[str, Any]) -> str:
    codec = f", of {facts['codec']}" if facts["codec"] else ""
    rows = {
        "model": f"{facts['type']}, {facts['network']}",
        "audio": f"up to {facts['seconds']:.4g} s, {facts['rate']} Hz, channels {facts['channels']}",
        "frames": f"{facts['frames']} x {facts['width']}, {facts['frames_per_second']:.4g} a second{codec}",
        "conditions": ", ".join(facts["conditions"]) or "none",
        "parameters": f"{facts['parameters']:,} ({facts['network_parameters']:,} in the network)",
        "sampling": facts["sampling"],
        "multiplications": f"{facts['macs_per_step'] / 1e9:.3g} G a step, {facts['macs'] / 1e9:.4g} G a result",
    }
    return columns(rows.items())
