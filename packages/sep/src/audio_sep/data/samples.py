"""Training samples and validation items: the audio of each source, whose sum is the mixture."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from audio_core.audio import Samples, convert_channels
from audio_core.data.seeds import mix
from audio_core.data.segments import cut, tensor
from torch import Tensor

from ..recipe import Augment, Data
from . import legacy
from .augment import Draws, augmented, longer
from .corpus import Corpus, Stem, same_songs
from .places import Extent, Places, Windows

SILENT = 1e-10  # power below which audio has no level: -100 dB


class Mixtures:
    """Endless {source: (C, T)}. A sample is a function of (seed, index), its augmentations too."""

    def __init__(self, data: Data, corpus: Corpus, rate: int, channels: int, seed: int):
        self.data, self.corpus, self.rate, self.channels, self.seed = data, corpus, rate, channels, seed
        self.samples = round(data.seconds * rate)
        self.steps = {source: data.augment.get(source, Augment()) for source in data.inputs}
        self.places = dict(zip(data.inputs, self._places(), strict=True))

    def _places(self) -> list[Places]:
        data, count = self.data, len(self.data.inputs)
        extents = [[Extent(stem.frames, stem.rate) for stem in self.corpus[source]] for source in data.inputs]
        if not data.remix:  # songs as long as their longest stem
            songs = [Extent(max(stem.frames for stem in song), song[0].rate) for song in zip(*extents, strict=True)]
            extents = [songs] * count
        seconds = [longer(self.samples, steps) / self.rate for steps in self.steps.values()]
        mixes = [steps.mix for steps in self.steps.values()]
        if data.sampling == "bytesep":
            per_source = zip(extents, mixes, legacy.seeds(count, data.remix, self.seed), strict=True)
            return [legacy.IndexedWindows(extent, data.seconds, mix, seed) for extent, mix, seed in per_source]
        seeds = [mix(self.seed, at if data.remix else 0) for at in range(count)]
        return [Windows(*settings) for settings in zip(extents, seconds, mixes, seeds, strict=True)]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {source: tensor(self.source(source, index)) for source in self.data.inputs}

    def source(self, source: str, index: int) -> Samples:
        """(C, T) of one source: the sum of its segments."""
        rng = np.random.default_rng((self.seed, index, self.data.inputs.index(source)))
        stems = self.corpus[source]
        segments = [(stems[recording], start) for recording, start in self.places[source](index)]
        return summed(segments, self.steps[source], self.samples, self.rate, self.channels, rng)

    def name(self, index: int) -> str:
        places = [(self.corpus[source], place) for source in self.data.inputs for place in self.places[source](index)]
        return " with ".join(
            f"{stems[recording].name} at {start / stems[recording].rate:.2f} s" for stems, (recording, start) in places
        )


def summed(
    segments: Sequence[tuple[Stem, int]], steps: Augment, samples: int, rate: int, channels: int, rng: Draws
) -> Samples:
    """(channels, samples) of segments from these starts, each augmented for itself, added up."""
    total = np.zeros((channels, samples), np.float32)
    for stem, start in segments:
        if start < stem.frames:  # else the silence behind a stem that is shorter than its song
            segment = augmented(cut(stem, start, longer(samples, steps), rate, stem.channels), steps, rng)
            total += convert_channels(segment[:, :samples], channels, stem.name)
    return total


class Held:
    """Validation items {source: (C, T)}, always the same: songs, or mixtures of recordings that belong to no song.

    These have as many items as the first source of the model has recordings, at the levels of `valid_db` in turn.
    """

    def __init__(self, data: Data, corpus: Corpus, rate: int, channels: int, first: str):
        self.data, self.corpus, self.rate, self.channels, self.first = data, corpus, rate, channels, first
        self.songs = same_songs(corpus)

    def __len__(self) -> int:
        return len(self.corpus[self.first])

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        if not 0 <= index < len(self):
            raise IndexError(f"item {index} of {len(self)}")
        stems = {source: recordings[index % len(recordings)] for source, recordings in self.corpus.items()}
        lengths = [stem.frames / stem.rate for stem in stems.values()] if self.songs else [self._seconds(index)]
        seconds = min(max(lengths), self.data.valid_seconds or math.inf)
        audio = {source: self._middle(stem, seconds, max(lengths)) for source, stem in stems.items()}
        if not self.songs:
            audio[self.first] = self._levelled(audio, index)
        return {source: tensor(samples) for source, samples in audio.items()}

    def _seconds(self, index: int) -> float:
        stem = self.corpus[self.first][index]
        return stem.frames / stem.rate

    def _middle(self, stem: Stem, seconds: float, whole: float) -> Samples:
        """(C, T): of a song the same middle of all stems; of other recordings their own, repeated where they end."""
        samples = max(1, round(seconds * self.rate))
        if self.songs:
            start = int((whole - seconds) / 2 * stem.rate)
            if start >= stem.frames:
                return np.zeros((self.channels, samples), np.float32)
            return cut(stem, start, samples, self.rate, self.channels)
        length = stem.frames / stem.rate
        start = int(max(0.0, length - seconds) / 2 * stem.rate)
        most = max(1, int(length * self.rate))
        piece = cut(stem, start, min(samples, most), self.rate, self.channels)
        return np.pad(piece, ((0, 0), (0, samples - piece.shape[1])), mode="wrap")

    def _levelled(self, audio: dict[str, Samples], index: int) -> Samples:
        """The first source at its level over the sum of the others."""
        level = self.data.valid_db[index % len(self.data.valid_db)]
        first = audio[self.first]
        others = [samples for source, samples in audio.items() if source != self.first]
        first_power, others_power = power(first), power(np.sum(others, 0))
        if min(first_power, others_power) <= SILENT:
            return first
        return first * np.float32(math.sqrt(others_power / first_power * 10 ** (level / 10)))

    def name(self, index: int) -> str:
        return self.corpus[self.first][index].name


def power(samples: Samples) -> float:
    return float(np.mean(np.square(samples, dtype=np.float64)))
