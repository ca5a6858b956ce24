"""The loss of a diffusion model, which a training lowers and an evaluation measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from audio_core.data.seeds import mix
from torch import Generator, Tensor

from .diffusion.objectives import Objective, mse, noised


def diffusion_loss(
    network: Callable[..., Tensor],
    objective: Objective,
    x: Tensor,
    t: Tensor,
    noise: Tensor,
    items: Sequence[Mapping[str, Any]],
    real: Tensor,
    extra: Mapping[str, Tensor] | None = None,
    chosen: Tensor | None = None,
    counted: Tensor | None = None,
) -> Tensor:
    """Of latents x (B, C, T) with `noise` at times t (B,), of which the frames `real` (B, T) are no padding.

    `extra` and `chosen` are as `Diffusion` takes them. Of the frames only those `counted` (B, T) enter; None: all.
    """
    output = network(noised(objective, x, noise, t), t, items, extra, chosen, real)
    return mse(output.float(), objective.target(x, noise, t), counted)


def fixed_noise(indices: Sequence[int], x: Tensor, at: int) -> Tensor:
    """Noise like x (B, C, T) that is the same in every evaluation: of the items' indices and the number of a time."""
    noise = [
        torch.randn(item.shape, generator=Generator().manual_seed(mix(index, at)))
        for index, item in zip(indices, x, strict=True)
    ]
    return torch.stack(noise).to(x.device)
