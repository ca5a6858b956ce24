"""Training by a recipe: a run for each fold that is held out, a table over all of them, a bundle of each.

A run that was stopped goes on where it stood when the same command is given again; folds that are done are not
repeated.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from audio_core.command import columns
from audio_core.files import InputError, write_text
from audio_core.train.average import Average
from audio_core.train.fit import Watcher, fit
from audio_core.train.player import Player
from audio_core.train.results import load_trained, recipe_of, results
from audio_core.train.run import Run
from audio_core.train.watch import Evaluate, Journal, Log, Save
from torch import Tensor

from . import PACKAGE
from .config import ACDNetConfig
from .crops import crops
from .data.clips import Dataset, read
from .data.listing import NO_FOLDS, Listing, listed
from .data.mix import Mixes
from .model import ACDNet, folded, load
from .recipe import Recipe
from .task import Classification


class Outcome(NamedTuple):
    """Accuracies from 0 to 1 on the fold that was held out; None where none was."""

    fold: int | None
    last: float | None
    best: float | None
    """The greatest of all evaluations: what the authors publish, chosen on the test clips and so too good."""
    folder: Path


class Folds(list[Outcome]):
    """The outcomes of all folds that were held out."""

    @property
    def bundles(self) -> list[Path]:
        return [one.folder / "bundle" for one in self]

    def plain(self) -> dict[str, Any]:
        """For JSON: the folds with mean and standard deviation of their last and best accuracies."""
        rows = [{"fold": one.fold, "last": one.last, "best": one.best} for one in self if one.last is not None]
        facts: dict[str, Any] = {"folds": rows}
        for name in ("last", "best") if rows else ():
            values = [row[name] for row in rows]
            mean = sum(values) / len(values)
            spread = math.sqrt(sum((value - mean) ** 2 for value in values) / max(1, len(values) - 1))
            facts[name] = {"mean": mean, "deviation": spread}
        return facts

    def table(self) -> str:
        """In percent, for people."""
        if not self.plain()["folds"]:
            return "trained on all clips; none was held out to test on"
        rows = [(str(one.fold), one.last, one.best) for one in self]
        if len(self) > 1:
            total = self.plain()
            rows += [(name, total["last"][name], total["best"][name]) for name in ("mean", "deviation")]
        cells = [[name, *(_percent(value).rjust(6) for value in values)] for name, *values in rows]
        return columns([["fold", "last %", "best %"], *cells])


def train(recipe: Recipe, out: str | Path, device: str = "auto", quiet: bool = False) -> Folds | None:
    """Train by `recipe` into `out`, with a folder fold1, fold2, ... inside it when there is more than one run.

    None when it was asked to stop before its end.
    """
    out = Path(out)
    listing = listed(recipe.data)
    folds = held_out(recipe, listing)
    if len(folds) > 1 and (out / "recipe.yaml").exists():
        raise InputError(f"{out}: holds a run of one fold; choose another folder for several")
    trained_on = f"{listing.name} {listing.digest()}"
    recipe = replace(recipe, model=replace(recipe.model, divide=listing.divide, trained_on=trained_on))
    dataset = read(listing, recipe.model.rate)
    outcomes = Folds()
    for fold in folds:
        folder = out if len(folds) == 1 else out / f"fold{fold}"
        outcome = _one(recipe, dataset, fold, folder, device, quiet, fold == folds[-1])
        if outcome is None:
            return None
        outcomes.append(outcome)
    if len(folds) > 1:
        write_text(out / "folds.json", json.dumps(outcomes.plain(), indent=1) + "\n")
    return outcomes


def held_out(recipe: Recipe, listing: Listing) -> list[int | None]:
    """The folds to hold out, one for each run."""
    if recipe.folds == "none":
        return [None]
    if not listing.folds:
        raise InputError(f"{listing.root}: nothing to test on: {NO_FOLDS}; folds=none trains on all clips")
    if recipe.folds == "all":
        return list(listing.folds)
    wanted = (recipe.folds,) if isinstance(recipe.folds, int) else tuple(recipe.folds)
    listing.of_folds(wanted)
    return list(dict.fromkeys(wanted))


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


# --- one run -----------------------------------------------------------------------------------------------


def _too_few_classes(root: Path, labels: list[str], fold: int | None) -> str:
    """The message; a folder of clips beside their table, given without it, looks like a single class."""
    tables = sorted(root.glob("*.csv")) if root.is_dir() else []
    hint = f"; give the table, data.root={tables[0]}" if tables else ""
    rest = "" if fold is None else f" without fold {fold}"
    return f"{root}: fewer than two classes to train on{rest}: {', '.join(labels) or 'none'}{hint}"


def _one(
    recipe: Recipe, dataset: Dataset, fold: int | None, folder: Path, device: str, quiet: bool, last: bool
) -> Outcome | None:
    """One run to its end and its bundle; None when it was asked to stop before."""
    learned, tested = dataset.held_out(fold or -1)
    labels = [dataset.labels[index] for index in sorted({clip.label for clip in learned.clips})]
    if len(labels) < 2:
        raise InputError(_too_few_classes(dataset.root, labels, fold))
    recipe = recipe.for_data(len(learned.clips), dataset.labels, learned.folds)
    recipe = replace(recipe, folds="none" if fold is None else (fold,))
    run = advance(Job(recipe, learned, tested, folder, device, quiet))
    if run.finished and run.main:
        release(folder, folder / "bundle", force=True)  # a run that went on makes it anew
    if not run.finished or last:  # processes that left each other between two folds may not meet again
        run.close()
    return Outcome(fold, *accuracies(folder), folder) if run.finished else None


@dataclass(frozen=True)
class Job:
    """One run: what it learns from and is tested on, and where."""

    recipe: Recipe
    learned: Dataset
    tested: Dataset
    folder: Path
    device: str = "auto"
    quiet: bool = False
    begin: Callable[[ACDNetConfig], ACDNet] = ACDNet
    """Makes the network of a run that has no state yet."""
    first: tuple[Watcher, ...] = ()
    """These see each step before it is logged, tested or saved, and may change the network."""
    teacher: ACDNet | None = None
    """Stands for the one that the recipe names."""


def advance(job: Job) -> Run:
    """The run from where it stands to the last step of its recipe, or to a signal."""
    recipe, teacher = job.recipe, job.teacher
    run = Run(job.folder, recipe, job.device, len(job.learned.clips), job.quiet)
    torch.manual_seed(recipe.seed)  # the weights it begins with
    if recipe.distil and teacher is None:
        teacher = teacher_of(recipe.distil.teacher, recipe)
    task = _task(recipe, job.begin(recipe.model), len(job.learned.clips), teacher)
    journal = Journal(run)
    watchers: list[Watcher] = [*job.first, Log(journal, job.quiet)]
    if job.tested.clips:
        crops = Crops(job.tested, recipe.model.samples, recipe.crops)
        watchers.append(Evaluate(journal, crops, 8, "accuracy", quiet=job.quiet))
    with journal:
        fit(task, Items(job.learned, recipe), run, [*watchers, Save()])
    return run


def _task(recipe: Recipe, net: ACDNet, clips: int, teacher: ACDNet | None) -> Classification:
    player = Player(
        net,
        recipe.optimizer.build(net.parameters()),
        lambda update: recipe.factor(update, clips),
        recipe.clip or None,
        Average(net, recipe.average) if recipe.average else None,
    )
    return Classification(player, recipe.model.gain, folded(teacher) if teacher else None, recipe.distil)


def teacher_of(path: str, recipe: Recipe) -> ACDNet:
    """The model of a bundle, if it may teach in the run of `recipe`.

    It must have the same classes, and must not be trained on the fold that is held out.
    """
    fold = fold_of(recipe)
    teacher = load(path.format(fold=fold))
    if teacher.config.labels != recipe.model.labels:
        raise InputError(f"{path}: its labels are not those of the data in their order; train it on the same classes")
    if fold in teacher.config.folds:
        raise InputError(f"{path}: was trained on fold {fold}, which is to be held out")
    return teacher


def fold_of(recipe: Recipe) -> int | None:
    """The fold that a single run holds out."""
    return None if isinstance(recipe.folds, str | int) else recipe.folds[0]


class Items(Mixes):
    """The training items of a recipe."""

    def __init__(self, dataset: Dataset, recipe: Recipe):
        sounds, labels = zip(*((clip.samples, clip.label) for clip in dataset.clips), strict=True)
        settings = (dataset.rate, recipe.model.samples, recipe.mix.speed, recipe.mix.gain_db, recipe.seed)
        super().__init__(sounds, labels, len(dataset.labels), *settings)
        self.files = [clip.path.name for clip in dataset.clips]

    def name(self, index: int) -> str:
        drawn = self.drawn(index)
        return f"{self.files[drawn.first.clip]} + {self.files[drawn.second.clip]}"


class Crops:
    """Clips for the evaluations: crops (count, samples) and the number of the class."""

    def __init__(self, dataset: Dataset, samples: int, count: int):
        self.dataset, self.samples, self.count = dataset, samples, count

    def __len__(self) -> int:
        return len(self.dataset.clips)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        clip = self.dataset.clips[index]
        return torch.from_numpy(crops(clip.samples, self.samples, self.count)), clip.label


def accuracies(folder: Path) -> tuple[float | None, float | None]:
    """Of the last evaluation of a run and of its best, 0 to 1; None where it tested nothing."""
    last, best = results(folder).get("accuracy"), results(folder, best=True).get("accuracy")
    return last and round(last, 6), best and round(best, 6)


# --- what comes out ----------------------------------------------------------------------------------------


def release(folder: str | Path, out: str | Path, best: bool = False, force: bool = False, origin: str = "") -> ACDNet:
    """The model of a run as a bundle: its last weights, or those of its best evaluation.

    `origin` is a sentence for its card about what came before the run.
    """
    recipe, model = trained(folder, best)
    PACKAGE.save(model, out, _card(Path(folder), recipe, best, origin), force)
    return model


def trained(folder: str | Path, best: bool = False) -> tuple[Recipe, ACDNet]:
    """The recipe of a run and its model, with the last weights or those of its best evaluation."""
    recipe = recipe_of(folder, Recipe)
    model = ACDNet(recipe.model)
    load_trained(model, folder, "net", best)
    return recipe, model.eval()


def _card(folder: Path, recipe: Recipe, best: bool, origin: str) -> str:
    settings, accuracy, fold = recipe.model, accuracies(folder)[best], fold_of(recipe)
    tested = "no clips" if fold is None else f"fold {fold}"
    numbers: dict[str, float | str] = {}
    if accuracy is not None:
        chosen = ", the best of all evaluations on it" if best else ""
        numbers[f"accuracy on {tested}, {recipe.crops} crops{chosen}"] = f"{_percent(accuracy)} %"
    learned = f"folds {', '.join(map(str, settings.folds))}" if settings.folds else "all clips"
    learned += f" of data.divide={settings.divide}" if settings.divide else ""
    return PACKAGE.card(
        f"ACDNet, {len(settings.labels)} classes",
        f"Sound classification on raw audio at {settings.rate} Hz: {', '.join(settings.labels)}. "
        f"Output channels of its convolutions: {', '.join(map(str, settings.channels))}." + (origin and f" {origin}"),
        f"Trained on {recipe.data.root.name}, {learned}, for {recipe.epochs} epochs; tested on {tested}. "
        "The data set has a licence of its own.",
        numbers,
    )
