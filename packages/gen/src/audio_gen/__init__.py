"""Audio generation: latent diffusion and language models over any codec."""

from .__about__ import __version__

__all__ = ["__version__"]
