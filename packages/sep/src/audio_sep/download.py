"""Fetching published checkpoints: a file that broke off goes on, and what arrives is checked.

Files lie in the cache folder of the system (XDG_CACHE_HOME, ~/.cache, or LOCALAPPDATA on Windows) under audio-sep,
by the names that their authors gave them. A file that was brought there in another way counts as downloaded.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import re
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audio_core.command import columns
from audio_core.files import InputError, reason
from tqdm import tqdm

from .__about__ import __version__
from .registry import LICENCE, PUBLISHED, Published

_BLOCK = 1 << 18
_SECONDS = 30  # without an answer


def cache() -> Path:
    """The folder for downloads."""
    if folder := os.environ.get("XDG_CACHE_HOME"):
        return Path(folder) / "audio-sep"
    if sys.platform == "win32" and (folder := os.environ.get("LOCALAPPDATA")):
        return Path(folder) / "audio-sep"
    return Path.home() / ".cache" / "audio-sep"


def place(published: Published, folder: Path | None = None) -> Path:
    """Where the file of a checkpoint lies, once it is there."""
    return (folder or cache()) / published.file


def is_here(published: Published, folder: Path | None = None) -> bool:
    path = place(published, folder)
    return path.is_file() and (not published.exact or path.stat().st_size == published.bytes)


def listing() -> list[dict[str, Any]]:
    """The facts of all published checkpoints, and the path of each that is here."""
    return [
        {**published.plain(), "path": str(place(published)) if is_here(published) else None}
        for published in PUBLISHED.values()
    ]


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The listing as text for people."""
    lines: list[tuple] = [("name", "separates", "SDR, dB", "MB", "model", "downloaded")]
    for row in rows:
        size = float(f"{row['bytes'] / 1e6:.3g}")
        lines.append((row["name"], row["source"], row["sdr"], size, row["kind"], "yes" if row["path"] else ""))
    records = " and ".join(str(record) for record in sorted({row["record"] for row in rows}))
    return f"{columns(lines)}\n\nThe SDR is of MUSDB18. From Zenodo's records {records}; licence: {LICENCE}."


def download(published: Published, folder: Path | None = None, quiet: bool = False) -> Path:
    """The file of a checkpoint, from the cache or from where it was published."""
    target = place(published, folder)
    if is_here(published, folder):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.part")
        headers = _fetch(published, part, quiet)
        _check(published, part, headers)
        part.replace(target)
    except InputError:
        raise
    except urllib.error.HTTPError as error:
        raise InputError(f"{published.url}: the server answers {error.code} ({error.reason})") from None
    except (urllib.error.URLError, ConnectionError, TimeoutError, http.client.HTTPException) as error:
        cause = reason(error.reason) if isinstance(getattr(error, "reason", None), Exception) else reason(error)
        raise InputError(_interrupted(published, target, cause)) from None
    except OSError as error:
        raise InputError(f"{target}: cannot be written: {reason(error)}") from None
    return target


def _fetch(published: Published, part: Path, quiet: bool) -> Mapping[str, str]:
    """Write what is missing of the file to `part`; the answer's headers."""
    start = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": f"audio-sep/{__version__}"} | ({"Range": f"bytes={start}-"} if start else {})
    try:
        answer = urllib.request.urlopen(urllib.request.Request(published.url, headers=headers), timeout=_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:  # there is nothing beyond what is here: it is whole, or of another file
            part.unlink()
            return _fetch(published, part, quiet)
        raise
    with answer:
        start = start if answer.status == 206 else 0  # else the server began anew
        total = start + int(answer.headers.get("Content-Length") or 0)
        if published.exact and total != published.bytes:
            size = f"{total:,} bytes, and the published file has {published.bytes:,}"
            raise InputError(f"{published.url}: holds {size}; it is no longer the same")
        free = shutil.disk_usage(part.parent).free
        if free < total - start:
            raise InputError(f"{part.parent}: has {free >> 20} MB free, and {(total - start) >> 20} MB are to come")
        with (
            part.open("ab" if start else "wb") as file,
            tqdm(
                total=total, initial=start, desc=published.name, unit="B", unit_scale=True, disable=quiet or None
            ) as bar,
        ):
            while block := answer.read(_BLOCK):
                file.write(block)
                bar.update(len(block))
        if part.stat().st_size < total:
            raise ConnectionError("the connection was closed")
        return answer.headers


def _check(published: Published, part: Path, headers: Mapping[str, str]) -> None:
    """Refuse and remove a file whose checksum is not the one that the server states."""
    expected = _md5(headers)
    if not expected:
        return
    digest = hashlib.md5(usedforsecurity=False)
    with part.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    if digest.hexdigest() != expected:
        part.unlink()
        raise InputError(f"{published.url}: arrived damaged (its MD5 is not {expected}); download it again")


def _md5(headers: Mapping[str, str]) -> str:
    """The file's MD5 in hexadecimal, as Zenodo gives it; empty where the server says none."""
    tag = re.search(r"md5:([0-9a-f]{32})", headers.get("ETag") or "")
    stated = headers.get("Content-MD5") or ""
    if tag:
        return tag[1]
    if re.fullmatch(r"[0-9a-f]{32}", stated):
        return stated
    return base64.b64decode(stated).hex() if re.fullmatch(r"[A-Za-z0-9+/]{22}==", stated) else ""


def _interrupted(published: Published, target: Path, cause: str) -> str:
    part = target.with_name(f"{target.name}.part")
    if part.exists() and part.stat().st_size:
        got = f"{part.stat().st_size / 1e6:,.0f} of {published.bytes / 1e6:,.0f} MB"
        return f"{published.url}: {cause}, at {got}; the same command goes on there"
    return (
        f"{published.url}: cannot be reached ({cause}); without a network, fetch it elsewhere and put it here: {target}"
    )
