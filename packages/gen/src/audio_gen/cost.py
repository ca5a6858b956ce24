"""What a model costs: parameters, and the multiplications of a step and of a whole result."""

from __future__ import annotations

from typing import Any

import torch
from audio_core import config as configs
from audio_core.command import columns
from audio_core.weights import no_values
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from .config import DiffusionConfig
from .config.backbones import DiTConfig
from .models.diffusion import Diffusion


def describe(config: DiffusionConfig) -> dict[str, Any]:
    with no_values(), torch.device("meta"):
        model = Diffusion(config)
    sampling, guidance = config.default_sampling, config.default_guidance
    rows = 1 if guidance.scale == 1 else 2
    macs = _macs(model) * rows
    return {
        "type": _kind(config),
        "rate": config.rate,
        "channels": config.channels,
        "seconds": config.samples / config.rate,
        "codec": config.codec.name if config.codec else None,
        "frames": config.frames,
        "frames_per_second": config.rate / config.hop,
        "width": config.width,
        "objective": config.objective,
        "backbone": configs.kind(type(config.backbone)),
        "conditions": [*config.conditioning.conditioners],
        "parameters": _count(model),
        "backbone_parameters": _count(model.backbone),
        "sampler": sampling.sampler,
        "steps": sampling.steps,
        "cfg": guidance.scale,
        "macs_per_step": macs,
        "macs": macs * sampling.steps,
    }


def _kind(config: DiffusionConfig) -> str:
    if config.inpaints:
        return "diffusion_cond_inpaint"
    return "diffusion_cond" if config.conditioning.conditioners else "diffusion_uncond"


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _macs(model: Diffusion) -> int:
    """Of the backbone for one item of the whole length, without guidance."""
    config, backbone = model.config, model.config.backbone
    conditions = {}
    if isinstance(backbone, DiTConfig):
        tokens = sum(_tokens(config, key) for key in config.cross_attention_cond_ids)
        prepended = sum(_tokens(config, key) for key in config.prepend_cond_ids)
        shapes = {
            "cross_attn_cond": (1, tokens, backbone.cond_token_dim),
            "global_cond": (1, backbone.global_cond_dim),
            "prepend_cond": (1, prepended, backbone.prepend_cond_dim),
            "input_concat_cond": (1, backbone.input_concat_dim, config.frames),
        }
        conditions = {name: torch.empty(shape, device="meta") for name, shape in shapes.items() if 0 not in shape}
    x = torch.empty(1, config.width, config.frames, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.backbone(x, torch.empty(1, device="meta"), **conditions)
    return counter.get_total_flops() // 2


def _tokens(config: DiffusionConfig, key: str) -> int:
    """Of one condition."""
    return getattr(config.conditioning.conditioners[key], "max_length", 1)


def table(facts: dict[str, Any]) -> str:
    rows = {
        "model": f"{facts['type']}, objective {facts['objective']}, backbone {facts['backbone']}",
        "audio": f"up to {facts['seconds']:.4g} s, {facts['rate']} Hz, channels {facts['channels']}",
        "latents": f"{facts['width']} x {facts['frames']}, {facts['frames_per_second']:.4g} frames a second"
        + (f", of {facts['codec']}" if facts["codec"] else ""),
        "conditions": ", ".join(facts["conditions"]) or "none",
        "parameters": f"{facts['parameters']:,} ({facts['backbone_parameters']:,} in the backbone)",
        "sampling": f"{facts['sampler']}, {facts['steps']} steps, cfg {facts['cfg']:g}",
        "multiplications": f"{facts['macs_per_step'] / 1e9:.3g} G a step, {facts['macs'] / 1e9:.4g} G a result",
    }
    return columns(rows.items())
