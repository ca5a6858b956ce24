"""The published protocol: ten crops of each clip, the mean of their probabilities, the accuracy over clips.

A model records the clips that it was trained on, and is not tested on them unless that is forced.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from audio_core.command import columns
from audio_core.files import InputError, note, replacing
from audio_core.report import Report
from torch import nn

from .classify import probabilities
from .config import ACDNetConfig
from .crops import FULL_SCALE
from .data.clips import Clip, Dataset, read
from .data.listing import Listing, find

if TYPE_CHECKING:
    from PIL.Image import Image


def labels_of(model: nn.Module, labels: Sequence[str], name: str = "the data") -> list[int]:
    """The numbers that the model has for `labels`."""
    own = model.config.labels
    if unknown := [label for label in labels if label not in own]:
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        few = ", ".join(own[:6]) + (", ..." if len(own) > 6 else "")
        common = ",".join(label for label in labels if label in own)
        hint = f"; data.labels=[{common}] tests on those that it has" if common else ""
        raise InputError(
            f"{name}: has {len(labels)} classes, {unknown[0]!r}{more} not among the {len(own)} of the model ({few})"
            f"{hint}"
        )
    return [own.index(label) for label in labels]


@dataclass(frozen=True, eq=False)
class Result:
    """The probabilities that a model gives for the clips of a data set, and the measures that follow from them."""

    labels: tuple[str, ...]
    """The classes between which the model decided."""
    clips: tuple[Clip, ...]
    rate: int
    truth: np.ndarray
    """(N,), numbers in `labels`."""
    probabilities: np.ndarray
    """(N, K), means over the crops."""
    crops: int
    gain_db: float
    unreadable: int = 0
    """Clips that were left out. Always 0, as the verb expects: a clip that cannot be read ends the evaluation."""

    @property
    def predicted(self) -> np.ndarray:
        """(N,), the likeliest class of each clip."""
        return self.probabilities.argmax(-1)

    @property
    def accuracy(self) -> float:
        """Share of the clips whose likeliest class is their own, 0 to 1."""
        return float((self.predicted == self.truth).mean())

    def per_class(self) -> dict[str, dict[str, float]]:
        """By label: its clips, its recall, and its precision, which is NaN where no clip was predicted as it."""
        rows = {}
        for number in np.unique(self.truth):
            own, named = self.truth == number, self.predicted == number
            right = int((own & named).sum())
            precision = right / named.sum() if named.any() else float("nan")
            rows[self.labels[number]] = {
                "clips": int(own.sum()),
                "recall": right / int(own.sum()),
                "precision": float(precision),
            }
        return rows

    def confusion(self) -> tuple[list[str], np.ndarray]:
        """counts[true, predicted] between the labels that occur on either side."""
        present = np.union1d(self.truth, self.predicted)
        counts = np.zeros((len(self.labels), len(self.labels)), int)
        np.add.at(counts, (self.truth, self.predicted), 1)
        return [self.labels[number] for number in present], counts[np.ix_(present, present)]

    def mistakes(self) -> list[int]:
        """The clips predicted wrong, the most certain mistake first."""
        certain = self.probabilities.max(-1)
        return [int(row) for row in np.argsort(-certain, kind="stable") if self.predicted[row] != self.truth[row]]

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
            ["accuracy %", "right", "clips", "folds", "crops", "classes", "level dB"],
            [[100 * self.accuracy, right, len(self.clips), folds, self.crops, len(self.labels), self.gain_db]],
        )
        names, counts = self.confusion()
        report.matrix("Confusion: how many clips of each class (row) were predicted as which (column)", names, counts)
        classes = self.per_class()
        ordered = sorted(classes, key=lambda label: classes[label]["recall"])
        report.bars("Recall of each class, %", {label: 100 * classes[label]["recall"] for label in ordered})
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
    """Test `model`, an ACDNet, a folded or an emulated one, on the clips of a data set.

    Tested are those of `fold`, or of all folds that the model was not trained on. `restrict` lets the model decide
    between the classes of the data set only, where it knows more. `gain_db` changes the level of the clips first.
    `force` allows clips of the training where there are no others. `batch` is a number of clips.
    """
    if crops < 1:
        raise InputError(f"crops: expected 1 or more, got {crops}")
    if not -200 <= gain_db <= 200:
        raise InputError(f"gain: expected decibels from -200 to 200, got {gain_db}")
    if isinstance(source, str | Path):
        source = find(source)
    labels_of(model, source.labels, str(source.root))
    if folds := untrained(model.config, source, fold, force):
        source = source.of_folds(folds)
    dataset = read(source, model.config.rate) if isinstance(source, Listing) else source
    if dataset.rate != model.config.rate:
        raise ValueError(f"the clips were read at {dataset.rate} Hz, the model takes {model.config.rate} Hz")
    numbers = labels_of(model, dataset.labels, str(dataset.root))
    scores = probabilities(model, [clip.samples for clip in dataset.clips], crops, gain_db, batch)
    truth = np.array([clip.label for clip in dataset.clips])
    if restrict:
        scores = scores[:, numbers] / scores[:, numbers].sum(-1, keepdims=True).clip(1e-30)
        return Result(dataset.labels, dataset.clips, dataset.rate, truth, scores, crops, gain_db)
    truth = np.array(numbers)[truth]
    return Result(model.config.labels, dataset.clips, dataset.rate, truth, scores, crops, gain_db)


def untrained(
    config: ACDNetConfig, source: Listing | Dataset, fold: int | None = None, force: bool = False
) -> tuple[int, ...]:
    """The folds of `source` to test on, () for all clips. Where all were trained on, an InputError unless `force`."""
    folds = source.folds if fold is None else (fold,)
    comparable = not isinstance(source, Listing) or source.divide == config.divide  # the numbers of folds
    if isinstance(source, Listing) and config.trained_on:
        name, _, digest = config.trained_on.rpartition(" ")
        if digest == source.digest():
            _refuse_trained(config, source, force)
        elif name == source.name and not (comparable and folds):
            note(f"{source.root}: is not as it was when the model was trained; clips that it knows are tested as well")
    if not comparable:
        return folds
    rest = tuple(number for number in folds if number not in config.folds)
    if folds and not rest and not force:
        numbers = ", ".join(map(str, folds))
        raise InputError(
            f"the model was trained on fold {numbers}, so testing there says nothing; choose another, or force it"
        )
    return rest or folds


def _refuse_trained(config: ACDNetConfig, source: Listing, force: bool) -> None:
    """`source` holds the clips of the training: they must be divided as they were then."""
    if force:
        return
    if not config.folds:
        raise InputError(
            f"{source.root}: the model was trained on all of these clips, so testing there says nothing; "
            "choose others, or force it"
        )
    if config.divide != source.divide:
        raise InputError(
            f"{source.root}: the model was trained on clips of this data set; give data.divide={config.divide}, "
            "as in its training, to test on the others, or force it"
        )


def trained_folds(config: ACDNetConfig, result: Result) -> list[int]:
    """The folds among the tested clips that the model was trained on, which only `force` allows."""
    return sorted({clip.fold for clip in result.clips} & set(config.folds))


# --- the page ----------------------------------------------------------------------------------------------


def _player(result: Result, row: int) -> tuple[str, np.ndarray, int]:
    clip, best = result.clips[row], result.predicted[row]
    prediction = f"{result.labels[best]} {100 * result.probabilities[row, best]:.0f} %"
    label = f"{clip.path.name}: {result.labels[result.truth[row]]}, predicted as {prediction}"
    return label, clip.samples / np.float32(FULL_SCALE), result.rate


def matrix_image(labels: Sequence[str], counts: np.ndarray) -> Image:
    """A confusion matrix as a picture, counts[true, predicted]: the truth down the side, predictions along the top."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=20)
    cell, margin, sides = 46, 14, "true \\ predicted"
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
