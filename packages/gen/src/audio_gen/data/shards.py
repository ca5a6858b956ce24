"""Tars of items: those of a folder or of a pattern such as `shards-{000..009}.tar`, from a disk or from the web.

Tars of the web are copied to a disk once, since samples are drawn from anywhere in them.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import urllib.request
from pathlib import Path

from audio_core.data.headers import alone
from audio_core.data.manifest import Unreadable
from audio_core.data.shards import Sample, Shards
from audio_core.files import InputError, note, reason, replacing

_STORES = {"s3": "s3fs", "gs": "gcsfs", "az": "adlfs"}
"""Object stores, and the library that knows the way to each."""
_SCHEME = re.compile(r"([a-z][a-z0-9+]+):/*")


def tars(root: Path, cache: Path, quiet: bool = False) -> list[Path]:
    """The tars that `root` stands for, those of the web below `cache`; none where it stands for none."""
    if root.is_dir():
        return sorted(root.glob("[!.]*.tar"))
    if root.exists():
        return [root] if root.suffix == ".tar" else []
    text = root.as_posix()
    if scheme := _SCHEME.match(text):  # a path has one slash where an address has two
        text = f"{scheme[1]}://{text[scheme.end() :]}"
        if scheme[1] not in (known := ("http", "https", "hf", *_STORES)):
            raise InputError(
                f"{text}: shards come from folders and {', '.join(known)} alone; copy them to one of these"
            )
        return [_fetched(each, cache, quiet) for each in expanded(text)]
    if not text.endswith(".tar"):
        return []
    paths = [Path(name) for name in expanded(text)]
    for path in paths:
        if not path.exists():
            raise InputError(f"{path}: no such file")
    return paths


def expanded(pattern: str) -> list[str]:
    """What a pattern stands for: `{000..009}` for numbers, and `{train,test}` for words."""
    match = re.search(r"\{([^{}]*)\}", pattern)
    if match is None:
        return [pattern]
    words = match[1].split(",")
    if numbers := re.fullmatch(r"(\d+)\.\.(\d+)", match[1]):
        first, last = numbers.groups()
        if int(first) > int(last):
            raise InputError(f"{pattern}: {match[0]} counts downwards")
        width = max(map(len, numbers.groups())) if "0" in (first[0], last[0]) else 0
        words = [f"{number:0{width}d}" for number in range(int(first), int(last) + 1)]
    return [each for word in words for each in expanded(pattern[: match.start()] + word + pattern[match.end() :])]


def samples(paths: list[Path]) -> tuple[list[Sample], list[Unreadable]]:
    """All samples of the tars, and what cannot be read: samples, or whole tars."""
    whole: list[Sample] = []
    damaged: list[Unreadable] = []
    for tar in paths:
        try:
            shards = Shards(tar)
        except InputError as error:
            damaged.append(Unreadable(str(tar), str(error).removeprefix(f"{tar}: ")))
            continue
        whole += shards.samples
        damaged += shards.unreadable
    return whole, damaged


def _fetched(address: str, cache: Path, quiet: bool) -> Path:
    """The local copy of a tar. Of several processes one fetches it, and the others wait."""
    if address.startswith("hf://"):
        return _from_hub(address)
    plain = re.split(r"[?#]", address)[0]
    mark = hashlib.blake2b(address.encode(), digest_size=4).hexdigest()
    path = cache / f"{mark}-{plain.rpartition('/')[2].removesuffix('.tar')}.tar"
    with alone(path.with_suffix(".lock")):
        if not path.exists():
            if not quiet:
                note(f"fetching {plain}")
            with replacing(path) as temporary:
                _fetch(address, temporary)
    return path


def _fetch(address: str, path: Path) -> None:
    if (scheme := address.partition(":")[0]) in _STORES:
        _fetch_from_store(address, path, _STORES[scheme])
        return
    try:
        with urllib.request.urlopen(address, timeout=60) as answer, path.open("wb") as file:
            shutil.copyfileobj(answer, file)
            promised = int(answer.headers.get("Content-Length") or file.tell())
            if file.tell() != promised:
                raise InputError(f"{address}: is cut short: {promised} bytes promised, {file.tell()} received")
    except (OSError, ValueError) as error:
        raise InputError(f"{address}: cannot be fetched: {reason(error)}") from None


def _fetch_from_store(address: str, path: Path, library: str) -> None:
    """With the credentials that the library finds, in the environment or in its own files."""
    import fsspec

    try:
        with fsspec.open(address, "rb") as remote, path.open("wb") as file:
            shutil.copyfileobj(remote, file)
    except ImportError:
        raise InputError(f"{address}: needs {library}, which is not installed: pip install {library}") from None
    except Exception as error:  # each store's library has errors of its own
        raise InputError(f"{address}: cannot be fetched: {reason(error)[:200]}") from None


def _from_hub(address: str) -> Path:
    """Kept where the Hub's own library keeps files."""
    import huggingface_hub

    match = re.fullmatch(r"hf://(?:(dataset|space)s/)?([^/]+/[^/@]+)(?:@([^/]+))?/(.+)", address)
    if match is None:
        raise InputError(f"{address}: expected hf://datasets/OWNER/NAME/FILE.tar, or hf://OWNER/NAME/FILE.tar")
    kind, owner, revision, file = match.groups()
    try:
        return Path(huggingface_hub.hf_hub_download(owner, file, repo_type=kind or "model", revision=revision))
    except Exception as error:  # its network library has errors of its own, and changes
        raise InputError(f"{address}: cannot be fetched from the Hub: {reason(error)[:200]}") from None
