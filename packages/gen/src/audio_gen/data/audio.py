"""Audio of any length, rate and channels as samples of one size."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from audio_core import audio
from audio_core.data.manifest import Item
from audio_core.data.segments import cut, tensor
from audio_core.files import InputError

from . import Model, Sample
from .facts import REJECT, cropped, facts_of
from .metadata import Table
from .places import AtPlace
from .turns import Turns


@dataclass(frozen=True)
class Recording(AtPlace):
    item: Item
    facts: Mapping[str, Any]
    """Of its row in a manifest."""

    @property
    def seconds(self) -> float:
        return self.item.frames / self.item.rate


@dataclass(frozen=True)
class FirstChannels:
    """An item without those channels for which the model has none."""

    item: Item
    channels: int

    @property
    def name(self) -> str:
        return self.item.name

    @property
    def rate(self) -> int:
        return self.item.rate

    @property
    def frames(self) -> int:
        return self.item.frames

    def read(self, start: int, frames: int) -> audio.Samples:
        return self.item.read(start, frames)[: self.channels]


def usable(channels: int, table: Table | None) -> Callable[[Recording], Recording | None]:
    """What makes of a recording one with channels that fit, or None where its facts reject it."""

    def checked(recording: Recording) -> Recording | None:
        place, item = recording.place, recording.item
        if facts_of(place, recording.facts, table).get(REJECT) is True:
            return None
        if not audio.convertible(item.channels, channels):
            if item.channels < channels:
                raise InputError(f"{place}: has {item.channels} channels, which cannot become {channels}")
            return replace(recording, item=FirstChannels(item, channels))
        return recording

    return checked


class AudioItems(Turns[Recording]):
    """Samples at the model's rate and channels; shorter recordings are followed by silence that is not real."""

    def __init__(
        self,
        items: Sequence[Recording],
        model: Model,
        table: Table | None = None,
        seed: int = 0,
        random_crop: bool = True,
        flip: bool = True,
        quiet_db: float = -60.0,
        once: bool = False,
    ):
        super().__init__(items, seed, once)
        self.model, self.table = model, table
        self.random_crop, self.flip, self.least = random_crop and not once, flip and not once, quiet_db

    def take(self, item: Recording, index: int, rng: np.random.Generator) -> tuple[float, Sample]:
        model, source = self.model, item.item
        size = model.frames * model.hop
        latest = source.frames - math.ceil(size * source.rate / model.rate)
        start = int(rng.integers(latest + 1)) if self.random_crop and latest > 0 else 0
        facts = facts_of(item.place, item.facts, self.table)
        samples, real, facts = crop(item, start, size, model.rate, model.channels, facts)
        peak = float(np.abs(samples).max())
        if self.flip and rng.random() < 0.5:
            samples = -samples
        frames = torch.arange(model.frames) < math.ceil(real / model.hop)
        level = 20 * math.log10(max(peak, 1e-10))
        return level, Sample(index, tensor(np.clip(samples, -1, 1)), frames, facts)


def crop(
    recording: Recording, start: int, size: int, rate: int, channels: int, facts: Mapping[str, Any]
) -> tuple[audio.Samples, int, dict[str, Any]]:
    """(channels, size) at `rate` from sample `start` of the recording on, how many of them are real, and the facts."""
    item = recording.item
    samples = cut(item, start, size, rate, channels)
    real = min(size, math.ceil((item.frames - start) * rate / item.rate))
    place = {"path": str(recording.place), "relpath": recording.place.name, "sample_rate": rate}
    return samples, real, cropped({**facts, **place}, item.rate, item.frames, start, size * item.rate / rate)
