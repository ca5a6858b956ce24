"""Audio files: look, read, seek, convert and write, always in blocks, so that an hour costs what a minute costs.

Samples are float32 numpy arrays (C, T). soundfile reads and writes; soxr resamples (HQ: 73 dB on a 44.1 -> 16 kHz
sweep, aliases below -140 dB). What soundfile cannot read goes through ffmpeg when that is on the PATH.
"""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import soxr

from .files import InputError, reason, replacing
from .whole import refuse_partial

Samples = np.ndarray  # float32 (C, T)

# Extension -> (container, encodings with the default first). One list for reading, writing and messages.
FORMATS: dict[str, tuple[str, tuple[str, ...]]] = {
    ".wav": ("WAV", ("PCM_16", "PCM_24", "FLOAT")),
    ".flac": ("FLAC", ("PCM_16", "PCM_24")),
    ".ogg": ("OGG", ("VORBIS", "OPUS")),
    ".opus": ("OGG", ("OPUS",)),
    ".mp3": ("MP3", ("MPEG_LAYER_III",)),
    ".w64": ("W64", ("PCM_16", "PCM_24", "FLOAT")),
    ".rf64": ("RF64", ("PCM_16", "PCM_24", "FLOAT")),
    ".aiff": ("AIFF", ("PCM_16", "PCM_24", "FLOAT")),
    ".caf": ("CAF", ("PCM_16", "PCM_24", "FLOAT")),
}
FOREIGN = {".m4a", ".aac", ".mp4", ".wma", ".webm", ".mka", ".ac3", ".amr"}  # audio that only ffmpeg reads
BLOCK = 1 << 16  # samples a channel; libvorbis crashes on much longer writes
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
_TAIL = 4096  # samples at the end of a written file that are read again
_BYTES = {"PCM_16": 2, "PCM_24": 3, "FLOAT": 4}


class Info(NamedTuple):
    """What the header says; `frames` counts samples a channel."""

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


def info(path: str | Path) -> Info:
    """The header of a file, checked against what the file really holds."""
    with _opened(path) as file:
        return Info(file.samplerate, file.channels, file.frames, file.format, file.subtype)


def read(
    path: str | Path, start: int = 0, frames: int | None = None, rate: int | None = None, channels: int | None = None
) -> Audio:
    """Audio from sample `start` on, sought and not skipped; then resampled and channels converted on request.

    `start` and `frames` count samples of the file's own rate. A segment that the file does not hold is an error.
    """
    with _opened(path) as file:
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
    path: str | Path, frames: int = BLOCK, rate: int | None = None, channels: int | None = None
) -> Iterator[Samples]:
    """The whole file as consecutive blocks of `frames` samples (the last one shorter), converted as in `read`."""
    with _opened(path) as file:
        source: Iterator[Samples] = _decoded(file, path, 0, file.frames)
        if channels is not None:
            source = (convert_channels(block, channels, str(path)) for block in source)
        if rate is not None and rate != file.samplerate:
            source = _resampled(source, file.samplerate, rate, channels or file.channels, file.frames)
        yield from regroup(source, frames)


def regroup(source: Iterable[Samples], frames: int) -> Iterator[Samples]:
    """The same samples in blocks of `frames`; only the last may be shorter."""
    held: list[Samples] = []
    count = 0
    for block in source:
        held.append(block)
        count += block.shape[-1]
        if count >= frames:
            joined = np.concatenate(held, -1)
            full = count - count % frames
            yield from (joined[..., at : at + frames] for at in range(0, full, frames))
            held, count = [joined[..., full:]], count - full
    if count:
        yield np.concatenate(held, -1)


def _decoded(file: soundfile.SoundFile, path: str | Path, start: int, frames: int) -> Iterator[Samples]:
    """`frames` samples from `start` on, in blocks; a file that ends early or holds NaN is an error."""
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
            yield block
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise InputError(f"{path}: cannot be decoded: {reason(error)}") from None


@contextmanager
def _opened(path: str | Path) -> Iterator[soundfile.SoundFile]:
    """The file opened for reading, or one line that says why not."""
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
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
                file = stack.enter_context(soundfile.SoundFile(_native(path)))
        except (soundfile.SoundFileError, TypeError, RuntimeError) as error:  # TypeError: a headerless extension (.raw)
            file = stack.enter_context(_through_ffmpeg(path, error))
        refuse_partial(file, path)
        yield file


