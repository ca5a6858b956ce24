"""Packs: many audio files in one HDF5 file of 16-bit samples at one rate, which is fast to seek in on network disks.

Rounding is that of `audio.Writer`: x * 32768 to the nearest integer, so 16-bit sources come back bit for bit and others
are off by at most half a step (2^-16); samples beyond full scale are clipped. (The original bytesep's packs are another
format: one file a track, with x * 32767 rounded towards zero.)

Root attributes: format, rate, channels. Datasets: names (N), frames (N), state (N), facts (N) as JSON, and
audio/00000000 … int16 (C, T).
All space is allocated before the first sample is written. From then on only samples and one byte of each item change,
in place. So a process that is killed leaves a file that opens, and the next one goes on after the last complete item.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from .. import audio
from ..files import InputError, reason, replacing
from .manifest import File, Manifest, Unreadable

_FORMAT = "audio_core.pack.1"
_OPEN, _FULL, _LEFT_OUT = 0, 1, 2  # states of an item, written after its samples
_SCALE = 2.0**15


class _Plan(NamedTuple):
    """The contents of a pack, before its samples are written."""

    names: list[str]
    facts: list[str]
    lengths: list[int]
    rate: int
    channels: int


class Packed(NamedTuple):
    items: int
    unreadable: list[Unreadable]


def pack(
    manifest: str | Path, out: str | Path, rate: int, channels: int, progress: bool = True, force: bool = False
) -> Packed:
    """Write the files that `manifest` lists to `out`, going on with `out`.part where an earlier call was stopped.

    A file that cannot be decoded is left out and listed in the result.
    """
    h5py = hdf5()
    out = Path(out)
    part = out.with_name(out.name + ".part")
    if out.exists() and not force:
        raise InputError(f"{out}: exists already; give --force to overwrite it")
    items = Manifest.load(manifest).items
    lengths = [math.ceil(item.frames * rate / item.rate) for item in items]
    plan = _Plan(_names(items), [json.dumps(item.facts) for item in items], lengths, rate, channels)
    unreadable = []
    try:
        if not part.exists():
            _lay_out(h5py, part, plan)
        with _reopened(h5py, part, plan) as file:
            state = file["state"][:]
            with tqdm(total=sum(lengths) // rate, desc="pack", unit="s", disable=None if progress else True) as bar:
                for at, item in enumerate(items):
                    if state[at] != _FULL:  # files that were left out are tried again: they may have been repaired
                        try:
                            _copy(item, file[_key(at)], rate, channels)
                            state[at] = _FULL
                        except InputError as error:
                            state[at] = _LEFT_OUT
                            unreadable.append(Unreadable(item.name, str(error).removeprefix(f"{item.name}: ")))
                        file.flush()
                        file["state"][at] = state[at]
                        file.flush()
                    bar.update(lengths[at] // rate)
        full = int((state == _FULL).sum())
        if not full:
            part.unlink()
            raise InputError(f"{unreadable[0].name}: {unreadable[0].cause}; none of {len(items)} files can be read")
        part.replace(out)
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {reason(error)}") from error
    return Packed(full, unreadable)


@dataclass(frozen=True)
class Track:
    """One file of a pack."""

    pack: "Pack"
    index: int
    name: str
    frames: int
    facts: Mapping[str, Any]
    """The facts of its row in the manifest."""

    @property
    def rate(self) -> int:
        return self.pack.rate

    @property
    def channels(self) -> int:
        return self.pack.channels

    def read(self, start: int, frames: int) -> audio.Samples:
        """(C, frames) from sample `start` on."""
        if start < 0 or frames < 0 or start + frames > self.frames:
            raise InputError(f"{self.name}: has {self.frames} samples; {start} to {start + frames} was asked for")
        try:
            samples = self.pack.stored(self.index)[:, start : start + frames].astype(np.float32) / np.float32(_SCALE)
        except Exception as error:  # a damaged file can raise anything
            raise InputError(f"{self.pack.path}: {self.name} cannot be read: {reason(error)}") from None
        if samples.shape != (self.channels, frames):
            raise InputError(f"{self.pack.path}: {self.name} is damaged: its size is not the one promised")
        return samples


class Pack:
    """A finished pack, whose `items` are for `Segments`. Each process opens the file itself when it first reads."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._process, self._file = 0, None
        file = self._opened_here()
        try:
            # Arrays take space in the file, so their number cannot be forged like a list's length.
            count = len(file["audio"])
            lists = {"state", "frames", "names"} | ({"facts"} & file.keys())  # older packs have no facts
            if any(file[name].shape != (count,) for name in lists):
                raise ValueError(f"its lists are not of its {count} items")
            states, frames = file["state"][:], file["frames"][:].tolist()
            names = file["names"].asstr(errors="surrogateescape")[:]
            facts = [dict(json.loads(text)) for text in file["facts"].asstr()[:]] if "facts" in lists else [{}] * count
            self.rate, self.channels = int(file.attrs["rate"]), int(file.attrs["channels"])
            if not all(isinstance(n, int) and n > 0 for n in (self.rate, self.channels, *frames)):
                raise ValueError("a rate, number of channels or length is not a whole number above 0")
        except Exception as error:  # a damaged file can raise anything
            raise InputError(f"{path}: is a damaged pack: {reason(error)}") from None
        if (states == _OPEN).any():
            raise InputError(f"{path}: is an unfinished pack: {int((states != _OPEN).sum())} of {len(states)} files")
        numbers = np.flatnonzero(states == _FULL)
        self.items = [Track(self, int(at), f"{self.path}:{names[at]}", frames[at], facts[at]) for at in numbers]

    def stored(self, index: int) -> Any:
        """The int16 samples (C, T) of a track, in the file that this process has open."""
        return self._opened_here()[_key(index)]

    def _opened_here(self) -> Any:
        if self._process != os.getpid():
            if self._file is not None:  # a forked worker, to which HDF5 would return its parent's file
                self._file.close()
            self._file, self._process = _opened(hdf5(), self.path), os.getpid()
        return self._file

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_process": 0, "_file": None}


