"""WebDataset shards: tar files in which the files of one sample, such as key.flac and key.json, follow each other.

The `webdataset` library reads them in sequence. Here an index gives access to any sample, so that samples stay
functions of (seed, index). The index of NAME.tar is NAME.tar.index: JSON lines of key, members (offset and size of
each file), facts, and the rate, channels and frames of the audio. A tar without an index gets one when it is first
opened, if its folder can be written. `sharding` writes shards.
"""

import json
import os
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from .. import audio
from ..files import InputError, read_text, reason, write_text
from .manifest import LIMIT, MOST, REQUIRED, Unreadable, is_audio

_FORMAT = "audio_core.shard.1"
_BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True)
class Sample:
    """The files of one key. If one of them is audio, the sample is an item for `Segments`."""

    tar: Path
    key: str
    members: Mapping[str, tuple[int, int]]
    """Offset and size in the tar, by extension: "flac", "json", "safetensors"."""
    facts: Mapping[str, Any]
    """The content of its .json."""
    sound: str = ""
    """The extension of its audio, to which rate, channels and frames belong."""
    rate: int = 0
    channels: int = 0
    frames: int = 0

    @property
    def name(self) -> str:
        return f"{self.tar}:{self.key}"

    def section(self, extension: str) -> audio.Section:
        """The place of one file of this sample in the tar."""
        if extension not in self.members:
            raise InputError(f"{self.name}: holds {', '.join(self.members)}, but no {extension}")
        offset, size = self.members[extension]
        return audio.Section(self.tar, offset, size, f"{self.key}.{extension}")

    def content(self, extension: str) -> bytes:
        """The whole file with this extension."""
        section = self.section(extension)
        try:
            data = section.read_bytes()
        except OSError as error:
            raise InputError(f"{section}: {reason(error)}") from None
        if len(data) != section.size:
            raise InputError(f"{section}: is truncated: {section.size} bytes promised, {len(data)} found")
        return data

    def read(self, start: int, frames: int) -> audio.Samples:
        """(C, frames) of its audio from sample `start` on."""
        return audio.read(self.section(self.sound), start, frames).samples


class Index(NamedTuple):
    """The contents of a tar. `source` identifies the files from which it was written."""

    samples: list[Sample]
    unreadable: list[Unreadable]
    source: str


class Shards:
    """The samples of one tar file, or of all in a folder.

    `items` are the samples with audio, for `Segments`. `unreadable` are those whose audio or .json is damaged.
    """

    def __init__(self, path: str | Path):
        path = Path(path)
        tars = sorted(path.glob("[!.]*.tar")) if path.is_dir() else [path]
        if not tars:
            raise InputError(f"{path}: holds no .tar files; `audio-core shard` writes them")
        self.samples: list[Sample] = []
        self.unreadable: list[Unreadable] = []
        for tar in tars:
            index = read_index(tar) or build_index(tar)
            self.samples += index.samples
            self.unreadable += index.unreadable
        self.items = [sample for sample in self.samples if sample.sound]


def split(name: str) -> tuple[str, str] | None:
    """Key and extension of a file name. As in WebDataset, the key ends at the first dot after the last slash."""
    match = re.fullmatch(r"((?:.*/)?[^./]+)\.([^/]+)", name, re.DOTALL)
    return (match[1], match[2]) if match else None


# --- the index ------------------------------------------------------------------------------------


