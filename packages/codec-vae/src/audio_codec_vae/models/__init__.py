"""The networks: encoders, decoders, what lies between, the whole autoencoder, and loading of bundles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .. import PACKAGE

if TYPE_CHECKING:
    from .autoencoder import Autoencoder


def load(path: str | Path = "default", device: str = "cpu") -> Autoencoder:
    """The autoencoder of a bundle or run, by its folder or Hub id; or of the wheel, by a name of `PACKAGE.shipped`."""
    from .autoencoder import Autoencoder

    return PACKAGE.load(path, [Autoencoder], device)
