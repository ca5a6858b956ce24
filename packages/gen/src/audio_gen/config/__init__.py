"""The configurations of the models, without torch."""

from .models import AudioConfig, DiffusionConfig, LMConfig

__all__ = ["AudioConfig", "DiffusionConfig", "LMConfig"]
