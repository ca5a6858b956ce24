"""From a file to the files of its stems: read and written as it goes, so that memory does not grow with the length.

All stems of a recording appear together, when the last of them is complete.
"""

from __future__ import annotations

import string
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from audio_core import audio
from audio_core.audio import Samples, to_int16
from audio_core.batch import Found, Job, clashes
from audio_core.files import InputError
from tqdm import tqdm

from .separate import Separator

# What users choose -> extension and encoding; None: as deep as the source.
FORMATS: dict[str, tuple[str, str | None]] = {
    "wav16": (".wav", "PCM_16"),
    "wav24": (".wav", "PCM_24"),
    "float32": (".wav", "FLOAT"),
    "flac": (".flac", None),
    "mp3": (".mp3", None),
    "ogg": (".ogg", None),
}
FILENAME = "{track}/{stem}.{ext}"
Clip = Literal["clamp", "rescale"]
_TOP = 1 - 2.0**-15  # the largest sample of 16 bits

Estimates = Iterator[tuple[Samples, np.ndarray]]  # blocks (C, n) of a recording, and of its stems (S, C, n)


def jobs(inputs: Sequence[Found], out: Path, stems: Sequence[str], format: str, filename: str = FILENAME) -> list[Job]:
    """Where the stems of each file go. `filename` is a path below `out` with {track}, {stem} and {ext}."""
    extension = FORMATS[format][0]
    try:
        fields = {name for _, name, _, _ in string.Formatter().parse(filename) if name is not None}
    except ValueError as error:
        raise InputError(f"filename: {error}, in {filename}") from None
    unknown = sorted(fields - {"track", "stem", "ext"})
    if unknown or "stem" not in fields:
        what = f"{{{unknown[0]}}} is unknown" if unknown else "{stem} is missing, so that all stems had one name"
        raise InputError(f"filename: {what}; an example is {FILENAME}")
    if Path(filename).is_absolute() or ".." in Path(filename).parts:
        raise InputError(f"filename: {filename} leads out of the folder for results")

    def path(track: Path, stem: str) -> Path:
        return out / filename.format(track=track.with_suffix("").as_posix(), stem=stem, ext=extension[1:])

    return [Job(file, {stem: path(relative, stem) for stem in stems}) for file, relative in inputs]


def separate_file(
    separator: Separator,
    source: str | Path,
    targets: Mapping[str, str | Path],
    encoding: str | None = None,
    clip: Clip = "clamp",
    force: bool = False,
    quiet: bool = False,
) -> str:
    """Write the stems that `targets` names to these files, with the rate, channels and length of the source.

    `encoding` is one of the files' format, by default as deep as the source. The residual is what the other stems lack
    as they are written, so that in formats without loss all of them add up to the recording within one step.
    `clip` says what happens beyond full scale in formats without room for it: `clamp` cuts it off, `rescale` makes all
    stems softer alike, which needs a temporary file for all of them. Returns a remark on what got lost.
    """
    source, paths = Path(source), {name: Path(path) for name, path in targets.items()}
    unknown = [name for name in paths if name not in separator.names]
    if unknown or not paths:
        raise ValueError(f"targets: expected some of {', '.join(separator.names)}, got {', '.join(paths) or 'none'}")
    if refused := clashes([Job(source, paths)]):
        raise InputError(refused[0])
    header = audio.info(source)
    chosen = {name: _encoding(path, encoding, header) for name, path in paths.items()}
    remarks = []
    with ExitStack() as stack:
        bar = stack.enter_context(
            tqdm(total=round(header.seconds), desc=source.name, unit="s", leave=False, disable=quiet or None)
        )
        estimates = _shown(separator.estimates(audio.blocks(source), header.rate), header.rate, bar)
        if clip == "rescale":
            gain, estimates = stack.enter_context(_rescaled(estimates, header, separator))
            if gain < 1:
                remarks.append(f"all stems are {-20 * np.log10(gain):.1f} dB softer, so that nothing clips")
        writers = {
            name: stack.enter_context(
                audio.Writer(path, header.rate, header.channels, chosen[name], header.frames, force)
            )
            for name, path in paths.items()
        }
        for mixture, stems in estimates:
            for name, block in zip(separator.stems, stems, strict=True):
                if name in writers:
                    writers[name].write(block)
            if separator.residual in writers:
                kind = writers[separator.residual].encoding
                written = sum(held(block, kind).astype(np.float64) for block in stems)
                writers[separator.residual].write((mixture - written).astype(np.float32))
        for writer in writers.values():  # a full disk shows here, before the first file takes its name
            writer.close()
    if clipped := sum(writer.clipped for writer in writers.values()):
        remarks.append(f"{clipped} samples were beyond full scale and cut off; see --clip rescale and --format float32")
    return "; ".join(remarks)


def held(samples: Samples, encoding: str) -> Samples:
    """The samples as a file without loss holds them."""
    if encoding == "PCM_16":
        return to_int16(samples) / np.float32(2**15)
    if encoding == "PCM_24":
        return np.clip(np.rint(samples * 2.0**23), -(2.0**23), 2.0**23 - 1) / np.float32(2**23)
    return samples


def _encoding(path: Path, encoding: str | None, header: audio.Info) -> str | None:
    if encoding is not None or path.suffix.lower() not in audio.FORMATS:  # which the writer explains
        return encoding
    return audio.encoding_like(header.encoding, path.suffix)[0]


def _shown(estimates: Estimates, rate: int, bar: tqdm) -> Estimates:
    frames = 0
    for mixture, stems in estimates:
        yield mixture, stems
        frames += mixture.shape[1]
        bar.update(frames // rate - bar.n)


@contextmanager
def _rescaled(estimates: Estimates, header: audio.Info, separator: Separator) -> Iterator[tuple[float, Estimates]]:
    """The gain with which nothing is beyond full scale, and the estimates with it; meanwhile they are in a file."""
    channels, peak = header.channels, 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "estimates.w64"
        count = 1 + len(separator.stems)
        with audio.Writer(path, header.rate, count * channels, "FLOAT", header.frames) as writer:
            for mixture, stems in estimates:
                residual = mixture - stems.sum(0) if separator.residual else mixture[:, :0]
                peak = max(peak, np.abs(stems).max(), np.abs(residual).max(initial=0))
                writer.write(np.concatenate([mixture, stems.reshape(-1, mixture.shape[1])]))
        gain = np.float32(min(1.0, _TOP / max(peak, _TOP)))
        blocks = (gain * block.reshape(count, channels, -1) for block in audio.blocks(path))
        yield float(gain), ((block[0], block[1:]) for block in blocks)
