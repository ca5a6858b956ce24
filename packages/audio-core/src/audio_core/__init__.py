"""What audio models share. Importing this package imports nothing else: take what you need from its modules."""

from .__about__ import __version__

__all__ = ["__version__"]