def hdf5() -> ModuleType:
    """The library h5py, also for packs in another format than this module's."""
    try:
        import h5py
    except ImportError:
        raise InputError('packs need h5py: pip install "audio-core[hdf5]"') from None
    return h5py


def _opened(h5py: ModuleType, path: Path) -> Any:
    try:
        file = h5py.File(path, "r", locking=False)  # nobody writes to a finished pack; some disks cannot lock
        kind = str(file.attrs.get("format"))
    except (OSError, RuntimeError) as error:
        cause = (
            reason(error)
            if isinstance(error, FileNotFoundError | PermissionError)
            else "not an HDF5 file, or cut short"
        )
        raise InputError(f"{path}: cannot be read as a pack: {cause}") from None
    if kind != _FORMAT:
        file.close()
        raise InputError(f"{path}: is an HDF5 file, but not one that `pack` wrote")
    return file


def _lay_out(h5py: ModuleType, part: Path, plan: _Plan) -> None:
    """Create a file with space for every item and without samples."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    with replacing(part) as temporary, h5py.File(temporary, "w") as file:
        file.attrs.update(format=_FORMAT, rate=plan.rate, channels=plan.channels)
        stored = [name.encode(errors="surrogateescape") for name in plan.names]
        file.create_dataset("names", data=stored, dtype=h5py.string_dtype())
        file.create_dataset("facts", data=plan.facts, dtype=h5py.string_dtype())
        file["frames"] = np.array(plan.lengths, np.int64)
        file["state"] = np.full(len(plan.names), _OPEN, np.uint8)
        for at, length in enumerate(plan.lengths):
            space = h5py.h5s.create_simple((plan.channels, length))
            key = _key(at).encode()
            links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
            links.set_create_intermediate_group(True)
            h5py.h5d.create(file.id, key, h5py.h5t.NATIVE_INT16, space, dcpl=properties, lcpl=links)


def _reopened(h5py: ModuleType, part: Path, plan: _Plan) -> Any:
    """Open the unfinished file, which must have the same items, rate and channels."""
    wrong = InputError(f"{part}: is not the beginning of this pack; delete it to start anew")
    try:
        file = h5py.File(part, "r+")
    except BlockingIOError:  # HDF5 locks what it writes
        raise InputError(f"{part}: another process is writing it; wait for its end") from None
    except OSError:
        raise wrong from None
    try:
        names = file["names"].asstr(errors="surrogateescape")[:].tolist()
        facts = file["facts"].asstr()[:].tolist()
        begun = _Plan(names, facts, file["frames"][:].tolist(), file.attrs["rate"], file.attrs["channels"])
        same = file.attrs["format"] == _FORMAT and begun == plan
    except (OSError, KeyError):
        same = False
    if not same:
        file.close()
        raise wrong
    return file


def _copy(item: File, dataset: Any, rate: int, channels: int) -> None:
    at = 0
    for block in audio.blocks(item.path, rate=rate, channels=channels):
        end = at + block.shape[1]
        if end > dataset.shape[1]:
            break
        dataset[:, at:end] = audio.to_int16(block)
        at = end
    if at != dataset.shape[1]:
        raise InputError(f"{item.name}: is not the file that was scanned; scan again")


def _names(items: Sequence[File]) -> list[str]:
    """The items' paths below the folder they share."""
    folder = os.path.commonpath([item.path.absolute().parent for item in items])
    return [Path(os.path.relpath(item.path, folder)).as_posix() for item in items]


def _key(index: int) -> str:
    return f"audio/{index:08d}"
