"""Which items a training takes, and how."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Data:
    root: Path = Path("data")
    """A folder of latents or codes that a codec's `preencode` wrote, in either layout, or of audio; or of .tar shards
    with such files."""
    more: tuple[Path, ...] = ()
    """Further folders; each gives as many items as the first, however many files it has."""
    metadata: Path | None = None
    """A table that describes the items: .csv or .jsonl with a column `file` and one for each key, such as `prompt`."""
    held_out: int = 20
    """Every n-th item of each folder is held out for evaluation; 0: none."""
    random_crop: bool = True
    """Longer items are cut at a random place; otherwise their beginning is taken."""
    min_seconds: float = 0.0
    max_seconds: float = 0.0
    """Items that are shorter or longer are left out; 0: no limit."""

    def __post_init__(self) -> None:
        if self.held_out < 0 or self.held_out == 1:
            raise ValueError(f"held_out is 0 or from 2 on, got {self.held_out}")
        if min(self.min_seconds, self.max_seconds) < 0:
            raise ValueError("min_seconds and max_seconds are from 0 on")
