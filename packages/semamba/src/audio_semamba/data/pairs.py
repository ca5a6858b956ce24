"""Clean recordings and their noisy partners, found in manifests, folders and the original's JSON lists."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from audio_core import audio
from audio_core.data.corpus import name_left_out
from audio_core.data.headers import scan_cached
from audio_core.data.manifest import File, Manifest, Scan, Unreadable, find_audio, inspect_file, inspect_files, scan
from audio_core.files import InputError, read_json

from ..recipe import Data

MOST_APART = 0.1  # seconds by which the lengths of partners may differ


class Pair(NamedTuple):
    clean: Path
    noisy: Path

    @property
    def name(self) -> str:
        return str(self.noisy)


class Corpus(NamedTuple):
    """Recordings to train or to validate on: pairs, and clean speech that noise is mixed with."""

    pairs: list[Pair]
    clean: list[File]
    noise: list[File]

    @property
    def files(self) -> int:
        return len(self.pairs) + len(self.clean)


def corpora(data: Data, cache: Path, quiet: bool = False) -> tuple[Corpus, Corpus]:
    """What to train on and what to validate on; `cache` remembers the headers of folders."""
    noise = [file for path in data.noise for file in listed(path, cache, quiet)]
    pairs, clean = _source(data.train, data.noisy, cache, quiet)
    for path in data.more:
        further = _source(path, None, cache, quiet)
        pairs, clean = pairs + further[0], clean + further[1]
    held = [pair for pair in pairs if _held(pair.clean, data)], [file for file in clean if _held(file.path, data)]
    if data.held_out and not any(held):
        raise InputError(f"data.held_out: no file of the training data begins with {' or '.join(data.held_out)}")
    train = Corpus(
        [pair for pair in pairs if not _held(pair.clean, data)],
        [file for file in clean if not _held(file.path, data)],
        noise,
    )
    if not train.files:
        raise InputError("data.held_out: leaves no file to train on")
    if data.valid is not None:
        further = _source(data.valid, data.valid_noisy, cache, quiet)
        held = held[0] + further[0], held[1] + further[1]
    valid_noise = [file for path in data.valid_noise for file in listed(path, cache, quiet)]
    valid = Corpus(*held, valid_noise or noise)
    for corpus in (train, valid):
        if corpus.clean and not corpus.noise and not data.made:
            raise InputError(
                f"{corpus.clean[0].name}: has no noisy partner; give these as data.noisy, or noise to mix as "
                "data.noise or data.made"
            )
    return train, valid


def _held(path: Path, data: Data) -> bool:
    return path.name.startswith(data.held_out)


def _source(path: Path, noisy: Path | None, cache: Path, quiet: bool) -> tuple[list[Pair], list[File]]:
    """The pairs and the clean recordings without partner that `path` gives."""
    if noisy is not None:
        pairs, problems = paired(path, noisy, cache, quiet)
        name_left_out(problems, quiet)
        return pairs, []
    files = listed(path, cache, quiet)
    return _partners(files, path), [file for file in files if "noisy" not in file.facts]


def listed(path: Path, cache: Path | None, quiet: bool = False) -> list[File]:
    """The readable audio files of a folder, of a manifest or of a .json list; those that cannot be read are named."""
    items, unreadable = _scanned(path, cache, quiet)
    name_left_out(unreadable, quiet)
    return items


def _scanned(path: Path, cache: Path | None, quiet: bool) -> Scan:
    if path.suffix == ".jsonl":
        return Scan(Manifest.load(path).items, [])
    if path.is_dir() and cache:
        result = scan_cached(path, cache, progress=not quiet)
    elif path.is_dir() or path.suffix == ".json":
        paths = find_audio(path) if path.is_dir() else _json_list(path)
        headers = inspect_files(paths, inspect_file, progress=not quiet)
        items = [header for header in headers if isinstance(header, File)]
        result = Scan(items, [header for header in headers if isinstance(header, Unreadable)])
    else:
        raise InputError(f"{path}: is no folder, no .jsonl that `scan` wrote and no .json list of files")
    if not result.items:
        raise InputError(f"{path}: holds no audio that can be read")
    return result


def _json_list(path: Path) -> list[Path]:
    """The paths in one of the original's lists; relative ones start at the folder of the list."""
    names = read_json(path)
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise InputError(f"{path}: expected a list of file names in JSON, such as the original's train_clean.json")
    return [path.parent / name for name in names]


