"""Writing shards: the files of a manifest, or any files by key, as tar files of about one size."""

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from ..files import InputError, replacing
from .manifest import File, Manifest, Unreadable, inspect_file
from .shards import Index, build_index, index_path, read_index, split


class Sharded(NamedTuple):
    tars: int
    items: int
    unreadable: list[Unreadable]


def shard(
    manifest: str | Path, out: str | Path, size: int = 10**9, progress: bool = True, force: bool = False
) -> Sharded:
    """Put the files of a manifest, unchanged, into tar files of about `size` bytes: `out`/shard-000000.tar and so on.

    Each sample is its audio file and a .json of its rate, channels, frames and facts. Tars that an earlier call
    finished are kept. A file that can no longer be read is left out and listed in the result.
    """
    out, items = Path(out), Manifest.load(manifest).items
    groups = _groups(items, size)
    tars = [out / f"shard-{number:06d}.tar" for number in range(len(groups))]
    _claim(out, dict(zip(tars, map(_source, groups), strict=True)), force)
    unreadable: list[Unreadable] = []
    with tqdm(total=len(items), desc="shard", unit="file", disable=None if progress else True) as bar:
        for tar, group in zip(tars, groups, strict=True):
            index = read_index(tar) if tar.exists() else None
            if index is None or len(index.samples) < len(group):  # files that were left out may have been repaired
                broken = {key: cause for key, item in group if (cause := _cause(item))}
                unreadable += [Unreadable(item.name, broken[key]) for key, item in group if key in broken]
                whole = [(key, _contents(item)) for key, item in group if key not in broken]
                if whole:
                    write(tar, whole, _source(group))
            bar.update(len(group))
    if len(unreadable) == len(items):
        raise InputError(f"{unreadable[0].name}: {unreadable[0].cause}; none of {len(items)} files can be read")
    return Sharded(sum(tar.exists() for tar in tars), len(items) - len(unreadable), unreadable)


def write(path: str | Path, samples: Iterable[tuple[str, Mapping[str, Path | bytes]]], source: str = "") -> Index:
    """Write a tar file of samples, each (key, files by extension), and its index, which also holds `source`.

    A key has no dot after its last slash, since the first dot there begins the extension.
    """
    path = Path(path)
    with replacing(path) as temporary:
        with tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as tar:
            for key, files in samples:
                for extension, content in files.items():
                    name = f"{key}.{extension}"
                    if split(name) != (key, extension) or name.startswith("/") or ".." in name.split("/"):
                        raise InputError(f"{path}: {name!r} is no name in a shard: keys are relative and have no dots")
                    info = tarfile.TarInfo(name)  # no time and no owner, so that the same samples give the same bytes
                    with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
                        info.size = file.seek(0, os.SEEK_END)
                        file.seek(0)
                        tar.addfile(info, file)
        return build_index(temporary, source, path)


def _groups(items: Sequence[File], size: int) -> list[list[tuple[str, File]]]:
    """Split items, with their keys, into groups of about `size` bytes, in order. Equal files give equal groups."""
    groups: list[list[tuple[str, File]]] = []
    room = 0
    for key, item in zip(_keys(items), items, strict=True):
        length = item.path.stat().st_size
        if not groups or length > room:
            groups.append([])
            room = size
        groups[-1].append((key, item))
        room -= length
    return groups


def _keys(items: Sequence[File]) -> list[str]:
    """The items' paths below the folder they share, without extension; dots become _, and a name met twice a number."""
    folder = os.path.commonpath([item.path.absolute().parent for item in items])
    keys: dict[str, None] = {}
    for item in items:
        path = Path(os.path.relpath(item.path, folder))
        key = plain = path.with_name(path.stem.replace(".", "_")).as_posix()
        number = 2
        while key in keys:
            key, number = f"{plain}-{number}", number + 1
        keys[key] = None
    return list(keys)


def _source(group: Sequence[tuple[str, File]]) -> str:
    """A hash of the rows from which a tar is written, to compare with that of an earlier run."""
    rows = [(key, item.path.suffix, item.rate, item.channels, item.frames, item.facts) for key, item in group]
    return hashlib.blake2b(repr(rows).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _claim(out: Path, sources: Mapping[Path, str], force: bool) -> None:
    """Refuse a folder with other tars than these. With `force`, tars of earlier shards are deleted."""
    for tar in sorted(out.glob("[!.]*.tar")):  # hidden ones are what a killed process left, and are cleared soon
        index = read_index(tar)
        if tar in sources and index and index.source == sources[tar] and not force:
            continue
        if not force or not re.fullmatch(r"shard-\d{6}\.tar", tar.name):
            hint = "" if force else ", or --force"
            raise InputError(f"{tar}: is no part of these shards; give another folder{hint}")
        tar.unlink()
        index_path(tar).unlink(missing_ok=True)


def _cause(item: File) -> str:
    """Why a file of the manifest can no longer be used; empty where it can."""
    file = inspect_file(item.path)
    if isinstance(file, Unreadable):
        return file.cause
    same = (file.rate, file.channels, file.frames) == (item.rate, item.channels, item.frames)
    return "" if same else "is not the file that was scanned; scan again"


def _contents(item: File) -> dict[str, Path | bytes]:
    row = {"rate": item.rate, "channels": item.channels, "frames": item.frames, **item.facts}
    return {item.path.suffix[1:].lower(): item.path, "json": json.dumps(row).encode()}
