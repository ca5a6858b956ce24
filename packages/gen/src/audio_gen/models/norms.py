"""What keeps the size of a transformer's activations and branches in hand. The last axis is that of channels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from audio_core.dsp.precision import at_least_float32
from torch import Tensor, nn

from ..config.transformer import NormConfig


class LayerNorm(nn.Module):
    """`beta` is stored even where it is not learned, as in the published weights."""

    def __init__(self, width: int, config: NormConfig):
        super().__init__()
        self.eps, self.wide = config.eps, config.force_fp32
        for name, value, fixed in (
            ("gamma", torch.ones(width), config.fix_scale),
            ("beta", torch.zeros(width), not config.bias),
        ):
            if fixed:
                self.register_buffer(name, value)
            else:
                self.register_parameter(name, nn.Parameter(value))

    def forward(self, x: Tensor) -> Tensor:
        if not self.wide:
            return F.layer_norm(x, self.gamma.shape, self.gamma, self.beta, self.eps)
        wide, gamma, beta = (at_least_float32(each) for each in (x, self.gamma, self.beta))
        return F.layer_norm(wide, gamma.shape, gamma, beta, self.eps).to(x.dtype)


class DynamicTanh(nn.Module):
    """gamma · tanh(alpha · x) + beta: bounds values as a norm does, and needs no statistics."""

    def __init__(self, width: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.full((1,), 10.0))
        self.gamma = nn.Parameter(torch.ones(width))
        self.beta = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.gamma * torch.tanh(self.alpha * x) + self.beta


class UnitLength(nn.Module):
    """x / |x|."""

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1)
