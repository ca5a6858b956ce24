"""The periodic activation Snake, x + sin²(a x) / b, in the two parametrisations of released weights."""

import torch
from torch import Tensor, nn


class SnakeBeta(nn.Module):
    """x + sin²(e^alpha x) / (e^beta + 1e-9), with an alpha and a beta for each channel: both (C,), initially 0.

    LyraCodec calls this Snake, Oobleck SnakeBeta.
    """

    pointwise = True

    def __init__(self, channels: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return _snake(x, self.alpha.exp()[:, None], self.beta.exp()[:, None] + 1e-9)


class Snake(nn.Module):
    """DAC's: x + sin²(alpha x) / (alpha + 1e-9), alpha (1, C, 1) on a linear scale, initially 1."""

    pointwise = True

    def __init__(self, channels: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        return _snake(x, self.alpha, self.alpha + 1e-9)


def _snake(x: Tensor, frequency: Tensor, divisor: Tensor) -> Tensor:
    if torch.is_grad_enabled():
        return x + (frequency * x).sin().square() / divisor
    # The same in the memory of the product, since on a CPU fresh memory takes longer than the sine.
    return (frequency * x).sin_().square_().div_(divisor).add_(x)
