"""Packs: one HDF5 file a song, in it a dataset int16 (channels, samples) for each source, as the original's.

Attributes: audio_name and sample_rate. 16 bits are x * 32767, clipped and rounded towards zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from audio_core.audio import Samples
from audio_core.data.pack import hdf5
from audio_core.files import InputError, reason

_FULL = np.float32(32767)
_CHUNK = 1 << 15  # samples; a segment of 3 s reads from five chunks


def to_int16(samples: Samples) -> np.ndarray:
    """The original's rounding, in float32 as there."""
    return (np.clip(samples, -1, 1).astype(np.float32) * _FULL).astype(np.int16)


def to_float(numbers: np.ndarray) -> Samples:
    return numbers.astype(np.float32) / _FULL


@dataclass(frozen=True)
class PackedStem:
    """One source of a pack, an item for segments. The file is open only while it is read, so workers share nothing."""

    path: Path
    source: str
    track: str
    rate: int
    channels: int
    frames: int

    @property
    def name(self) -> str:
        return f"{self.path}:{self.source}"

    def read(self, start: int, frames: int) -> Samples:
        """(C, frames) from sample `start` on."""
        with opened(self.path) as file:
            numbers = file[self.source][:, start : start + frames]
        if numbers.shape != (self.channels, frames):
            raise InputError(f"{self.name}: has changed since the training began")
        return to_float(numbers)


def stems(path: Path, track: str) -> dict[str, PackedStem]:
    """The sources of a pack by name."""
    with opened(path) as file:
        rate = int(file.attrs["sample_rate"])
        shapes = {name: (data.shape, data.dtype) for name, data in file.items()}
    for name, (shape, kind) in shapes.items():
        if len(shape) != 2 or kind != np.int16 or min(shape) < 1:
            raise InputError(f"{path}: {name} is no int16 of (channels, samples), but {kind} of {shape}")
    if rate < 1 or not shapes:
        raise InputError(f"{path}: " + ("holds no source" if rate > 0 else f"has a sample rate of {rate}"))
    return {name: PackedStem(path, name, track, rate, *shape) for name, (shape, _) in shapes.items()}


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The HDF5 file of a pack, for reading; whatever is wrong with it is one line."""
    try:
        with hdf5().File(path, "r", locking=False) as file:
            yield file
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        cause = "is cut short" if "truncated" in str(error) else f"is no pack that can be read ({reason(error)})"
        raise InputError(f"{path}: {cause}; pack it again") from None


def write(path: Path, name: str, rate: int, blocks: Iterable[Mapping[str, Samples]]) -> None:
    """Write a pack from blocks (channels, any) of all its sources, which are as long as each other."""
    with hdf5().File(path, "w") as file:
        file.attrs["audio_name"] = np.array(name.encode(errors="replace"), "S100")
        file.attrs["sample_rate"] = np.int32(rate)
        at = 0
        for block in blocks:
            for source, samples in block.items():
                channels, count = samples.shape
                if not at:
                    chunks = {"maxshape": (channels, None), "chunks": (channels, _CHUNK)}
                    file.create_dataset(source, (channels, 0), np.int16, **chunks)
                file[source].resize(at + count, 1)
                file[source][:, at:] = to_int16(samples)
            at += count
