"""How strongly a model follows its conditions when it generates, without torch."""

from __future__ import annotations

from dataclasses import dataclass

from audio_core.checks import within

from .sampling import Objective


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """Classifier-free guidance and what keeps its strong forms from harsh results."""

    scale: float = 1.0
    """How many times the step from the unconditioned to the conditioned estimate is taken; 1: no guidance."""
    interval: tuple[float, float] = (0.0, 1.0)
    """The noise levels sigma, from the least to the greatest, at which guidance acts."""
    rescale: float = 0.0
    """How far each frame goes back to the standard deviation of the conditioned output, from 0 to 1."""
    apg: float = 0.0
    """Adaptive projected guidance: which share of the guidance that only makes the estimate stronger is left out."""
    norm_threshold: float = 0.0
    """The greatest norm of the difference of both estimates of the clean signal; 0: any."""

    def __post_init__(self) -> None:
        if not 0 <= self.interval[0] <= self.interval[1]:
            raise ValueError(f"interval goes from a sigma of at least 0 to a greater one, got {[*self.interval]}")
        within(self, 0, "rescale", "apg", most=1)
        for name in ("scale", "norm_threshold"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be finite and at least 0, got {getattr(self, name)}")


def default_guidance(objective: Objective) -> Guidance:
    """The scale that stable-audio-tools' page proposes."""
    return Guidance(scale=1.0 if objective == "rf_denoiser" else 7.0)
