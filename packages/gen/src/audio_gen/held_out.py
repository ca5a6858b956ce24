"""Real items against which a model is measured: what each is, and which of them are held out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from audio_core.files import InputError, note
from audio_core.latents import Latents
from torch import Tensor

from .conditioners.base import device_of
from .config import AudioConfig, DiffusionConfig, LMConfig
from .data.latents import File, find
from .data.metadata import Table
from .measures import features
from .models.diffusion import Diffusion
from .models.lm import LM


class Item(NamedTuple):
    file: File
    values: Tensor  # latents (W, F) as the codec has them, or codes (K, F); as long as the model's at most
    samples: int
    facts: dict[str, Any]
    label: str
    """What its texts say."""


class Reader:
    """Reads real items for a model."""

    def __init__(self, model: Diffusion | LM, table: Table | None):
        self.model, self.table = model, table
        try:
            self.codec = model.load_codec(device_of(model))
        except InputError as error:
            note(f"{error}; there will be nothing to hear")
            self.codec = None

    def __call__(self, file: File) -> Item:
        item, config = file.load(), self.model.config
        _expect(config, item, file.name)
        facts = {"seconds_start": 0, "seconds_total": math.ceil(item.samples / item.rate), **item.facts}
        facts |= {"relpath": file.name, **(self.table.of(file.name) if self.table else {})}
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


def _expect(config: AudioConfig, item: Latents, name: str) -> None:
    """Refuse what is not of the model's codec."""
    for attribute in ("rate", "hop"):
        if (found := getattr(item, attribute)) != (wanted := getattr(config, attribute)):
            raise InputError(f"{name}: has a {attribute} of {found}, and the model {wanted}")
    codec = config.codec
    if codec and codec.fingerprint and item.fingerprint and item.fingerprint.hex() != codec.fingerprint:
        raise InputError(f"{name}: is of codec {item.fingerprint.hex()}, and the model of {codec.fingerprint}")
    kind, rows = ("codes" if item.is_codes else "latents"), len(item.values)
    if isinstance(config, LMConfig):
        if not item.is_codes or rows < config.lm.codebooks:
            raise InputError(f"{name}: holds {rows} rows of {kind}, and the model needs {config.lm.codebooks} of codes")
        return
    width = cast(DiffusionConfig, config).width
    if item.is_codes or rows != width:
        raise InputError(f"{name}: holds {rows} rows of {kind}, and the model needs {width} of latents")


def _label(config: AudioConfig, facts: dict[str, Any]) -> str:
    conditioning = config.conditioning
    values = (facts.get(key, facts.get(conditioning.default_keys.get(key, ""))) for key in conditioning.conditioners)
    return ", ".join(value for value in values if isinstance(value, str))


def spread(root: Path, most: int) -> list[File]:
    """At most so many of the files of a folder, evenly over them."""
    files = find(root)
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
