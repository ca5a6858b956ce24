"""What all samplers share: the record of a step, and times as the network takes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Step:
    """The state before a step, and what the network makes of it."""

    index: int
    """From 0 on."""
    steps: int | None
    """Of all; None where nobody knows."""
    x: Tensor
    """(B, C, T)"""
    t: float
    sigma: float
    denoised: Tensor
    """The network's estimate of the result, (B, C, T)."""


Callback = Callable[[Step], object]
Model = Callable[[Tensor, Tensor], Tensor]
"""x (B, C, T) and t (B,) -> v or velocity (B, C, T), guided where there is guidance."""


def batch_times(x: Tensor, t: float) -> Tensor:
    """t for each item, (B,)."""
    return torch.full(x.shape[:1], t, dtype=x.dtype, device=x.device)
