"""The SDR by which separation is compared: BSSEval v4's, of each second and of a whole song."""

from __future__ import annotations

import torch
from torch import Tensor


def segmental_sdr(estimate: Tensor, target: Tensor, window: int, hop: int | None = None) -> Tensor:
    """BSSEval v4's SDR by frame, as in museval: (..., C, T) -> (..., frames), float64, channels pooled.

    The last partial frame is dropped; a signal shorter than `window` is one frame.
    NaN where target or estimate is silent, infinite where they are equal.
    """
    if estimate.shape != target.shape:
        raise ValueError(f"estimate {tuple(estimate.shape)} and target {tuple(target.shape)} differ in shape")
    window = min(window, target.shape[-1])
    estimate, target = (x.double().unfold(-1, window, hop or window) for x in (estimate, target))
    signal, output, error = (x.square().sum((-3, -1)) for x in (target, estimate, estimate - target))
    ratio = 10 * torch.log10(signal / error)
    return torch.where((signal == 0) | (output == 0), torch.nan, ratio)


def track_sdr(frames: Tensor) -> Tensor:
    """The median over the frames that are not NaN (of an even count the mean of two); NaN without any."""
    return torch.nanquantile(frames, 0.5, dim=-1)
