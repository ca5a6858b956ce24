"""Networks that generate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import PACKAGE
from .diffusion import Diffusion
from .diffusion_autoencoder import DiffusionAutoencoder
from .lm import LM

CLASSES = (Diffusion, DiffusionAutoencoder, LM)


def load(path: str | Path = "default", device: str = "cpu") -> Any:
    """The model of a bundle or a run, of the wheel (`default`) or of the Hub (owner/name[@revision])."""
    return PACKAGE.load(path, CLASSES, device)