_muting = threading.Lock()  # two at once would restore each other's standard error


@contextmanager
def _muted(path: str | Path) -> Iterator[None]:
    """The MP3 decoder writes remarks of its own to standard error; what is wrong is ours to say, in one line."""
    if Path(path).suffix.lower() != ".mp3":
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


def _native(path: Path) -> str | bytes:
    """What soundfile takes for any file name; text that is no UTF-8 fails where names are bytes."""
    return os.fsencode(path) if os.name == "posix" else str(path)


@contextmanager
def _through_ffmpeg(path: Path, error: Exception) -> Iterator[soundfile.SoundFile]:
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
        source = f"file:{path.resolve()}"  # never a protocol, never an option
        command = [ffmpeg, "-nostdin", "-v", "error", "-protocol_whitelist", "file", "-i", source]
        result = subprocess.run([*command, "-vn", "-c:a", "pcm_f32le", "-y", decoded], capture_output=True, text=True)
        if result.returncode or not decoded.exists():
            raise InputError(f"{path}: ffmpeg cannot read it: {' '.join(result.stderr.split())[-200:]}")
        with soundfile.SoundFile(decoded) as file:
            yield file


def supported() -> str:
    return ", ".join(extension[1:] for extension in FORMATS)


# --- converting -----------------------------------------------------------------------------------


def convert_channels(samples: Samples, channels: int, name: str = "audio") -> Samples:
    """One channel is copied to all; many become one by their mean; every other change is an error."""
    if samples.shape[0] == channels:
        return samples
    if channels == 1:
        return samples.mean(0, keepdims=True, dtype=np.float32)
    if samples.shape[0] == 1:
        return np.repeat(samples, channels, 0)
    raise InputError(
        f"{name}: has {samples.shape[0]} channels; only 1 to n, n to 1 or none can be converted, not {channels}"
    )


def resample(samples: Samples, source: int, target: int) -> Samples:
    """soxr HQ over the last axis: ceil(T * target / source) samples, no delay."""
    if source == target:
        return samples
    _refuse_ratio(source, target)
    frames = math.ceil(samples.shape[-1] * target / source)
    # A copy, since soxr takes the transposed strides of a single sample for another layout.
    out = np.asarray(soxr.resample(samples.T.copy(), source, target, "HQ").T, np.float32)[..., :frames]
    return np.pad(out, [(0, 0)] * (out.ndim - 1) + [(0, frames - out.shape[-1])])


def _refuse_ratio(source: int, target: int) -> None:
    """A header may claim any rate, and a second of 1 Hz would fill the memory at 1 GHz."""
    if target < 1 or not 1 / 512 <= source / target <= 512:
        raise InputError(f"audio at {source} Hz cannot be resampled to {target} Hz")


