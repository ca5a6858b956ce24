"""Real items against which a model is measured: what each is, and which of them are held out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from audio_core.files import InputError, note
from torch import Tensor

from .config import AudioConfig, LMConfig
from .data.corpus import Corpus
from .data.latents import Encoded
from .measures import features
from .models.conditioners.base import device_of
from .models.diffusion import Diffusion
from .models.lm import LM


class Item(NamedTuple):
    file: Encoded
    values: Tensor  # latents (W, F) as the codec has them, or codes (K, F); as long as the model's at most
    samples: int
    facts: dict[str, Any]
    label: str
    """What its texts say."""


class Reader:
    """Reads real items for a model."""

    def __init__(self, model: Diffusion | LM, corpus: Corpus):
        self.model, self.corpus = model, corpus
        try:
            self.codec = model.load_codec(device_of(model))
        except InputError as error:
            note(f"{error}; there will be nothing to hear")
            self.codec = None

    def __call__(self, file: Encoded) -> Item:
        config = self.model.config
        item, facts = file.load(self.corpus.table)
        facts = {"seconds_start": 0, "seconds_total": math.ceil(item.samples / item.rate), **facts}
        facts["relpath"] = file.place.name
        samples = min(item.samples, config.samples)
        values = torch.from_numpy(item.values[:, : -(-samples // item.hop)])
        if isinstance(config, LMConfig):
            values = values[: config.lm.codebooks]
        return Item(file, values, samples, facts, _label(config, facts))

    @torch.no_grad()
    def features(self, values: Tensor) -> Tensor | None:
        """None of codes of which nothing makes latents."""
        if isinstance(self.model, LM):
            if self.codec is None:
                return None
            values = self.codec.from_codes(values[None].to(device_of(self.model)))[0]
        return features(values.cpu())


def _label(config: AudioConfig, facts: dict[str, Any]) -> str:
    conditioning = config.conditioning
    values = (facts.get(key, facts.get(conditioning.default_keys.get(key, ""))) for key in conditioning.conditioners)
    return ", ".join(value for value in values if isinstance(value, str))


def spread(corpus: Corpus, most: int) -> list[Encoded]:
    """At most so many of the items, evenly over them."""
    files = corpus.learned[0]
    return [files[at * len(files) // most] for at in range(most)] if len(files) > most else [*files]


def held_out(labels: Sequence[str], most: int, seed: int) -> list[int]:
    """At most so many places, taking turns between the labels, and at most half of those of each label.

    Labels that do not repeat count as one.
    """
    count = Counter(labels)
    order = np.random.default_rng(seed).permutation(len(labels)).tolist()
    groups: dict[str | None, list[int]] = {}
    for at in order:
        label = labels[at] if count[labels[at]] > 1 else None
        groups.setdefault(label, []).append(at)
    halves = [groups[key][: len(groups[key]) // 2] for key in sorted(groups, key=lambda key: (key is None, key or ""))]
    turns = [half[turn] for turn in range(max(map(len, halves))) for half in halves if turn < len(half)]
    return turns[:most]
