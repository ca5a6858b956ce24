"""The published protocol: ten crops of each clip, the mean of their probabilities, the accuracy over clips.

A model says on which folds it was trained, and is not tested on them unless that is forced: such a number says nothing.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from audio_core.command import columns
from audio_core.files import InputError, note, replacing
from audio_core.report import Report
from torch import nn
from tqdm import tqdm

from .data import mix
from .data.clips import Clip, Dataset, read
from .data.listing import Listing, find
from .task import clip_probabilities

if TYPE_CHECKING:
    from PIL.Image import Image


def labels_of(model: nn.Module, labels: Sequence[str], name: str = "the data") -> list[int]:
    """The numbers that the model has for `labels`."""
    known = model.config.labels
    if unknown := [label for label in labels if label not in known]:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        few = ", ".join(known[:6]) + (", ..." if len(known) > 6 else "")
        raise InputError(
            f"{name}: has {len(labels)} classes, {unknown[0]!r}{more} not among the {len(known)} of the model ({few})"
        )
    return [known.index(label) for label in labels]


@dataclass(frozen=True, eq=False)
class Result:
    """What a model found in the clips of a data set."""

    labels: tuple[str, ...]
    """The classes between which it decided."""
    clips: tuple[Clip, ...]
    rate: int
    truth: np.ndarray
    """(N,), numbers in `labels`."""
    probabilities: np.ndarray
    """(N, K), means over the crops."""
    crops: int
    gain_db: float

    @property
    def found(self) -> np.ndarray:
        return self.probabilities.argmax(-1)

    @property
    def accuracy(self) -> float:
        """Share of the clips found right, 0 to 1."""
        return float((self.found == self.truth).mean())

    def per_class(self) -> dict[str, dict[str, float]]:
        """By label: how many clips it has, the share of them found (recall), and the share that is right of what was
        found as it (precision; NaN where nothing was)."""
        rows = {}
        for number in np.unique(self.truth):
            own, named = self.truth == number, self.found == number
            right = int((own & named).sum())
            precision = right / named.sum() if named.any() else float("nan")
            rows[self.labels[number]] = {
                "clips": int(own.sum()),
                "recall": right / int(own.sum()),
                "precision": float(precision),
            }
        return rows

    def confusion(self) -> tuple[list[str], np.ndarray]:
        """counts[true, found] between the labels that occur on either side."""
        present = np.union1d(self.truth, self.found)
        counts = np.zeros((len(self.labels), len(self.labels)), int)
        np.add.at(counts, (self.truth, self.found), 1)
        return [self.labels[number] for number in present], counts[np.ix_(present, present)]

    def mistakes(self) -> list[int]:
        """The clips found wrong, the most certain mistake first."""
        certain = self.probabilities.max(-1)
        return [int(row) for row in np.argsort(-certain, kind="stable") if self.found[row] != self.truth[row]]

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        names, counts = self.confusion()
        classes = {
            label: {name: None if value != value else value for name, value in row.items()}
            for label, row in self.per_class().items()
        }
        return {
            "accuracy": self.accuracy,
            "clips": len(self.clips),
            "folds": sorted({clip.fold for clip in self.clips} - {0}),
            "crops": self.crops,
            "gain_db": self.gain_db,
            "classes": len(self.labels),
            "per_class": classes,
            "confusion": {"labels": names, "counts": counts.tolist()},
        }

    def table(self) -> str:
        """For people."""
        rows = [
            (label, row["clips"], 100 * row["recall"], 100 * row["precision"] if row["precision"] >= 0 else "-")
            for label, row in self.per_class().items()
        ]
        right = round(self.accuracy * len(self.clips))
        text = columns([("class", "clips", "recall %", "precision %"), *rows])
        return f"{text}\n\naccuracy {100 * self.accuracy:.2f} % ({right} of {len(self.clips)})"

    def page(self, report: Report, folder: Path | None = None, players: int = 12) -> None:
        """The numbers, the confusion matrix, in `folder` also as confusion.png, and the most certain mistakes."""
        folds = ", ".join(str(fold) for fold in sorted({clip.fold for clip in self.clips} - {0})) or "none"
        wrong = self.mistakes()
        right = len(self.clips) - len(wrong)
        report.table(
            ["accuracy %", "found right", "clips", "folds", "crops", "classes", "level dB"],
            [[100 * self.accuracy, right, len(self.clips), folds, self.crops, len(self.labels), self.gain_db]],
        )
        names, counts = self.confusion()
        report.matrix("Confusion: how many clips of each class were found as which", names, counts)
        classes = self.per_class()
        ordered = sorted(classes, key=lambda label: classes[label]["recall"])
        report.bars("Found right in each class, %", {label: 100 * classes[label]["recall"] for label in ordered})
        report.table(
            ["class", "clips", "recall %", "precision %"],
            [[label, row["clips"], 100 * row["recall"], 100 * row["precision"]] for label, row in classes.items()],
        )
        if wrong:
            report.heading("The most certain mistakes")
            for at in range(0, min(players, len(wrong)), 3):
                report.row([_player(self, row) for row in wrong[at : min(at + 3, players)]])
        if folder and importlib.util.find_spec("PIL"):
            with replacing(folder / "confusion.png") as temporary:
                matrix_image(names, counts).save(temporary)
        elif folder:
            note("no confusion.png beside the page: it needs Pillow (pip install 'audio-acdnet[plot]')")


def evaluate(
    model: nn.Module,
    source: str | Path | Listing | Dataset,
    fold: int | None = None,
    crops: int = 10,
    restrict: bool = False,
    force: bool = False,
    gain_db: float = 0.0,
    batch: int = 8,
) -> Result:
    """Test `model`, an ACDNet, a folded or an emulated one, on the clips of a data set: those of `fold`, or of
    all folds that it was not trained on.

    `restrict` lets it decide between the classes of the data set only, where it knows more. `gain_db` changes the level
    of the clips first. `force` allows trained ones where there is no other. `batch` is a number of clips.
    """
    if crops < 1:
        raise InputError(f"crops: expected 1 or more, got {crops}")
    if not -200 <= gain_db <= 200:
        raise InputError(f"gain: expected decibels from -200 to 200, got {gain_db}")
    if isinstance(source, str | Path):
        source = find(source)
    labels_of(model, source.labels, str(source.root))
    folds = source.folds if fold is None else (fold,)
    rest = tuple(number for number in folds if number not in model.config.folds)
    if folds and not rest and not force:
        heard = ", ".join(map(str, folds))
        raise InputError(
            f"the model was trained on fold {heard}, so testing there says nothing; choose another, or force it"
        )
    folds = rest or folds
    if folds:  # else the data set has none
        source = source.of_folds(folds)
    dataset = read(source, model.config.rate) if isinstance(source, Listing) else source
    if dataset.rate != model.config.rate:
        raise ValueError(f"the clips were read at {dataset.rate} Hz, the model hears {model.config.rate} Hz")
    numbers = labels_of(model, dataset.labels, str(dataset.root))
    found = probabilities(model, [clip.samples for clip in dataset.clips], crops, gain_db, batch)
    truth = np.array([clip.label for clip in dataset.clips])
    if restrict:
        found = found[:, numbers] / found[:, numbers].sum(-1, keepdims=True).clip(1e-30)
        return Result(dataset.labels, dataset.clips, dataset.rate, truth, found, crops, gain_db)
    truth = np.array(numbers)[truth]
    return Result(model.config.labels, dataset.clips, dataset.rate, truth, found, crops, gain_db)


@torch.no_grad()
def probabilities(
    model: nn.Module, sounds: Sequence[np.ndarray], crops: int = 10, gain_db: float = 0.0, batch: int = 8
) -> np.ndarray:
    """(N, K) of int16 clips at the model's rate; only the crops of `batch` clips are in memory at a time."""
    training, device = model.training, next(model.parameters(), torch.empty(0)).device
    model.eval()
    gain = model.config.gain * 10 ** (gain_db / 20)
    found = []
    quiet = len(sounds) <= batch or not sys.stderr.isatty()
    for at in tqdm(range(0, len(sounds), batch), "testing", unit="batch", leave=False, disable=quiet):
        cut = np.stack([mix.crops(sound, model.config.samples, crops) for sound in sounds[at : at + batch]])
        found.append(clip_probabilities(model, torch.from_numpy(cut).to(device) * gain).cpu())
    model.train(training)
    return torch.cat(found).numpy()


