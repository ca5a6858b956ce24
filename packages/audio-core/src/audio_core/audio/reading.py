"""Looking into audio files and reading them, whole, in part or block by block.

What soundfile cannot read goes through ffmpeg when that is on the PATH.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from ..files import InputError, reason
from .arrays import Samples
from .converting import convert_channels, regroup, resample, resampled
from .formats import BLOCK, FOREIGN, OGG_ORDER, supported
from .section import Section
from .whole import refuse_partial


class Info(NamedTuple):
    """What the header says; `frames` counts samples a channel.

    `container` and `encoding` are libsndfile's names; of a file that ffmpeg reads its extension and ffmpeg's name.
    """

    rate: int
    channels: int
    frames: int
    container: str
    encoding: str

    @property
    def seconds(self) -> float:
        return self.frames / self.rate


class Audio(NamedTuple):
    samples: Samples
    rate: int


# --- looking and reading --------------------------------------------------------------------------


def info(path: str | Path | Section) -> Info:
    """The header of a file, checked against what the file really holds."""
    with _opened(path) as (file, container, encoding):
        return Info(file.samplerate, file.channels, file.frames, container, encoding)


def differing(
    path: str | Path, rate: int | None = None, channels: int | None = None, encoding: str | None = None
) -> str:
    """What an existing file has in place of what is asked for, in words; empty where it is as asked."""
    if not (rate or channels or encoding):
        return ""
    header = info(path)
    pairs = [
        (f"{header.rate} Hz", rate and f"{rate} Hz"),
        (f"{header.channels} channels", channels and f"{channels} channels"),
        (header.encoding, encoding and encoding.upper()),
    ]
    wrong = [pair for pair in pairs if pair[1] and pair[0] != pair[1]]
    has, wanted = (" and ".join(str(pair[side]) for pair in wrong) for side in (0, 1))
    return f"exists with {has}, not with {wanted}" if wrong else ""


def read(
    path: str | Path | Section,
    start: int = 0,
    frames: int | None = None,
    rate: int | None = None,
    channels: int | None = None,
) -> Audio:
    """Audio from sample `start` on, sought and not skipped; then resampled and channels converted on request.

    `start` and `frames` count samples of the file's own rate. A segment that the file does not hold is an error.
    Channels come in the order of WAV, from Ogg files too.
    """
    with _opened(path) as (file, *_):
        wanted = file.frames - start if frames is None else frames
        if start < 0 or wanted < 0 or start + wanted > file.frames:
            raise InputError(f"{path}: has {file.frames} samples; {start} to {start + wanted} was asked for")
        try:
            samples = np.empty((file.channels, wanted), np.float32)
        except (MemoryError, ValueError):
            raise InputError(f"{path}: {wanted} samples of {file.channels} channels do not fit into memory") from None
        at = 0
        for block in _decoded(file, path, start, wanted):
            samples[:, at : at + block.shape[1]] = block
            at += block.shape[1]
        own_rate = file.samplerate
    if channels is not None:
        samples = convert_channels(samples, channels, str(path))
    return Audio(samples if rate is None else resample(samples, own_rate, rate), rate or own_rate)


def blocks(
    path: str | Path | Section, frames: int = BLOCK, rate: int | None = None, channels: int | None = None
) -> Iterator[Samples]:
    """The whole file as consecutive blocks of `frames` samples (the last one shorter), converted as in `read`."""
    with _opened(path) as (file, *_):
        source: Iterator[Samples] = _decoded(file, path, 0, file.frames)
        if channels is not None:
            source = (convert_channels(block, channels, str(path)) for block in source)
        if rate is not None and rate != file.samplerate:
            source = resampled(source, file.samplerate, rate, channels or file.channels)
        yield from regroup(source, frames)


def _decoded(file: soundfile.SoundFile, path: str | Path | Section, start: int, frames: int) -> Iterator[Samples]:
    """`frames` samples from `start` on, in blocks; a file that ends early or holds NaN is an error."""
    order = OGG_ORDER.get(file.channels) if file.format == "OGG" else None
    try:
        with _muted(path):
            file.seek(start)
        left = frames
        while left:
            with _muted(path):
                block = file.read(min(BLOCK, left), dtype="float32", always_2d=True).T
            if not block.shape[1]:
                raise InputError(f"{path}: is truncated: {file.frames} samples promised, {start + frames - left} found")
            if not np.isfinite(block).all():
                at = start + frames - left + int(np.argmax(~np.isfinite(block).all(0)))
                raise InputError(f"{path}: holds NaN or infinity at sample {at}")
            left -= block.shape[1]
            yield block if order is None else block[order]
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise InputError(f"{path}: cannot be decoded: {reason(error)}") from None


class _Opened(NamedTuple):
    file: soundfile.SoundFile
    container: str
    encoding: str


@contextmanager
def _opened(path: str | Path | Section) -> Iterator[_Opened]:
    """The file opened for reading, or one line that says why not."""
    path = path if isinstance(path, Section) else Path(path)
    try:
        if isinstance(path, Path) and path.exists() and not path.is_file():
            raise InputError(f"{path}: is {'a folder' if path.is_dir() else 'no regular file'}, not an audio file")
        with path.open("rb") as bytes_:
            empty = not bytes_.read(1)
    except OSError as error:
        raise InputError(f"{path}: {reason(error)}") from None
    if empty:
        raise InputError(f"{path}: is empty (0 bytes)")
    with ExitStack() as stack:
        try:
            with _muted(path):
                source = native(path) if isinstance(path, Path) else stack.enter_context(path.open())
                file = stack.enter_context(soundfile.SoundFile(source))
            opened = _Opened(file, file.format, file.subtype)
        except (soundfile.SoundFileError, TypeError, RuntimeError) as error:  # TypeError: a headerless extension (.raw)
            opened = stack.enter_context(_through_ffmpeg(path, error))
        refuse_partial(opened.file, path)
        yield opened


_muting = threading.Lock()  # two at once would restore each other's standard error


@contextmanager
def _muted(path: str | Path | Section) -> Iterator[None]:
    """The MP3 decoder writes remarks of its own to standard error; what is wrong is ours to say, in one line."""
    if not str(path).lower().endswith(".mp3"):
        yield
        return
    with _muting, open(os.devnull, "w") as nowhere:  # noqa: PTH123 (a device, not a path)
        try:
            kept = os.dup(2)
        except OSError:  # there is no standard error
            yield
            return
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def native(path: Path) -> str | bytes:
    """What soundfile takes for any file name; text that is no UTF-8 fails where names are bytes."""
    return os.fsencode(path) if os.name == "posix" else str(path)


@contextmanager
def _through_ffmpeg(path: Path | Section, error: Exception) -> Iterator[_Opened]:
    """The file decoded by ffmpeg into a temporary one that can be sought."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None or path.suffix.lower() not in FOREIGN:
        hint = "; put ffmpeg on the PATH to read it" if path.suffix.lower() in FOREIGN else ""
        detail = reason(error).split(": ")[-1].rstrip(".")
        if "does not exist" in detail:  # what libsndfile says of an .mp3 that is none
            detail = "Format not recognised"
        raise InputError(f"{path}: not audio that can be read ({detail}); supported: {supported()}{hint}") from None
    with tempfile.TemporaryDirectory() as folder:
        decoded = Path(folder) / "decoded.w64"
        if isinstance(path, Section):
            whole = Path(folder) / f"whole{path.suffix}"
            whole.write_bytes(path.read_bytes())
        else:
            whole = path.resolve()
        source = f"file:{whole}"  # never a protocol, never an option
        command = [ffmpeg, "-nostdin", "-hide_banner", "-v", "level+info", "-protocol_whitelist", "file", "-i", source]
        result = subprocess.run([*command, "-vn", "-c:a", "pcm_f32le", "-y", decoded], capture_output=True)
        log = result.stderr.decode(errors="replace")  # it repeats names and tags, which may be any bytes
        if result.returncode or not decoded.exists():
            errors = " ".join(re.findall(r"\[(?:error|fatal)\] (.*)", log)) or log
            raise InputError(f"{path}: ffmpeg cannot read it: {' '.join(errors.split())[-200:]}")
        # "Stream #0:0(und): Audio: alac (alac / 0x63616C61), 44100 Hz, stereo, s32p (24 bit)"; the input comes first
        stream = re.search(r"Stream #.*: Audio: (\w+)(?:.*\((\d+) bit\))?", log)
        encoding = "_".join(filter(None, stream.groups())).upper() if stream else "through ffmpeg"
        with soundfile.SoundFile(decoded) as file:
            yield _Opened(file, path.suffix[1:].upper(), encoding)
