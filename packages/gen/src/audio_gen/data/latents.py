"""Latents or codes of recordings, in either layout: headers, values, and samples for a training.

.safetensors  the format of `audio_core.latents`, complete in itself
.npy          stable-audio-tools': an array alone, whose .json has `padding_mask`, one 0 or 1 for each frame
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from audio_core import latents as stored
from audio_core.audio import Section
from audio_core.files import InputError, read_json, reason
from audio_core.latents import Header, Latents

from . import Model, Sample
from .facts import REJECT, beside, cropped, described, facts_of
from .metadata import Table
from .places import AtPlace, Place
from .turns import Turns

ENDINGS = (".safetensors", ".npy")
DETAILS = "details.json"
"""In the root of a folder: the settings of all that was encoded into it."""


@dataclass(frozen=True)
class Encoded(AtPlace):
    """An item, of which the header has been read."""

    header: Header

    @property
    def seconds(self) -> float:
        return self.header.samples / self.header.rate

    def load(self, table: Table | None) -> tuple[Latents, dict[str, Any]]:
        """The values, and all facts."""
        part, header = self.place.part(self.path.suffix), self.header
        if part is None:
            raise InputError(f"{self.name}: is no longer there")
        if self.path.suffix.lower() == ".safetensors":
            item = stored.load(part, header.fingerprint)
            return item, facts_of(self.place, item.facts, table)
        try:
            values = np.load(io.BytesIO(part.read_bytes()), allow_pickle=False)
            values = values.astype(np.float32 if values.dtype.kind == "f" else np.int64, casting="same_kind")
            item = Latents(values, header.rate, header.hop, header.samples, header.channels, header.fingerprint)
        except InputError as error:
            raise InputError(f"{self.name}: {error}") from None
        except (OSError, ValueError, EOFError, TypeError) as error:
            raise InputError(f"{self.name}: is cut short or no array of numbers: {reason(error)}") from None
        return item, facts_of(self.place, {}, table)


# --- headers -----------------------------------------------------------------------------------------------


class Headers:
    """Reads headers of items, for a model: what an .npy and the details of its folder do not tell is the model's."""

    def __init__(self, model: Model, table: Table | None):
        self.model, self.table = model, table
        self.details: dict[Path, dict[str, Any]] = {}

    def __call__(self, place: Place) -> Encoded | None:
        """The item, or None where its facts reject it."""
        part = place.part(place.path.suffix)
        if part is None:
            raise InputError(f"{place}: is no longer there")
        if place.path.suffix.lower() == ".npy":
            facts = beside(place, {})
            header = self._of_array(place, part, facts)
        else:
            header = stored.look(part)
            facts = beside(place, header.facts)
        if described(place, facts, self.table).get(REJECT) is True:
            return None
        return Encoded(place, header._replace(facts={}))

    def _of_array(self, place: Place, part: Path | Section, facts: dict[str, Any]) -> Header:
        try:
            with part.open("rb") as file:
                shape, dtype = _array_header(file, part.stat().st_size)
        except (OSError, ValueError, EOFError, TypeError) as error:
            raise InputError(f"{place}: is cut short or no array of numbers: {reason(error)}") from None
        if len(shape) != 2:
            raise InputError(f"{place}: expected latents (width, F) or codes (K, F), got {dtype} {shape}")
        model = self.model
        sizes = {"rate": model.rate, "hop": model.hop, "channels": model.channels, **self._known(place)}
        mask = facts.get("padding_mask", [1] * shape[1])
        ones = mask.count(1) if isinstance(mask, list) else 0
        if not ones or ones + mask.count(0) != len(mask):
            raise InputError(f"{place}: padding_mask: expected a list of 0 and 1, not all of them 0")
        samples = facts.get("samples", min(shape[1], ones) * sizes["hop"])
        header = Header(shape, str(dtype), samples=samples, **sizes)
        try:
            header.check()
        except InputError as error:
            raise InputError(f"{place}: {error}") from None
        return header

    def _known(self, place: Place) -> dict[str, Any]:
        """What is written about an item's folder, or about one above as far as the root."""
        folder = place.folder
        for each in (folder, *folder.parents):
            if each not in self.details:
                self.details[each] = _details(each / DETAILS)
            if self.details[each] or each == place.root:
                return self.details[each]
        return {}


