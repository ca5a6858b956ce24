"""Which part of an item an inpainting model learns to fill."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class MaskConfig:
    max_mask_segments: int = 10
    mask_type_probabilities: tuple[float, float, float] = (0.1, 0.8, 0.1)
    """Of generating segments at random places, everything, or what follows a beginning."""

    def __post_init__(self) -> None:
        if self.max_mask_segments < 1:
            raise ValueError(f"max_mask_segments must be 1 at least, got {self.max_mask_segments}")
        shares = self.mask_type_probabilities
        if min(shares) < 0 or not math.isclose(sum(shares), 1):
            raise ValueError(f"mask_type_probabilities must be from 0 on and sum to 1, got {list(shares)}")
