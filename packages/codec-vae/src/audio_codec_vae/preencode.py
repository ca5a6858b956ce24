"""A folder of recordings as latents, made once for the training of models on them.

A recording becomes one item, or items of equal length; `items` has the layouts of their files:

safetensors  <name>.safetensors, or <name>-0000.safetensors ... of equal lengths, below the recordings' own folders
npy          0/000<recording: 6 digits><item: 4 digits>.npy, named as stable-audio-tools' single process does

`details.json` in the root holds the settings. Items that are there are not made again, and no result depends on the
number of processes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from audio_core import audio, batch
from audio_core import latents as stored
from audio_core.batch import Found, Job, Summary
from audio_core.files import InputError, read_json
from audio_core.latents import Latents

from . import items
from .codec import generator
from .models.autoencoder import Autoencoder


@dataclass(frozen=True)
class Settings:
    seconds: float | None = None
    """The length of all items: a longer recording becomes several, and silence fills the last. None: as recorded."""
    mask_padding: bool = False
    """Tell the frames of recordings from those of silence that fills an item; the npy layout always does."""
    seed: int | None = None
    """Draw latents from their distributions. None: take their means."""
    codes: bool = False
    half: bool = False
    """Store latents as float16."""
    npy: bool = False
    """stable-audio-tools' layout."""

    def __post_init__(self) -> None:
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise InputError(f"seconds: expected a length above 0, got {self.seconds}")
        if self.mask_padding and self.seconds is None:
            raise InputError("mask_padding: items as long as their recordings have no padding; give seconds too")
        if self.codes and (self.half or self.seed is not None):
            raise InputError("codes: are whole numbers, which are neither halved nor drawn")


def preencode(
    model: Autoencoder,
    inputs: str | Path | Sequence[str | Path],
    out: str | Path,
    settings: Settings | None = None,
    force: bool = False,
    quiet: bool = False,
) -> Summary:
    """Encode recordings into the folder `out`. Under torchrun every process takes its share of them."""
    encoder = _Encoder(model, settings or Settings())
    sources, out = batch.find(inputs), Path(out)
    jobs = [encoder.job(number, source, out) for number, source in enumerate(sources)]
    names = {source.file: source.relative.as_posix() for source in sources}
    owners = {path: names[job.source] for job in jobs for path in job.paths}

    def work(source: Path, targets: Mapping[int, Path]) -> None:
        encoder.encode(source, names[source], targets)

    def stale(path: Path) -> str:
        recording = items.read_facts(path).get("relpath", "an unknown recording")
        return "" if recording == owners[path] else f"is of {recording}, not of {owners[path]}"

    _claim(out, encoder.details(), force)
    return batch.run(jobs, work, force, quiet, stale)


def _claim(out: Path, details: Mapping[str, Any], force: bool) -> None:
    """Write the settings, which latents that are there must share. All processes would write the same."""
    path = out / items.DETAILS
    if path.exists() and not force and (written := read_json(path)) != details:
        names = [name for name in details if not isinstance(written, dict) or written.get(name) != details[name]]
        others = f"{out}: holds latents of other settings ({', '.join(names) or 'more of them'})"
        raise InputError(f"{others}; give another folder, or --force to make all again")
    if force or not path.exists():
        items.write_json(path, details)


class _Encoder:
    def __init__(self, model: Autoencoder, settings: Settings):
        if settings.codes and not model.codebooks:
            raise InputError("codes: this autoencoder has continuous latents and no codes")
        self.model, self.settings = model, settings
        self.size: int | None = None
        """Samples of an item: whole frames."""
        if settings.seconds is not None:
            self.size = math.ceil(round(settings.seconds * model.sample_rate, 6) / model.hop) * model.hop

    def details(self) -> dict[str, Any]:
        model = self.model
        return {
            "model": model.fingerprint().hex(),
            "sample_rate": model.sample_rate,
            "audio_channels": model.channels,
            "latent_dim": model.width,
            "downsampling_ratio": model.hop,
            "codebooks": list(model.codebooks),
            "precision": "bf16" if model.precision == torch.bfloat16 else "float32",
            "sample_size": self.size,
            **dataclasses.asdict(self.settings),
        }

    def job(self, number: int, source: Found, out: Path) -> Job:
        """The items of a recording by number; of one that cannot be read the first, whose encoding tells why."""
        try:
            count = 1 if self.size is None else max(1, -(-self._length(source.file) // self.size))
        except InputError:
            count = 1
        if self.settings.npy:
            return Job(source.file, {at: out / "0" / f"000{number:06d}{at:04d}.npy" for at in range(count)})
        numbers = [""] if self.size is None else [f"-{at:04d}" for at in range(count)]
        stem = source.relative.with_suffix("")
        names = [stem.with_name(f"{stem.name}{text}.safetensors") for text in numbers]
        return Job(source.file, {at: out / name for at, name in enumerate(names)})

    def _length(self, source: Path) -> int:
        """Samples of a recording at the autoencoder's rate."""
        header = audio.info(source)
        return math.ceil(header.frames * self.model.sample_rate / header.rate)

    def encode(self, source: Path, name: str, targets: Mapping[int, Path]) -> None:
        """Write the items in `targets` of the recording that the facts call `name`."""
        header, total = audio.info(source), self._length(source)
        settings, size = self.settings, self.size or total
        for number, item in self._encoded(source, name, set(targets)):
            start, longest = number * size, max(total, size)
            facts = {
                "relpath": name,
                "source_rate": header.rate,
                "source_channels": header.channels,
                "sample_rate": item.rate,
                "samples": item.samples,
                "seconds_start": start // item.rate,
                "seconds_total": -(-total // item.rate),
                "timestamps": [start / longest, min(1.0, (start + size) / longest)],
            }
            facts |= {"path": str(source.absolute())} if settings.npy else {}
            mask = settings.mask_padding or settings.npy
            items.save(targets[number], dataclasses.replace(item, facts=facts), settings.half, mask)

    def _encoded(self, source: Path, name: str, wanted: set[int]) -> Iterator[tuple[int, Latents]]:
        """The wanted items of a recording, without facts. Memory holds one of them, or a piece of a whole."""
        model, codes = self.model, self.settings.codes
        draw = partial(generator, self.settings.seed, name)
        if self.size is None:
            yield 0, stored.encode_file(model, source, codes, generator=draw(0))
            return
        for number, block in enumerate(audio.blocks(source, self.size, model.sample_rate, model.channels)):
            if number in wanted:
                filled = np.pad(block, ((0, 0), (0, self.size - block.shape[1])))
                item = stored.encode(model, filled, model.sample_rate, codes, generator=draw(number))
                yield number, dataclasses.replace(item, samples=block.shape[1])
