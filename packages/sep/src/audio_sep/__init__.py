"""Bytesep music source separation.

Not built yet: this distribution holds the name only.
"""

from .__about__ import __version__

__all__ = ["__version__"]
