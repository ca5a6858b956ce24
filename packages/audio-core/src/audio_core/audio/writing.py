"""Writing audio files, whole or block by block; a file takes its name only when it is complete."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from ..files import InputError, reason, replacing
from . import arrays
from .arrays import Samples, to_int16
from .formats import BLOCK, FORMATS, OGG_ORDER, supported
from .reading import native, read

_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
_TAIL = 4096  # samples at the end of a written file that are read again
_BYTES = {"PCM_16": 2, "PCM_24": 3, "FLOAT": 4}


class Writer:
    """Writes blocks to a temporary file that takes its name only when the `with` block ends well.

    Channels are given in the order of WAV, for Ogg files too.
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
                    native(temporary), "w", self.rate, self.channels, self.encoding, format=self.container, **self.more
                )
            except (soundfile.SoundFileError, TypeError, ValueError, OverflowError) as error:
                _try_disk(temporary)
                shape = f"{self.channels} channels at {self.rate} Hz"
                cause = reason(error).split(": ", 1)[-1]  # without the name of the temporary file
                raise InputError(f"{self.path}: cannot write {shape} as {self.encoding}: {cause}") from None
            stack.push(self._close)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stack.__exit__(*exception)

    def close(self) -> None:
        """Write what encoders still hold; the file takes its name only when the `with` block ends.

        libsndfile says nothing of a full disk, so the end is read again.
        """
        if self._file.closed:
            return
        temporary = Path(os.fsdecode(self._file.name))
        self._file.close()
        if self.frames:
            try:
                end = read(temporary, max(0, self.frames - _TAIL))
            except InputError:
                end = None
            if end is None or end.samples.shape[1] != min(self.frames, _TAIL):
                _try_disk(temporary)
                raise InputError(f"{self.path}: cannot be written to its end")

    def _close(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        self._file.close()

    def write(self, samples: Samples) -> None:
        """A block (C, T) or (T,) of floating-point samples; T may be 0."""
        samples = arrays.shaped(samples, str(self.path), self.channels)
        if not np.isfinite(samples).all():
            raise InputError(f"{self.path}: the result holds NaN or infinity; nothing was written")
        if self.encoding != "FLOAT":
            self.clipped += int((np.abs(samples) > 1).sum())
        try:
            for at in range(0, samples.shape[1], BLOCK):
                self._file.write(self._encoded(samples[:, at : at + BLOCK].T))
        except (soundfile.SoundFileError, AssertionError) as error:  # a short write, as on a full disk, asserts
            _try_disk(Path(os.fsdecode(self._file.name)))
            raise InputError(f"{self.path}: cannot be written: {reason(error)}") from None
        self.frames += samples.shape[1]

    def _encoded(self, block: Samples) -> np.ndarray:
        """Integers rounded by us: libsndfile cuts instead, so that reading and writing 16 bits would change them."""
        if self.container == "OGG" and self.channels in OGG_ORDER:
            block = block[:, np.argsort(OGG_ORDER[self.channels])]
        if self.encoding == "PCM_16":
            return to_int16(block)
        if self.encoding == "PCM_24":  # the upper 24 of 32 bits
            return np.clip(np.rint(block * 2.0**23), -(2**23), 2**23 - 1).astype(np.int32) << 8
        return block


def _try_disk(file: Path) -> None:
    """After a failed write: the system's own error where the disk takes no more, which libsndfile does not pass on."""
    with file.open("ab") as end:
        end.write(bytes(1 << 20))


def write(
    path: str | Path,
    samples: Samples,
    rate: int,
    encoding: str | None = None,
    force: bool = True,
    bitrate: float | None = None,
) -> None:
    """A whole array at once; the extension picks the format, `encoding` one of its encodings."""
    samples = arrays.samples(samples, str(path))
    with Writer(path, rate, samples.shape[0], encoding, samples.shape[1], force, bitrate) as writer:
        writer.write(samples)
