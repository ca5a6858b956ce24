"""The settings of low-rank adapters, without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from audio_core.checks import within

ATTENTION_AND_FEED_FORWARD = ("*att*.to_*", "*.ff.*", "*.feed_forward.*")  # under the names of all our networks


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    rank: int = 16
    alpha: float | None = None
    """The update is scaled by alpha / rank; without it alpha is the rank."""
    method: Literal["lora", "dora"] = "lora"
    """DoRA also learns the length of each row of a weight, apart from the row's direction."""
    layers: tuple[str, ...] = ATTENTION_AND_FEED_FORWARD
    """Patterns for the names of linear layers, where * stands for anything, dots too. Each must match a layer."""
    dropout: float = 0.0
    """The share of the input that the update does not see in training."""

    def __post_init__(self) -> None:
        within(self, 1, "rank", most=4096)
        if self.alpha is not None and not (self.alpha > 0 and math.isfinite(self.alpha)):
            raise ValueError(f"alpha must be above 0, got {self.alpha}")
        if self.method not in ("lora", "dora"):
            raise ValueError(f"method must be lora or dora, got {self.method!r}")
        if not self.layers:
            raise ValueError("layers needs one pattern or more, got none")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be from 0 to below 1, got {self.dropout}")

    @property
    def scale(self) -> float:
        return 1.0 if self.alpha is None else self.alpha / self.rank
