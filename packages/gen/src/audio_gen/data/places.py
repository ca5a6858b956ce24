"""Where an item lies: its files in a folder, in a shard, or in a pack."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from audio_core.audio import Section
from audio_core.data.shards import Sample


class InFolder(NamedTuple):
    path: Path
    root: Path

    @property
    def name(self) -> str:
        """Below its folder."""
        return Path(os.path.relpath(self.path, self.root)).as_posix()

    def __str__(self) -> str:
        return str(self.path)

    @property
    def folder(self) -> Path:
        return self.path.parent

    def part(self, ending: str) -> Path | None:
        """The file that differs from the item's in its ending alone; None where there is none."""
        if ending == self.path.suffix:
            return self.path  # whoever opens it is told whether it is still there
        path = self.path.with_suffix(ending)
        return path if path.exists() else None


class InShard(NamedTuple):
    tar: Path
    root: Path
    key: str
    ending: str
    members: dict[str, tuple[int, int]]
    """Offset and size in the tar, by ending."""

    @classmethod
    def of(cls, sample: Sample, ending: str, root: Path) -> InShard:
        members = {f".{extension}": place for extension, place in sample.members.items()}
        return cls(sample.tar, root, sample.key, ending, members)

    @property
    def name(self) -> str:
        return f"{self.key}{self.ending}"

    @property
    def path(self) -> Path:
        """Its place among others, the same as in a folder."""
        return self.root / self.name

    def __str__(self) -> str:
        return f"{self.tar}:{self.name}"

    @property
    def folder(self) -> Path:
        return self.tar.parent

    def part(self, ending: str) -> Section | None:
        if ending not in self.members:
            return None
        return Section(self.tar, *self.members[ending], f"{self.key}{ending}")


class InPack(NamedTuple):
    pack: Path
    name: str

    @property
    def path(self) -> Path:
        """Its place among others, as if the pack were a folder."""
        return self.pack / self.name

    def __str__(self) -> str:
        return f"{self.pack}:{self.name}"

    @property
    def folder(self) -> Path:
        return self.pack.parent

    def part(self, ending: str) -> None:
        """A pack holds nothing beside the samples; the facts of an item are those of its row in the manifest."""


Place = InFolder | InShard | InPack


@dataclass(frozen=True)
class AtPlace:
    """What has been read of an item so far, and where it lies."""

    place: Place

    def __str__(self) -> str:
        return self.name

    @property
    def path(self) -> Path:
        return self.place.path

    @property
    def name(self) -> str:
        return str(self.place)