def _resampled(source: Iterable[Samples], rate: int, target: int, channels: int, frames: int) -> Iterator[Samples]:
    """`resample` block by block, with the state carried."""
    _refuse_ratio(rate, target)
    stream = soxr.ResampleStream(rate, target, channels, "float32", "HQ")
    left = math.ceil(frames * target / rate)
    # Few samples at a time where each becomes many, so that memory stays flat.
    for block in regroup(source, max(1, min(BLOCK, BLOCK * rate // target))):
        out = stream.resample_chunk(block.T.copy()).T[:, :left]
        left -= out.shape[1]
        yield out
    out = stream.resample_chunk(np.zeros((0, channels), np.float32), last=True).T[:, :left]
    yield np.pad(out, ((0, 0), (0, left - out.shape[1])))


# --- writing --------------------------------------------------------------------------------------


class Writer:
    """Writes blocks to a temporary file that takes its name only when the `with` block ends well.

    `frames`, the expected length, lets a WAV beyond 4 GB get a header that can hold it. `bitrate` is for Opus, in
    kbit/s a channel from 6 on. `clipped` counts the samples beyond full scale, which integer and lossy encodings cut
    off.
    """

    def __init__(
        self,
        path: str | Path,
        rate: int,
        channels: int,
        encoding: str | None = None,
        frames: int = 0,
        force: bool = True,
        bitrate: float | None = None,
    ):
        self.path, self.rate, self.channels = Path(path), rate, channels
        container, encodings = FORMATS.get(self.path.suffix.lower(), ("", ()))
        if not container:
            raise InputError(
                f"{path}: cannot write {self.path.suffix or 'a file without extension'}; supported: {supported()}"
            )
        self.encoding = (encoding or encodings[0]).upper()
        if self.encoding not in encodings:
            raise InputError(f"{path}: {container} is written as {', '.join(encodings)}, not as {self.encoding}")
        if self.encoding == "OPUS" and rate not in _OPUS_RATES:
            raise InputError(f"{path}: Opus knows the rates {', '.join(map(str, _OPUS_RATES))}, not {rate}")
        if container == "WAV" and frames * channels * _BYTES[self.encoding] > 0xFFFF0000:
            container = "RF64"
        self.container, self.force, self.more = container, force, {}
        if bitrate is not None:
            if self.encoding != "OPUS" or not 6 <= bitrate <= 256:
                raise InputError(f"{path}: a bitrate is for Opus, from 6 to 256 kbit/s; got {bitrate:g}")
            self.more["compression_level"] = 1 - (bitrate - 6) / 250  # how libsndfile counts it
        self.frames = self.clipped = 0

    def __enter__(self) -> Writer:
        with ExitStack() as stack:
            temporary = stack.enter_context(replacing(self.path, self.force))
            temporary.touch()  # where that fails, Python says why and libsndfile would not
            try:
                self._file = soundfile.SoundFile(
                    _native(temporary), "w", self.rate, self.channels, self.encoding, format=self.container, **self.more
                )
            except (soundfile.SoundFileError, TypeError, ValueError, OverflowError) as error:
                shape = f"{self.channels} channels at {self.rate} Hz"
                cause = reason(error).split(": ", 1)[-1]  # without the name of the temporary file
                raise InputError(f"{self.path}: cannot write {shape} as {self.encoding}: {cause}") from None
            stack.push(self._close)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stack.__exit__(*exception)

    def _close(self, kind: type[BaseException] | None, *_: object) -> None:
        """Closing writes what encoders still hold, and libsndfile keeps quiet about a full disk: read the end again."""
        temporary = Path(os.fsdecode(self._file.name))
        self._file.close()
        if kind is None and self.frames:
            try:
                end = read(temporary, max(0, self.frames - _TAIL))
            except InputError:
                end = None
            if end is None or end.samples.shape[1] != min(self.frames, _TAIL):
                raise InputError(f"{self.path}: cannot be written to its end (is the disk full?)")

    def write(self, samples: Samples) -> None:
        """(C, T) or (T,) float samples; NaN is refused."""
        samples = np.atleast_2d(np.asarray(samples, np.float32))
        if samples.shape[0] != self.channels:
            raise ValueError(f"{self.path}: {self.channels} channels expected, got {samples.shape[0]}")
        if not np.isfinite(samples).all():
            raise InputError(f"{self.path}: the result holds NaN or infinity; nothing was written")
        if self.encoding != "FLOAT":
            self.clipped += int((np.abs(samples) > 1).sum())
        try:
            for at in range(0, samples.shape[1], BLOCK):
                self._file.write(self._encoded(samples[:, at : at + BLOCK].T))
        except (soundfile.SoundFileError, AssertionError) as error:  # a short write, as on a full disk, asserts
            raise InputError(f"{self.path}: cannot be written: {reason(error)} (is the disk full?)") from None
        self.frames += samples.shape[1]

    def _encoded(self, block: Samples) -> np.ndarray:
        """Integers rounded by us: libsndfile cuts instead, so that reading and writing 16 bits would change them."""
        if self.encoding == "PCM_16":
            return to_int16(block)
        if self.encoding == "PCM_24":  # the upper 24 of 32 bits
            return np.clip(np.rint(block * 2.0**23), -(2**23), 2**23 - 1).astype(np.int32) << 8
        return block


def to_int16(samples: Samples) -> np.ndarray:
    """Samples within -1 to 1 as 16 bits: times 32768, rounded, what is beyond cut off."""
    return np.clip(np.rint(samples * np.float32(2**15)), -(2**15), 2**15 - 1).astype(np.int16)


def write(
    path: str | Path,
    samples: Samples,
    rate: int,
    encoding: str | None = None,
    force: bool = True,
    bitrate: float | None = None,
) -> None:
    """A whole array at once; the extension picks the format, `encoding` one of its encodings."""
    samples = np.atleast_2d(samples)
    with Writer(path, rate, samples.shape[0], encoding, samples.shape[1], force, bitrate) as writer:
        writer.write(samples)