# --- matching --------------------------------------------------------------------------------------------


class Paired(NamedTuple):
    """Pairs, and the files that were left out, each with the cause."""

    pairs: list[Pair]
    unreadable: list[Unreadable]


def paired(clean: Path, noisy: Path | None = None, cache: Path | None = None, quiet: bool = False) -> Paired:
    """Each clean file with its noisy partner, in the order of the clean ones.

    Partners have the same path below two folders, but for the extension; beside a list the same name.
    Without `noisy`, `clean` is a manifest of pairs.
    """
    if noisy is None:
        files = listed(clean, cache, quiet)
        alone = [Unreadable(file.name, "has no noisy partner") for file in files if "noisy" not in file.facts]
        if len(alone) == len(files):
            raise InputError(f"{clean}: names no noisy partners; give a folder or a list of these, too")
        return Paired(_partners(files, clean), alone)
    sides, problems, broken = [], [], set()
    for source in (clean, noisy):
        root = source if clean.is_dir() and noisy.is_dir() else None
        files, unreadable = _scanned(source, cache, quiet)
        problems += unreadable
        broken |= {_key(Path(name), root) for name, _ in unreadable}
        sides.append(_keyed(files, root))
    pairs = []
    for key, file in sides[0].items():
        partner = sides[1].get(key)
        if partner is None:
            problems += [] if key in broken else [Unreadable(file.name, "has no noisy partner")]
            continue
        apart = abs(file.frames / file.rate - partner.frames / partner.rate)
        if apart > MOST_APART:
            problems.append(Unreadable(file.name, f"and {partner.name} differ in length by {apart:.3g} s"))
        else:
            pairs.append(Pair(file.path, partner.path))
    rest = [file.name for key, file in sides[1].items() if key not in sides[0] and key not in broken]
    problems += [Unreadable(name, "has no clean partner") for name in rest]
    if not pairs:
        one, other = (next(iter(files.values())).name for files in sides)
        raise InputError(f"{clean} and {noisy}: no two names match; the first are {one} and {other}")
    return Paired(pairs, problems)


def _keyed(files: Sequence[File], root: Path | None) -> dict[str, File]:
    keyed: dict[str, File] = {}
    for file in files:
        key = _key(file.path, root)
        if key in keyed:
            raise InputError(f"{keyed[key].name} and {file.name}: share the name by which partners are matched")
        keyed[key] = file
    return keyed


def _key(path: Path, root: Path | None) -> str:
    """What partners share."""
    return (path.relative_to(root) if root else Path(path.name)).with_suffix("").as_posix()


def _partners(files: Sequence[File], manifest: Path) -> list[Pair]:
    """The pairs of a manifest, whose rows name the noisy partner relative to the manifest's folder."""
    pairs = []
    for file in files:
        name: Any = file.facts.get("noisy")
        if name is None:
            continue
        if not isinstance(name, str) or not name or "\0" in name:
            raise InputError(f"{manifest}: the noisy partner of {file.name} is no file name: {name!r:.40}")
        pairs.append(Pair(file.path, manifest.parent / name))
    missing = [pair.noisy for pair in pairs if not pair.noisy.is_file()]
    if missing:
        raise InputError(f"{manifest}: {len(missing)} of {len(pairs)} noisy files are missing, the first: {missing[0]}")
    return pairs


# --- scanning and reading --------------------------------------------------------------------------------


def scan_pairs(clean: Path, noisy: Path, manifest: Path, quiet: bool = False) -> Paired:
    """Write a manifest of the clean files, each row with its noisy partner as the fact `noisy`."""
    result = paired(clean, noisy, quiet=quiet)
    partners = {pair.clean: os.path.relpath(pair.noisy, manifest.parent) for pair in result.pairs}
    scan(partners, manifest, progress=False, facts=lambda path: {"noisy": Path(partners[path]).as_posix()})
    return result


def read_pair(pair: Pair, rate: int) -> tuple[audio.Samples, audio.Samples]:
    """Clean and noisy as (1, T) at `rate`, cut to the shorter of both."""
    clean, noisy = (audio.read(path, rate=rate, channels=1).samples for path in pair)
    length = min(clean.shape[1], noisy.shape[1])
    return clean[:, :length], noisy[:, :length]