def _array_header(file: BinaryIO, size: int) -> tuple[tuple[int, ...], np.dtype]:
    """The shape and dtype of an array whose file has `size` bytes."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if dtype.hasobject or file.tell() + math.prod(shape) * dtype.itemsize > size:
        raise ValueError("its values are not whole")
    return shape, dtype


def _details(path: Path) -> dict[str, Any]:
    """Sizes and fingerprint in a folder's details, as far as these are known, of this workspace or the original."""
    details = read_json(path) if path.exists() else {}
    if not isinstance(details, dict):
        return {}
    config = details.get("model_config")
    if isinstance(config, dict):  # stable-audio-tools' own
        model = config.get("model")
        details = {**config, **(model if isinstance(model, dict) else {})}
    names = {"rate": "sample_rate", "hop": "downsampling_ratio", "channels": "audio_channels"}
    known = {ours: details[name] for ours, name in names.items() if type(details.get(name)) is int}
    try:
        return known | {"fingerprint": bytes.fromhex(details["model"])}
    except (KeyError, TypeError, ValueError):
        return known


def agree(items: Sequence[Encoded], model: Model, width: int, codebooks: int, fingerprint: bytes = b"") -> None:
    """Refuse items of another codec than the model's, or than the others'.

    Latents have `width` values a frame, and codes at least `codebooks`. `fingerprint` is that of the model's codec,
    where it is known.
    """
    first = items[0]
    marked = next((each for each in items if each.header.fingerprint), first)
    wanted = fingerprint or marked.header.fingerprint
    other = f"the model's is {wanted.hex()}" if fingerprint else f"{marked.name} by {wanted.hex()}"
    sizes = {name: getattr(model, name) for name in ("rate", "hop", "channels")}
    rows = max(codebooks, first.header.shape[0]) if first.header.is_codes else width
    for each in items:
        header = each.header
        if header.is_codes != first.header.is_codes:
            kinds = ("latents", "codes")
            raise InputError(
                f"{each.name}: holds {kinds[header.is_codes]}, and {first.name} {kinds[first.header.is_codes]}; give "
                "one kind alone"
            )
        for name, value in sizes.items():
            if getattr(header, name) != value:
                raise InputError(
                    f"{each.name}: is of a codec with a {name} of {getattr(header, name)}, and the model has {value}; "
                    "encode the audio with the model's codec"
                )
        if header.shape[0] != rows:
            whose = first.name if header.is_codes and rows > codebooks else "the model"
            raise InputError(f"{each.name}: has {header.shape[0]} values a frame, and {whose} {rows}")
        if header.fingerprint and header.fingerprint != wanted:
            raise InputError(
                f"{each.name}: was encoded by codec {header.fingerprint.hex()}, and {other}; all items must be of one "
                "codec"
            )


# --- samples -----------------------------------------------------------------------------------------------


class LatentItems(Turns[Encoded]):
    """Samples of `frames` frames; longer items are cut, shorter ones are followed by zeros that are not real."""

    def __init__(
        self,
        items: Sequence[Encoded],
        frames: int,
        scale: float = 1.0,
        table: Table | None = None,
        seed: int = 0,
        random_crop: bool = True,
        once: bool = False,
    ):
        super().__init__(items, seed, once)
        self.frames, self.scale, self.table, self.random_crop = frames, scale, table, random_crop

    def take(self, item: Encoded, index: int, rng: np.random.Generator) -> tuple[float, Sample]:
        latents, facts = item.load(self.table)
        real = min(latents.frames, math.ceil(latents.samples / latents.hop))
        start = 0
        if self.random_crop and not self.once and real > self.frames:
            start = int(rng.integers(real - self.frames + 1))
        values = latents.values[:, start : min(start + self.frames, real)]
        count = values.shape[1]
        values = np.pad(values, ((0, 0), (0, self.frames - count)))
        if not latents.is_codes:
            values = values / np.float32(self.scale)
        facts = self._cut(item, latents, facts, start)
        return math.inf, Sample(index, torch.from_numpy(values), torch.arange(self.frames) < count, facts)

    def _cut(self, item: Encoded, latents: Latents, facts: dict[str, Any], start: int) -> dict[str, Any]:
        facts.pop("padding_mask", None)  # of the whole item; the sample has its own
        facts["relpath"] = item.place.name
        return cropped(facts, latents.rate, latents.samples, start * latents.hop, self.frames * latents.hop)
