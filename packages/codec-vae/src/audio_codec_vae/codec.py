"""Audio files to files of latents and back, piece by piece; and both at once, to hear what an autoencoder keeps.

A file ends in .latents and has the format of `audio_core.latents`. What `preencode` writes is decoded as well.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from audio_core import audio, batch
from audio_core import latents as stored
from audio_core.batch import Found, Job
from audio_core.data.manifest import find_audio
from audio_core.data.seeds import mix
from audio_core.files import InputError, note
from torch import Generator

from . import items
from .models.autoencoder import Autoencoder

ENDING = ".latents"


def generator(seed: int | None, *place: str | int) -> Generator | None:
    """Draws the latents of a recording at `place`, each with noise of its own; without a seed nothing is drawn."""
    if seed is None:
        return None
    numbers = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in place]
    return Generator().manual_seed(mix(seed, *numbers))


def encode_file(
    model: Autoencoder,
    source: str | Path,
    target: str | Path,
    codes: bool = False,
    seed: int | None = None,
    force: bool = False,
    quiet: bool = False,
) -> None:
    """An audio file of any rate and number of channels as a file of latents, or with `codes` of codes.

    Latents are means, or with a `seed` drawn from their distributions.
    """
    stored.save(target, _encoded(model, source, codes, seed, quiet), force=force)


def decode_file(model: Autoencoder, source: str | Path, target: str | Path, force: bool = False) -> None:
    """The audio of a file of latents, at the autoencoder's rate and of the length that was encoded."""
    stored.decode_file(model, items.read(source, model), target, force=force)


def reconstruct_file(
    model: Autoencoder,
    source: str | Path,
    target: str | Path,
    seed: int | None = None,
    force: bool = False,
    quiet: bool = False,
) -> None:
    """What comes back of an audio file, at the autoencoder's rate."""
    stored.decode_file(model, _encoded(model, source, False, seed, quiet), target, force=force)


def _encoded(model: Autoencoder, source: str | Path, codes: bool, seed: int | None, quiet: bool) -> stored.Latents:
    announced(model, source, quiet)
    return stored.encode_file(model, source, codes, generator=generator(seed, Path(source).name))


def announced(model: Autoencoder, source: str | Path, quiet: bool = False) -> audio.Info:
    """The header of an audio file; a remark on standard error says how it will be converted."""
    header, channels = audio.info(source), model.channels
    changes = [f"resampled from {header.rate} to {model.sample_rate} Hz"] if header.rate != model.sample_rate else []
    if header.channels != channels:
        count = "its channel copied to all" if header.channels == 1 else f"{header.channels} channels mixed to one"
        changes.append(audio.mixing(header.channels, channels) or count)
    if changes and not quiet:
        note(f"{source}: {' and '.join(changes)}")
    return header


# --- many files --------------------------------------------------------------------------------------------


def find_latents(inputs: Sequence[str]) -> list[Found]:
    """Files of latents, or of a folder those of the first kind that it holds: .latents, .safetensors, .npy."""
    files: list[Found] = []
    for name in inputs:
        kinds = (ENDING, *items.ENDINGS) if Path(name).is_dir() else ()
        files += batch.find(name, next((each for each in kinds if find_audio(name, each)), ENDING))
    return files


def jobs(sources: Sequence[Found], out: Path | None, ending: str, force: bool = False) -> list[Job]:
    """Where results go: beside the sources without `out`. Names end in `ending`; for ".wav" in any audio format."""
    if out is not None and not out.is_dir():
        wrong = {ENDING, *items.ENDINGS} if ending == ".wav" else {*audio.FORMATS, *audio.FOREIGN}
        if out.suffix.lower() in wrong:
            raise InputError(f"{out}: the name must end in {ending}, or be a folder's")
    results = batch.targets(sources, out, ending)
    if len(results) == 1 and results[0].target.exists() and not force and out in (None, results[0].target):
        raise InputError(f"{results[0].target}: exists already; give --force to overwrite it")
    return results


def stale_latents(model: Autoencoder, codes: bool) -> Callable[[Path], str]:
    """For `batch.run`: what a file of latents that is there holds in place of what is asked for."""

    def stale(path: Path) -> str:
        latents = stored.load(path, model.fingerprint())
        kinds = ("latents", "codes")
        return "" if latents.is_codes == codes else f"holds {kinds[latents.is_codes]}, not {kinds[codes]}"

    return stale
