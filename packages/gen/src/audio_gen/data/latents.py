"""Folders of latents or codes, as a codec's `preencode` writes them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from audio_core import latents as stored
from audio_core.data.manifest import find_audio
from audio_core.data.seeds import shuffled
from audio_core.files import InputError, read_json
from audio_core.latents import Latents

from . import Batch, Sample, collate
from .metadata import Table


@dataclass(frozen=True)
class File:
    """An item on disk."""

    path: Path
    name: str
    """Below its folder."""

    def load(self) -> Latents:
        """The latents; what lies beside them as .json is among their facts."""
        item = stored.load(self.path)
        beside = self.path.with_suffix(".json")
        facts = read_json(beside) if beside.exists() else {}
        if not isinstance(facts, dict):
            raise InputError(f"{beside}: is no JSON object")
        return Latents(**{**vars(item), "facts": {**item.facts, **facts}})


def find(root: Path) -> list[File]:
    files = find_audio(root, ".safetensors")
    if not files:
        raise InputError(f"{root}: holds no latents")
    return [File(path, path.relative_to(root).as_posix()) for path in files]


class LatentItems:
    """Endless samples of equal length, or with `once` each item's beginning once. A function of (seed, index)."""

    def __init__(
        self,
        files: Sequence[File],
        frames: int,
        scale: float = 1.0,
        table: Table | None = None,
        seed: int = 0,
        random_crop: bool = True,
        once: bool = False,
    ):
        self.files, self.frames, self.scale, self.table = files, frames, scale, table
        self.seed, self.random_crop, self.once = seed, random_crop, once

    def __len__(self) -> int:
        return len(self.files) if self.once else 2**62

    def name(self, index: int) -> str:
        return self.files[self._place(index)].name

    def _place(self, index: int) -> int:
        return index if self.once else shuffled(index, len(self.files), self.seed)

    def __getitem__(self, index: int) -> Sample:
        file = self.files[self._place(index)]
        item = file.load()
        real = min(item.frames, math.ceil(item.samples / item.hop))
        start = 0
        if self.random_crop and not self.once and real > self.frames:
            start = int(np.random.default_rng((self.seed, index)).integers(real - self.frames + 1))
        values = item.values[:, start : min(start + self.frames, real)]
        count = values.shape[1]
        values = np.pad(values, ((0, 0), (0, self.frames - count)))
        if not item.is_codes:
            values = values / np.float32(self.scale)
        facts = described(file.name, item, self.table, start)
        return Sample(index, torch.from_numpy(values), torch.arange(self.frames) < count, facts)

    collate = staticmethod(collate)


def described(name: str, item: Latents, table: Table | None, start: int) -> Mapping[str, Any]:
    """The facts of an item that begins at frame `start`: its own, and those of the table."""
    seconds = item.hop / item.rate
    facts = {"seconds_start": 0, "seconds_total": math.ceil(item.samples / item.rate), **item.facts, "relpath": name}
    facts["seconds_start"] = facts["seconds_start"] + math.floor(start * seconds)
    return facts if table is None else {**facts, **table.of(name)}


__all__ = ["Batch", "File", "LatentItems", "find"]
