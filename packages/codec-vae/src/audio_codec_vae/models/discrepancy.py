"""The maximum mean discrepancy: how far the distribution of vectors lies from that of others."""

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

_ROWS = 1024
"""Vectors that are compared with all others at a time, so that memory grows with the number and not its square."""


def mean_discrepancy(vectors: Tensor, others: Tensor) -> Tensor:
    """k(x, x) + k(y, y) - 2 k(x, y) of vectors x (N, C) and y (M, C), where k is the mean of exp(-|a - b|² / C²).

    stable-audio-tools divides by the width twice. Twice as wide latents so look four times as close.
    """
    return (
        _mean_kernel(vectors, vectors) + _mean_kernel(others, others) - 2 * _mean_kernel(vectors, others)
    )  # the ones that `_mean_kernel` leaves out cancel


def _mean_kernel(a: Tensor, b: Tensor) -> Tensor:
    """The mean over all pairs of the kernel - 1, whose rounding is far smaller than that of the kernel."""
    rows = [checkpoint(_kernel_rows, part, b, use_reentrant=False, preserve_rng_state=False) for part in a.split(_ROWS)]
    return torch.cat(rows).mean()


def _kernel_rows(a: Tensor, b: Tensor) -> Tensor:
    """(n, C) and (N, C) -> for each of the n the mean over the N."""
    squares = a.square().sum(1)[:, None] + b.square().sum(1) - 2 * a @ b.T  # (n, N)
    return torch.expm1(-squares.clamp(min=0) / a.shape[1] ** 2).mean(1)
