"""Diffusion apart from any network: objectives, times, schedules, noise and samplers, for models of any shape."""

from .noise import ItemNoise, item_seeds
from .sampling import sample
from .steps import Step

__all__ = ["ItemNoise", "Step", "item_seeds", "sample"]
