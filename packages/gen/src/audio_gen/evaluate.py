"""How well a model has learnt a folder of latents or codes, without any other network; and a page with players.

A part of the items is held out of the reference, up to half of each prompt. The model generates one item for each of
these, under its conditions and of its length. So what is told of generated items is told of as many real ones too, as
a perfect model would reach it.

    loss       of a diffusion model at times from 0.1 to 0.9; of a language model the cross-entropy of each codebook
    distance   the Fréchet distance to the reference, see `measures.frechet_distance`
    accuracy   where prompts repeat, how many items are nearest to the centroid of their own prompt
    cost       seconds of CPU for a second of audio

Whether the items were among those that the model has learnt from is for the user to know.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from audio_core.command import columns
from audio_core.files import InputError, note
from audio_core.report import Report, Sound
from torch import Tensor
from tqdm import tqdm

from .data.corpus import Corpus
from .generate import generate
from .held_out import Item, Reader, held_out, spread
from .losses import diffusion_loss, fixed_noise
from .measures import Scale, frechet_distance, nearest_classes
from .models.conditioners.base import device_of
from .models.diffusion import Diffusion, inpainting
from .models.lm import LM
from .recipe import Data

TIMES = tuple(round(0.1 * at, 1) for at in range(1, 10))
MOST = 2000  # items that are read, evenly from all
FEWEST = 4  # real items: two and two have a spread
BATCH = 8  # items of the loss at once
CLASSES = 20  # as many as a matrix can show


class Compared(NamedTuple):
    generated: float
    real: float
    """The same of real items that were held out."""


@dataclass
class Result:
    model: Diffusion | LM
    items: int
    """Real ones, those held out among them."""
    clips: int
    """Held out, and generated."""
    losses: dict[str, float]
    """By time, or by codebook from 1 on."""
    distance: Compared | None
    """None of codes without a codec that makes latents of them."""
    accuracy: Compared | None
    """From 0 to 1; None where prompts do not repeat."""
    classes: list[str]
    confusion: np.ndarray
    """Generated items by the class of their prompt and the nearest class."""
    generation: float
    """CPU seconds for a second of audio, without decoding."""
    decoding: float | None
    """None where nothing was decoded."""
    unreadable: int
    sounds: list[list[Sound]] = field(default_factory=list)
    """Generated and real, of the first prompts."""

    @property
    def loss(self) -> float:
        return sum(self.losses.values()) / len(self.losses)

    @property
    def loss_name(self) -> str:
        return "cross-entropy" if isinstance(self.model, LM) else "loss"

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "items": self.items,
            "clips": self.clips,
            "unreadable": self.unreadable,
            self.loss_name.replace("-", "_"): {
                "mean": _rounded(self.loss),
                **{name: _rounded(value) for name, value in self.losses.items()},
            },
            "frechet_distance": _plain(self.distance),
            "accuracy": _plain(self.accuracy),
            "classes": len(self.classes),
            "cpu_seconds_per_second": {"generation": _rounded(self.generation), "decoding": _rounded(self.decoding)},
        }

    def table(self) -> str:
        """For people."""
        rows: list[tuple] = [("", "generated", "real"), *self._comparisons()]
        other = [(name, _shown(value)) for name, value in self._facts()]
        return f"{columns(rows)}\n\n{columns(other)}\n\n{self.clips} clips; {self.items} real items"

    def _comparisons(self) -> list[tuple[str, str, str]]:
        rows = (("Fréchet distance", self.distance), ("nearest class is the prompt's", self.accuracy))
        return [(name, _shown(pair.generated), _shown(pair.real)) for name, pair in rows if pair is not None]

    def _facts(self) -> list[tuple[str, float]]:
        rows = [(f"{self.loss_name}, mean", self.loss), ("CPU s for a second, generation", self.generation)]
        return rows if self.decoding is None else [*rows, ("CPU s for a second, decoding", self.decoding)]

    def page(self, report: Report, folder: Path) -> None:
        """Numbers and players; nothing else goes into the folder."""
        config = self.model.config
        count = sum(parameter.numel() for parameter in self.model.parameters())
        report.text(
            f"{count:,} parameters; up to {config.samples / config.rate:.3g} s at {config.rate} Hz. Measured on "
            f"{self.items} real items, of which {self.clips} were held out and {self.clips} generated in their place."
        )
        report.heading("Likeness")
        report.text(
            "The Fréchet distance is that to the other real items, from the mean and the deviation of each latent over "
            "time: 0 is best, and what was held out shows how near so few items can be. The order in time does not "
            "enter. An item's class is the prompt with the nearest centroid; expect no more than real items reach."
        )
        report.table(["", "generated", "held out"], self._comparisons())
        report.table(["", "value"], self._facts())
        if 1 < len(self.classes) <= CLASSES:
            report.matrix("Prompts of generated items, and their nearest classes", self.classes, self.confusion)
        report.heading(self.loss_name.capitalize())
        if isinstance(self.model, LM):
            most = math.log(self.model.config.lm.codebook_size)
            report.text(f"Nats for a code. A model to which all codes are equally likely has {most:.4g}.")
            report.bars("Cross-entropy of each codebook", self.losses)
        else:
            report.text("At each time, from nearly clean at 0 to pure noise at 1. Padding does not count.")
            lines = {"held out": ([*map(float, self.losses)], [*self.losses.values()])}
            report.curve("Loss", lines, unit="t")
        if self.sounds:
            report.heading("To hear")
            for sounds in self.sounds:
                report.row(sounds)


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 5)


def _plain(pair: Compared | None) -> dict[str, float | None] | None:
    return None if pair is None else {name: _rounded(value) for name, value in pair._asdict().items()}


def _shown(value: float) -> str:
    return f"{value:.4g}"


# --- the protocol --------------------------------------------------------------------------------------------


def evaluate(
    model: Diffusion | LM,
    data: str | Path,
    metadata: str | Path | None = None,
    clips: int = 64,
    listen: int = 0,
    seed: int = 0,
    quiet: bool = False,
) -> Result:
    """Measure a model against a folder of latents or codes; `metadata` is a table that describes them.

    At most `clips` items are generated, with the model's own settings. Of the first `listen` of them the sounds are
    kept, where the codec is installed.
    """
    if not isinstance(model, Diffusion | LM):
        raise InputError("evaluate: this is a diffusion autoencoder, which is measured as a codec; try `reconstruct`")
    if clips < 2:
        raise InputError(f"--clips: expected at least 2, got {clips}")
    settings = Data(Path(data), metadata=Path(metadata) if metadata else None, kind="latents", held_out=0)
    corpus = Corpus(settings, model.config, Path(), quiet=quiet)
    reader, files = Reader(model, corpus), spread(corpus, MOST)
    items, values, unreadable = [], [], 0
    for file in tqdm(files, "read", unit="item", disable=quiet or None, leave=False):
        try:
            item = reader(file)
        except InputError as error:
            note(str(error))
            unreadable += 1
            continue
        items.append(item._replace(values=torch.empty(0)))  # there may be many
        values.append(reader.features(item.values))
    if len(items) < FEWEST:
        raise InputError(f"{data}: {len(items)} items can be read, and at least {FEWEST} are needed")
    labels = [item.label for item in items]
    chosen = held_out(labels, clips, seed)
    held = [reader(items[at].file) for at in chosen]
    losses = _losses(model, held, quiet)
    latents, generation = _generated(model, held, seed, quiet)
    sounds, decoding = _sounds(model, held[:listen], latents)
    result = Result(
        model, len(items), len(held), losses, None, None, [], np.zeros((0, 0)), generation, decoding, unreadable, sounds
    )
    if values[0] is not None:
        generated = torch.stack([reader.features(each) for each in latents])
        _compare(result, torch.stack(values), generated, labels, chosen)
    return result


def _compare(result: Result, values: Tensor, generated: Tensor, labels: Sequence[str], chosen: Sequence[int]) -> None:
    """Fill in what compares features of generated (N, D) and real items (M, D)."""
    kept = sorted({*range(len(labels))} - {*chosen})
    scale = Scale(values[kept])
    reference, real, generated = scale(values[kept]), scale(values[[*chosen]]), scale(generated)
    distances = (frechet_distance(each, reference) for each in (generated, real))
    result.distance = Compared(*distances)
    wanted = [labels[at] for at in chosen]
    classes = sorted({label for label in wanted if label and labels.count(label) > 1})
    if len(classes) < 2:
        return
    known = [at for at, place in enumerate(kept) if labels[place] in classes]
    tested = [at for at, label in enumerate(wanted) if label in classes]
    names = [labels[kept[at]] for at in known]
    nearest = [nearest_classes(each[tested], reference[known], names) for each in (generated, real)]
    expected = [wanted[at] for at in tested]
    hits = ([one == other for one, other in zip(each, expected, strict=True)] for each in nearest)
    result.accuracy = Compared(*(sum(each) / len(each) for each in hits))
    result.classes, result.confusion = classes, np.zeros((len(classes), len(classes)), int)
    for true, found in zip(expected, nearest[0], strict=True):
        result.confusion[classes.index(true), classes.index(found)] += 1


# --- what the model does -------------------------------------------------------------------------------------


@torch.no_grad()
def _losses(model: Diffusion | LM, held: Sequence[Item], quiet: bool) -> dict[str, float]:
    """All real frames weigh the same."""
    config, frames = model.config, 0
    sums: dict[str, float] = {}
    for first in tqdm(range(0, len(held), BATCH), "loss", unit="batch", disable=quiet or None, leave=False):
        items = held[first : first + BATCH]
        real = torch.zeros(len(items), config.frames, dtype=torch.bool)
        x = torch.zeros(len(items), len(items[0].values), config.frames, dtype=items[0].values.dtype)
        for row, item in enumerate(items):
            real[row, : item.values.shape[1]] = True
            x[row, :, : item.values.shape[1]] = item.values
        x, real = x.to(device_of(model)), real.to(device_of(model))
        if isinstance(model, LM):
            codebooks = model(x, [item.facts for item in items], real).codebooks.tolist()
            losses = {str(at): value for at, value in enumerate(codebooks, 1)}
        else:
            losses = _diffusion_losses(model, x / model.config.scale, items, real, first)
        count = int(real.sum())
        frames += count
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + value * count
    return {name: value / frames for name, value in sums.items()}


def _diffusion_losses(model: Diffusion, x: Tensor, items: Sequence[Item], real: Tensor, first: int) -> dict[str, float]:
    """At each time; an inpainting model is given nothing."""
    extra = inpainting(x, torch.zeros_like(x[:, :1])) if model.config.inpaints else None
    facts, indices = [item.facts for item in items], range(first, first + len(items))
    losses = {}
    for at, level in enumerate(TIMES):
        t, noise = torch.full((len(x),), level, device=x.device), fixed_noise(indices, x, at)
        loss = diffusion_loss(model, model.objective, x, t, noise, facts, real, extra, counted=real)
        losses[str(level)] = float(loss)
    return losses


def _generated(model: Diffusion | LM, held: Sequence[Item], seed: int, quiet: bool) -> tuple[list[Tensor], float]:
    """Latents or codes in place of the items held out, and the CPU seconds for a second."""
    rate, latents, taken = model.config.rate, [], 0.0
    for at, item in enumerate(tqdm(held, "generate", unit="clip", disable=quiet or None, leave=False)):
        began = time.process_time()
        result = generate(model, item.facts, item.samples / rate, seed=seed + at, decode=False)
        taken += time.process_time() - began
        latents.append(result.latents[0][:, : item.values.shape[1]].cpu())
    return latents, taken * rate / sum(item.samples for item in held)


def _sounds(
    model: Diffusion | LM, held: Sequence[Item], latents: Sequence[Tensor]
) -> tuple[list[list[Sound]], float | None]:
    """Generated items beside the real ones that were held out, and the CPU seconds for a second."""
    if not held or model.codec is None:
        return [], None
    rate, sounds = model.config.rate, []
    began = time.process_time()
    for item, generated in zip(held, latents, strict=False):
        pair = ((item.label or item.file.name, generated), (f"real: {item.file.name}", item.values))
        sounds.append([(label, _decoded(model, values, item.samples), rate) for label, values in pair])
    return sounds, (time.process_time() - began) * rate / sum(2 * item.samples for item in held)


@torch.no_grad()
def _decoded(model: Diffusion | LM, values: Tensor, samples: int) -> np.ndarray:
    """Audio (C, samples) of latents as the codec has them, or of codes."""
    values = values[None].to(device_of(model))
    scaled = values / model.config.scale if isinstance(model, Diffusion) else values
    return np.clip(model.decode(scaled, samples)[0].cpu().numpy(), -1, 1)
