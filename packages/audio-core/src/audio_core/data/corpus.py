"""The files that a training takes: those of folders and manifests, of which some are held out."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from ..files import InputError, note
from .headers import scan_cached
from .manifest import File, Manifest, Unreadable


def listed(root: Path, cache: Path, quiet: bool = False) -> list[File]:
    """The audio files of a manifest, or of a folder, whose headers `cache` remembers; what cannot be read is named."""
    if root.suffix == ".jsonl":
        return Manifest.load(root).items
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give a folder with audio, or a .jsonl that `scan` wrote")
    files, unreadable = scan_cached(root, cache, progress=not quiet)
    name_left_out(unreadable, quiet)
    if not files:
        raise InputError(f"{root}: holds no audio that can be read")
    return files


def name_left_out(unreadable: Iterable[Unreadable], quiet: bool = False) -> None:
    for name, cause in [] if quiet else unreadable:
        note(f"left out: {name}: {cause}")


class Placed(Protocol):
    """Something that has a place among the others of its folder."""

    @property
    def path(self) -> Path: ...
    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=Placed)


def divided(files: Sequence[T], held_out: int) -> tuple[list[T], list[T]]:
    """The files to train on; and every `held_out`-th by path, from the first on, which is held out (0: none)."""
    files = sorted(files, key=lambda file: file.path.as_posix())
    if not held_out:
        return files, []
    learned = [file for at, file in enumerate(files) if at % held_out]
    if not learned:
        raise InputError(f"{files[0].name}: is the only file, and is held out; data.held_out=0 trains on it")
    return learned, files[::held_out]