# --- the page ----------------------------------------------------------------------------------------------


def _player(result: Result, row: int) -> tuple[str, np.ndarray, int]:
    clip, found = result.clips[row], result.found[row]
    said = f"{result.labels[found]} {100 * result.probabilities[row, found]:.0f} %"
    label = f"{clip.path.name}: {result.labels[result.truth[row]]}, found as {said}"
    return label, clip.samples / np.float32(mix.FULL_SCALE), result.rate


def matrix_image(labels: Sequence[str], counts: np.ndarray) -> Image:
    """A confusion matrix as a picture, counts[true, found]: the truth down the side, what was found along the top."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=20)
    cell, margin, sides = 46, 14, "true \\ found"
    head = margin + 8 + round(max(font.getlength(label) for label in (*labels, sides)))
    side = head + cell * len(labels) + margin
    image = Image.new("RGB", (side, side), "white")
    pen = ImageDraw.Draw(image)
    pen.text((head - 8, head - 10), sides, "#888", font, "rb")
    for row, label in enumerate(labels):
        at = head + cell * row + cell // 2
        pen.text((head - 8, at), label, "#333", font, "rm")
        name = Image.new("L", (head - 8, cell))
        ImageDraw.Draw(name).text((0, cell // 2), label, 255, font, "lm")
        image.paste("#333", (head + cell * row, 0), name.rotate(90, expand=True))
        shares = counts[row] / max(1, counts[row].sum())
        for column, (count, share) in enumerate(zip(counts[row], shares, strict=True)):
            corner = head + cell * column, head + cell * row
            shade = tuple(round(255 + (dark - 255) * (0.06 + 0.94 * share)) for dark in (37, 99, 205))
            pen.rectangle((*corner, corner[0] + cell - 3, corner[1] + cell - 3), shade)
            if count:
                ink = "white" if share > 0.5 else "#333"
                pen.text((corner[0] + cell // 2 - 1, corner[1] + cell // 2 - 1), str(count), ink, font, "mm")
    return image
