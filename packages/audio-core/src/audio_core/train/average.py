"""The exponential moving average (EMA) of a network's weights, which often does better than the last weights."""

import copy
from collections.abc import Callable

import torch
from torch import nn


class Average:
    """`net` is the averaged copy; `update` moves it towards the trained one by 1 - decay.

    `decay` is a number or a function of the update count. Floating point buffers are averaged like parameters; counters
    are copied. Its only state is `net`, which the run saves beside the trained weights.
    """

    def __init__(self, net: nn.Module, decay: float | Callable[[int], float] = 0.999):
        self.net = copy.deepcopy(net).requires_grad_(False).eval()
        self.decay: Callable[[int], float] = decay if callable(decay) else lambda update: decay

    @torch.no_grad()
    def update(self, net: nn.Module, updates: int) -> None:
        """`updates` counts the optimizer steps taken, this one included."""
        weight = 1 - self.decay(updates)
        for averaged, trained in zip(self.net.state_dict().values(), net.state_dict().values(), strict=True):
            if averaged.is_floating_point():
                averaged.lerp_(trained.to(averaged.dtype), weight)
            else:
                averaged.copy_(trained)


def warming(decay: float, power: float = 2 / 3) -> Callable[[int], float]:
    """A decay that starts near 0 and rises to `decay`, so that early weights have little influence."""
    return lambda update: min(decay, 1 - (1 + update) ** -power)


def delayed(decay: float, power: float = 3 / 4, every: int = 1, after: int = 1) -> Callable[[int], float]:
    """stable-audio-tools' rising decay: averages in every `every`-th update, copies up to update `after` + `every`."""

    def at(update: int) -> float:
        rising = 0.0 if update <= after + every else min(decay, 1 - (update + 1 - after) ** -power)
        return 1.0 if update % every else rising

    return at
