"""The selective scan on CUDA by the compiled kernel of the package mamba-ssm, whose tensors are (rows, D, L)."""

import selective_scan_cuda  # noqa: F401  the compiled part, without which mamba_ssm imports but cannot scan
from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
from torch import Tensor

from .loop import causal_conv_silu, conv_silu, selective_scan_stateful, softplus

__all__ = ["causal_conv_silu", "conv_silu", "selective_scan", "selective_scan_stateful", "softplus"]


def selective_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor | None, reverse: bool
) -> Tensor:
    u, delta, B, C, z = (x if x is None else steps_last(x, reverse) for x in (u, delta, B, C, z))
    y = selective_scan_fn(u, delta, A, B, C, D, z).transpose(1, 2)
    return y.flip(1) if reverse else y


def steps_last(x: Tensor, reverse: bool) -> Tensor:
    return (x.flip(1) if reverse else x).transpose(1, 2).contiguous()
