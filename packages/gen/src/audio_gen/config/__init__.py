"""The configurations of the models, without torch."""

from .models import DiffusionConfig

__all__ = ["DiffusionConfig"]
