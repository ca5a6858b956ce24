"""Audio files: look, read, seek, convert and write, always in blocks, so that an hour costs what a minute costs.

Samples are float32 numpy arrays (C, T).
"""

from .arrays import Samples, batch, samples, to_int16
from .converting import convert_channels, mixing, regroup, resample
from .formats import BLOCK, FOREIGN, FORMATS, encoding_like, supported
from .reading import Audio, Info, blocks, differing, info, read
from .section import Section
from .writing import Writer, write

__all__ = [
    "BLOCK",
    "FOREIGN",
    "FORMATS",
    "Audio",
    "Info",
    "Samples",
    "Section",
    "Writer",
    "batch",
    "blocks",
    "convert_channels",
    "differing",
    "encoding_like",
    "info",
    "mixing",
    "read",
    "regroup",
    "resample",
    "samples",
    "supported",
    "to_int16",
    "write",
]