def read_index(tar: Path) -> Index | None:
    """The stored index of a tar; None if it is missing, damaged, or older than the tar."""
    try:
        head, *lines = map(json.loads, read_text(index_path(tar), LIMIT).splitlines())
        if (head["format"], head["bytes"], head["changed_ns"]) != (_FORMAT, *_state(tar)):
            return None
        samples = [_sample(tar, values, head["bytes"]) for values in lines]
        return Index(samples, [Unreadable(*map(str, each)) for each in head["unreadable"]], str(head["source"]))
    except (InputError, OSError, ValueError, OverflowError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def build_index(tar: Path, source: str = "", named: Path | None = None) -> Index:
    """Index a tar, and write the index beside it if the folder can be written.

    `named` is the final name of a tar that is being written: its index must be there before it.
    """
    named = named or tar
    samples, unreadable = [], []
    for key, group in groupby(_files(tar), lambda file: file[0]):
        members: dict[str, tuple[int, int]] = {}
        for _, extension, offset, size in group:
            if extension in members:
                raise InputError(f"{tar}: holds {key}.{extension} twice")
            members[extension] = (offset, size)
        try:
            samples.append(replace(_looked_at(Sample(tar, key, members, {})), tar=named))
        except InputError as error:
            unreadable.append(Unreadable(f"{named}:{key}", str(error).removeprefix(f"{tar}:")))
    size, changed = _state(tar)
    head = {"format": _FORMAT, "bytes": size, "changed_ns": changed, "source": source, "unreadable": unreadable}
    rows = [{name: value for name, value in asdict(sample).items() if name != "tar"} for sample in samples]
    try:
        write_text(index_path(named), "".join(json.dumps(line) + "\n" for line in (head, *rows)))
    except InputError:
        if named != tar:
            raise  # else the folder may be read-only
    return Index(samples, unreadable, source)


def index_path(tar: Path) -> Path:
    return tar.with_name(f"{tar.name}.index")


def _state(tar: Path) -> tuple[int, int]:
    status = tar.stat()
    return status.st_size, status.st_mtime_ns


def _sample(tar: Path, values: dict[str, Any], size: int) -> Sample:
    """A sample from a row of an index; impossible values raise a ValueError."""
    members = {str(name): (int(offset), int(length)) for name, (offset, length) in values["members"].items()}
    numbers = [values["rate"], values["channels"], values["frames"]]
    inside = all(_BLOCK <= offset <= offset + length <= size for offset, length in members.values())
    sound = values["sound"]
    if (
        not inside
        or any(type(n) is not int or not bool(sound) <= n <= MOST for n in numbers)
        or (sound and sound not in members)
    ):
        raise ValueError(values["key"])
    return Sample(tar, str(values["key"]), members, dict(values["facts"]), sound, *numbers)


def _looked_at(sample: Sample) -> Sample:
    """The sample with the facts of its .json and the header of its audio."""
    facts: Any = {}
    if "json" in sample.members:
        section = sample.section("json")
        try:
            facts = json.loads(sample.content("json")) if section.size < LIMIT else None
        except (ValueError, RecursionError):
            facts = None
        if not isinstance(facts, dict):
            raise InputError(f"{section}: is no JSON object")
    sound = next((extension for extension in sample.members if is_audio(f"a.{extension}")), "")
    if not sound:
        return replace(sample, facts=facts)
    header = audio.info(sample.section(sound))
    facts = {name: value for name, value in facts.items() if name not in REQUIRED[1:]}
    return Sample(sample.tar, sample.key, sample.members, facts, sound, header.rate, header.channels, header.frames)


def _files(tar: Path) -> Iterator[tuple[str, str, int, int]]:
    """(key, extension, offset, size) of each file, in order. Nothing is unpacked; links and paths that lead outside are
    refused."""
    try:
        size = tar.stat().st_size
        with tarfile.open(tar, "r:") as archive:
            for info in archive:
                if not (info.isreg() or info.isdir()) or info.issparse():
                    raise InputError(f"{tar}: {info.name!r} is a link or a device; a shard holds plain files")
                if info.name.startswith("/") or ".." in info.name.split("/"):
                    raise InputError(f"{tar}: {info.name!r} would lie outside its folder")
                if info.size < 0 or info.offset_data + info.size > size:
                    raise InputError(f"{tar}: is truncated inside {info.name!r}")
                if info.isreg() and (parts := split(info.name)):
                    yield *parts, info.offset_data, info.size
                archive.members.clear()  # type: ignore[attr-defined]  # else every header stays in memory
            end = archive.offset
        with tar.open("rb") as file:
            file.seek(end)
            if file.read(_BLOCK) != bytes(_BLOCK):
                raise InputError(f"{tar}: is truncated, or damaged after {end} bytes")
    except (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError) as error:
        raise InputError(f"{tar}: is no tar file that can be read ({reason(error)}); compressed ones cannot") from None
    except OSError as error:
        raise InputError(f"{tar}: {os.strerror(error.errno) if error.errno else reason(error)}") from None
