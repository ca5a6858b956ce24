"""Audio files: look, read, seek, convert and write, always in blocks, so that an hour costs what a minute costs.

Samples are float32 numpy arrays (C, T).
"""

from .arrays import Samples, batch, samples, to_int16
from .converting import convert_channels, convertible, mixing, regroup, resample, resampled
from .formats import BLOCK, FOREIGN, FORMATS, encoding_like, supported
from .piped import Piped, arriving, piped
from .reading import Audio, Info, blocks, differing, info, read
from .section import Section
from .writing import Writer, write

__all__ = [
    "BLOCK",
    "FOREIGN",
    "FORMATS",
    "Audio",
    "Info",
    "Piped",
    "Samples",
    "Section",
    "Writer",
    "arriving",
    "batch",
    "blocks",
    "convert_channels",
    "convertible",
    "differing",
    "encoding_like",
    "info",
    "mixing",
    "piped",
    "read",
    "regroup",
    "resample",
    "resampled",
    "samples",
    "supported",
    "to_int16",
    "write",
]
