"""Batch normalisation over the batches of all processes, so that several of them learn what one would.

PyTorch's own needs a GPU, and would take the place of a package's own norms.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm


def join(model: nn.Module) -> None:
    """Let all batch norms of the model see the batches of all processes. Weights and their names stay."""
    for layer in model.modules():
        if isinstance(layer, _BatchNorm):
            own = type(layer)
            layer.__class__ = type(f"Joint{own.__name__}", (own, JointNorm), {})


class JointNorm(_BatchNorm):
    """(B, C, ...), of the same size in all processes."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        y, mean, variance = _Normalized.apply(x, self.weight, self.bias, self.eps)
        count = x.numel() // x.shape[1] * distributed.get_world_size()
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
            self.num_batches_tracked.add_(1)
        return y


class _Normalized(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        own = torch.stack([*reversed(torch.var_mean(x.float(), _all_but_channels(x), correction=0))])  # (2, C)
        every = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
        distributed.all_gather(every, own)
        means, variances = torch.stack(every, 1)
        mean = means.mean(0)
        variance = (variances + (means - mean).square()).mean(0)
        scale = (variance + eps).rsqrt()
        ctx.save_for_backward(x, weight, mean, scale)
        ctx.mark_non_differentiable(mean, variance)
        return torch.batch_norm(x, weight, bias, mean, variance, False, 0.0, eps, False), mean, variance

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, scale = ctx.saved_tensors
        axes, shape = _all_but_channels(x), (-1, *[1] * (x.ndim - 2))
        mean, scale, weight = (values.view(shape) for values in (mean, scale, weight))
        gradient, normalized = gradient.float(), (x.float() - mean) * scale
        own = torch.stack([gradient.sum(axes), (gradient * normalized).sum(axes)])  # of bias and weight
        joint = own.clone()
        distributed.all_reduce(joint)
        joint /= x.numel() // x.shape[1] * distributed.get_world_size()
        centred = gradient - joint[0].view(shape) - normalized * joint[1].view(shape)
        return (centred * weight * scale).to(x.dtype), own[1], own[0], None


def _all_but_channels(x: Tensor) -> list[int]:
    return [axis for axis in range(x.ndim) if axis != 1]
