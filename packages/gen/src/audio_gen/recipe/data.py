"""Which items a training takes, and how."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Data:
    root: Path = Path("data")
    """A folder of latents or codes that a codec's `preencode` wrote, in either layout, or of audio; a manifest of
    audio, or a pack (.h5) of it; or .tar shards: their folder, or a pattern such as shards-{000..009}.tar, also below
    http, https, hf, s3, gs or az."""
    more: tuple[Path, ...] = ()
    """Further folders; each gives as many items as the first, however many files it has."""
    metadata: Path | None = None
    """A table that describes the items: .csv or .jsonl with a column `file` and one for each key, such as `prompt`."""
    kind: Literal["auto", "latents", "audio"] = "auto"
    """What is taken of a folder that holds both."""
    cache: Path | None = None
    """Where shards of the web are kept; None: in the training's own folder."""
    held_out: int = 20
    """Every n-th item of each folder is held out for evaluation; 0: none."""
    random_crop: bool = True
    """Longer items are cut at a random place; otherwise their beginning is taken."""
    min_seconds: float = 0.0
    max_seconds: float = 0.0
    """Items that are shorter or longer are left out; 0: no limit."""

    flip: bool = True
    """Turn the sign of half of the audio."""
    quiet_db: float = -60.0
    """Audio whose largest sample is below this level, re full scale, gives way to another item."""

    def __post_init__(self) -> None:
        if self.held_out < 0 or self.held_out == 1:
            raise ValueError(f"held_out is 0 or from 2 on, got {self.held_out}")
        if min(self.min_seconds, self.max_seconds) < 0:
            raise ValueError("min_seconds and max_seconds are from 0 on")
        if 0 < self.max_seconds < self.min_seconds:
            raise ValueError(f"max_seconds={self.max_seconds:g} is below min_seconds={self.min_seconds:g}")
