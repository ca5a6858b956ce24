"""Audio files -> training samples and clips to evaluate on."""

from __future__ import annotations

from pathlib import Path

from audio_core.data.augment import Chain, Gain, Peak
from audio_core.data.combine import Mixture
from audio_core.data.corpus import divided, listed
from audio_core.data.manifest import File
from audio_core.data.seeds import mix
from audio_core.data.segments import Fixed, Segments

from .recipe import Data


def corpora(data: Data, cache: Path, quiet: bool = False) -> list[tuple[list[File], list[File]]]:
    """Of each root the files to train on and the files held out; `cache` remembers the headers of folders."""
    return [divided(listed(root, cache, quiet), data.held_out) for root in (data.root, *data.more)]


def samples(data: Data, trained: list[list[File]], rate: int, seed: int) -> Mixture:
    augment = Chain(Peak(data.peak), *([Gain(*data.gain_db)] if data.gain_db != (0.0, 0.0) else []))
    return Mixture(
        [
            Segments(items, seconds=data.seconds, rate=rate, channels=1, seed=mix(seed, at), augment=augment)
            for at, items in enumerate(trained)
        ]
    )


def clips(data: Data, held: list[File], rate: int) -> Fixed:
    """One clip (1, T) from the middle of each file held out, as loud as in training."""
    return Fixed(held, seconds=data.seconds, rate=rate, channels=1, take="centre", augment=Peak(data.peak))
