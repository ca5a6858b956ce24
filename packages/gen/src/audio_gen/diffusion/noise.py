"""Noise that belongs to its item: the same whatever else is in the batch, on any device and in any dtype."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence

import numpy as np
import torch
from audio_core.files import InputError
from torch import Tensor

Fresh = Callable[[Tensor], Tensor]
"""Standard normal noise of the shape, device and dtype of a tensor, other in every call."""


class ItemNoise:
    """Each item's noise depends on its seed and on the number of draws before, and on nothing else.

    It is drawn frame by frame, so an item that is padded to a longer batch keeps its noise. numpy draws it on the CPU,
    since the generators of devices differ from one another, and those of PyTorch with the vector units of the CPU.
    """

    def __init__(self, seeds: Sequence[int]):
        self.seeds = list(seeds)
        self.draws = 0

    def __call__(self, like: Tensor) -> Tensor:
        """Noise as `like` (B, ..., T) is, of which only shape, device and dtype matter."""
        items, *channels, frames = like.shape
        if items != len(self.seeds):
            raise ValueError(f"{items} items have {len(self.seeds)} seeds")
        drawn = [
            np.random.default_rng([seed, self.draws]).standard_normal((frames, *channels), np.float32)
            for seed in self.seeds
        ]
        self.draws += 1
        return torch.from_numpy(np.stack(drawn)).movedim(1, -1).contiguous().to(like.device, like.dtype)


def item_seeds(seed: int, items: int) -> list[int]:
    """The seeds of a batch: `seed`, `seed` + 1 and so on; for -1 they begin at one that nobody can foresee.

    They are what a result must report: any of them gives its item again, alone or in another batch.
    """
    if seed < -1:
        raise InputError(f"seed: expected a number from 0 on, or -1 for a random one, got {seed}")
    first = secrets.randbelow(2**32) if seed == -1 else seed
    return list(range(first, first + items))
