"""Compression of a trained ACDNet to a number of parameters: sparse training, pruning, tuning, distillation.

Every stage is an ordinary run in a folder of its own, and pruning is one for each round. So a compression that was
stopped goes on where it stood when the same command is given again, and what a stage left is exported like any run.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from audio_core import command, config
from audio_core.data.seeds import mix
from audio_core.files import InputError, note, read_json, write_text
from audio_core.report import Report
from audio_core.train.fit import Watcher
from audio_core.train.player import Task
from audio_core.train.results import journal, states
from audio_core.train.run import Run
from torch import Tensor

from .. import PACKAGE, cost
from ..config import CONVOLUTIONS, MICRO
from ..data.clips import Dataset, read
from ..data.listing import listed
from ..evaluate import evaluate
from ..model import ACDNet
from ..recipe import Distil, Recipe, Steps
from ..task import divergence
from ..train import Items, Job, accuracies, advance, held_out, release, teacher_of, trained
from . import prune
from .stages import Compression, Stage

HEADER = ("stage", "parameters", "MACs", "weights not zero", "accuracy %")


class Row(NamedTuple):
    """What a stage left."""

    stage: str
    channels: tuple[int, ...]
    parameters: int
    macs: int
    weights: int
    """Those of convolutions and output that are not zero."""
    accuracy: float | None
    """On the fold held out, 0 to 1; None where there is none."""


def compress(
    run: str | Path,
    settings: Compression,
    out: str | Path | None = None,
    device: str = "auto",
    quiet: bool = False,
    line: str = "",
) -> list[Row] | None:
    """Compress the network of a training run, into the folder `out` or `compressed` inside the run's.

    The rows are those of the run and of each stage; None when it was asked to stop before the last. `line` is the
    command line, for the foot of the report.
    """
    job = _open(Path(run), settings, Path(out) if out else Path(run) / "compressed", device, quiet)
    net, rows = job.net, [_row("run", job.net, job.run)]
    for name, stage in (("sparsify", _sparsify), ("prune", _prune), ("tune", _tune), ("distil", _distil)):
        job.say(f"{name}: {rows[-1].parameters:,} parameters, {rows[-1].weights:,} weights not zero")
        try:
            folder = stage(job, net)
        except _Stopped:
            return None
        net = trained(folder)[1]
        rows.append(_row(name, net, folder))
        write_text(job.out / "stages.json", json.dumps(plain(rows), indent=1) + "\n")
    origin = f"Compressed from a model of {rows[0].parameters:,} parameters."
    release(folder, job.out / "bundle", force=True, origin=origin)
    _report(job, rows, net, line)
    return rows


def plain(rows: Sequence[Row]) -> dict[str, Any]:
    """For JSON; at its top what the last stage left."""
    last, stages = rows[-1], [row._asdict() for row in rows]
    return {"accuracy": last.accuracy, "parameters": last.parameters, "stages": stages}


def table(rows: Sequence[Row]) -> str:
    """The rows as text for people."""
    return command.columns([HEADER, *(["-" if cell is None else cell for cell in line] for line in _lines(rows))])


def _lines(rows: Sequence[Row]) -> list[tuple[Any, ...]]:
    percent = [None if row.accuracy is None else 100 * row.accuracy for row in rows]
    return [(row.stage, row.parameters, row.macs, row.weights, at) for row, at in zip(rows, percent, strict=True)]


def _row(name: str, net: ACDNet, folder: Path) -> Row:
    settings, weights = net.config, sum(prune.density(net).values())
    counts = cost.parameters(settings), cost.macs(settings), weights
    return Row(name, settings.channels, *counts, accuracies(folder)[0])


# --- what all stages share ---------------------------------------------------------------------------------


class _Stopped(Exception):
    """A training saved its state and left before its end."""


@dataclass(frozen=True)
class _Job:
    run: Path
    recipe: Recipe
    """Of the run."""
    net: ACDNet
    """The network of the run."""
    teacher: ACDNet
    """The same, as the run released it."""
    settings: Compression
    target: int
    out: Path
    learned: Dataset
    tested: Dataset
    device: str
    quiet: bool

    def recipe_of(self, place: str, stage: Stage, net: ACDNet, **changes: Any) -> Recipe:
        """The recipe of the run with what a stage changes. Every place has a seed of its own, and so its own mixes."""
        own = {"epochs": stage.epochs, "optimizer": stage.optimizer, "schedule": stage.schedule, "distil": None}
        seed = mix(self.recipe.seed, zlib.crc32(place.encode()))
        recipe = replace(self.recipe, model=net.config, steps=Recipe.steps, seed=seed, **(own | changes))
        return recipe.for_data(len(self.learned.clips), net.config.labels, net.config.folds)

    def train(
        self,
        place: str,
        recipe: Recipe,
        net: ACDNet | None,
        first: Sequence[Watcher] = (),
        teacher: ACDNet | None = None,
    ) -> Path:
        """The run in the folder `place`, which is returned, to its end; it begins with `net`, or with new weights."""
        folder = self.out / place
        begin = (lambda _: net) if net else ACDNet
        job = Job(recipe, self.learned, self.tested, folder, self.device, self.quiet, begin, tuple(first), teacher)
        run = advance(job)
        run.close()
        if not run.finished:
            raise _Stopped
        return folder

    def say(self, text: str) -> None:
        if not self.quiet:
            note(text)


def _open(run: Path, settings: Compression, out: Path, device: str, quiet: bool) -> _Job:
    """All that can be wrong is checked here, before the first stage begins."""
    if command.processes() > 1:
        raise InputError("compress works in one process; start it without torchrun")
    recipe, net = trained(run)
    if (step := max(states(run))) < recipe.steps:
        raise InputError(f"{run}: stands at step {step} of {recipe.steps}; train it to its end first")
    target = _target(run, settings, net)
    if (out / "recipe.yaml").exists():
        raise InputError(f"{out}: holds a training run; choose another folder")
    listing = listed(recipe.data)
    (fold,) = held_out(recipe, listing)
    teacher = teacher_of(
        str(run / "bundle").replace("{", "{{").replace("}", "}}"), recipe.for_data(1, listing.labels, ())
    )
    _claim(out, settings, net)
    learned, tested = read(listing, recipe.model.rate).held_out(fold or -1)
    return _Job(run, recipe, net, teacher, settings, target, out, learned, tested, device, quiet)


def _target(run: Path, settings: Compression, net: ACDNet) -> int:
    """The number of parameters to come down to."""
    there, least = cost.parameters(net.config), cost.parameters(prune.smallest(net.config))
    if settings.target == "micro":
        target = cost.parameters(replace(net.config, channels=MICRO))
    else:
        target = settings.target
    if there <= target:
        raise InputError(f"{run}: has {there:,} parameters, which is not more than the target, {target:,}")
    if target < least:
        raise InputError(f"{run}: cannot have fewer than {least:,} parameters, and the target is {target:,}")
    return target


def _claim(out: Path, settings: Compression, net: ACDNet) -> None:
    """The folder is for this network and these settings; those of stages that have not begun may change."""
    path, begun = out / "compression.yaml", out / "network.json"
    digest = hashlib.sha256()
    for tensor in net.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    network = {"sha256": digest.hexdigest()}
    if begun.exists() and read_json(begun) != network:
        raise InputError(
            f"{out}: holds a compression of another network, or of this run before it went on; choose another folder"
        )
    if path.exists():
        differing = config.differences(config.load(Compression, path), settings)
        homes = {name: "prune" if name == "target" else name.partition(".")[0] for name in differing}
        if changed := [name for name, home in homes.items() if (out / home).exists()]:
            raise InputError(
                f"{out}: holds a compression with other settings (different: {', '.join(changed)}); "
                "choose another folder or the settings it began with"
            )
    write_text(begun, json.dumps(network) + "\n")
    write_text(path, config.dump(settings))


# --- the stages --------------------------------------------------------------------------------------------


def _sparsify(job: _Job, net: ACDNet) -> Path:
    stage = job.settings.sparsify

    def thin(task: Task, metrics: Mapping[str, Tensor], run: Run) -> None:
        prune.sparsify(task.players["net"].raw, stage.sparsity)

    return job.train("sparsify", job.recipe_of("sparsify", stage, net, average=0.0), net, [thin])


def _prune(job: _Job, net: ACDNet) -> Path:
    """Rounds of ranking, taking out and fine-tuning, each a run; the weights of a round go when the next is done."""
    stage, start = job.settings.prune, cost.parameters(net.config)
    places = [f"prune/round{number:0{len(str(stage.rounds))}}" for number in range(1, stage.rounds + 1)]
    begun = max((number for number, place in enumerate(places, 1) if states(job.out / place)), default=0)
    for number, place in enumerate(places, 1):
        aim = round(start * (job.target / start) ** (number / stage.rounds))
        if number < begun or (number > begun and cost.parameters(net.config) <= aim):
            continue
        if number == begun:
            net = trained(job.out / place)[1]
        else:
            shutil.rmtree(job.out / place, ignore_errors=True)  # it has no state
            net = _without(job, place, net, aim)
            job.say(f"round {number} of {stage.rounds}: {cost.parameters(net.config):,} parameters are left")
        rate = stage.optimizer.lr * stage.schedule(number - 1, stage.rounds)
        fixed = replace(stage, optimizer=replace(stage.optimizer, lr=rate), schedule=Steps(warmup_epochs=0, at=()))
        folder = job.train(place, job.recipe_of(place, fixed, net, average=0.0, keep=1), net)
        net = trained(folder)[1]
        for done in places[: number - 1]:
            shutil.rmtree(job.out / done / "state", ignore_errors=True)
            (job.out / done / "best.safetensors").unlink(missing_ok=True)
    return folder


def _without(job: _Job, place: str, net: ACDNet, parameters: int) -> ACDNet:
    """The network without the channels that matter least, ranked over an epoch of mixes."""
    recipe = job.recipe_of(place, job.settings.prune, net)
    items, device = Items(job.learned, recipe), command.device(job.device)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for at in range(0, len(job.learned.clips), recipe.batch):
            x, y = zip(*(items[index] for index in range(at, at + recipe.batch)), strict=True)
            yield torch.stack(x).to(device) * recipe.model.gain, torch.stack(y).to(device)

    ranking = prune.by_taylor(net.to(device), batches(), divergence)
    return prune.remove(net, prune.superfluous(ranking, net.config, parameters))


def _tune(job: _Job, net: ACDNet) -> Path:
    stage = job.settings.tune
    return job.train("tune", job.recipe_of("tune", stage, net), net if stage.weights == "kept" else None)


def _distil(job: _Job, net: ACDNet) -> Path:
    stage = job.settings.distil
    distil = Distil(teacher="the run", type=stage.type, temperature=stage.temperature, alpha=stage.alpha)
    return job.train("distil", job.recipe_of("distil", stage, net, distil=distil), net, teacher=job.teacher)


# --- the page ----------------------------------------------------------------------------------------------


def _report(job: _Job, rows: Sequence[Row], net: ACDNet, line: str) -> None:
    page = Report(f"Compression of {job.run}")
    page.table(HEADER, _lines(rows))
    tested = f"fold {job.tested.folds[0]}" if job.tested.clips else ""
    if tested:
        page.curve(f"Accuracy on {tested}, %", _curves(job, rows, "evaluate", "accuracy", 100), unit="epochs")
    page.curve(
        "Loss in training; that of distil has the teacher in it", _curves(job, rows, "train", "loss"), unit="epochs"
    )
    kept = zip(CONVOLUTIONS, rows[-1].channels, rows[0].channels, strict=True)
    page.bars("Channels that are left, %", {f"{name}: {left} of {all}": 100 * left / all for name, left, all in kept})
    if tested:
        page.heading(f"The result on {tested}")
        evaluate(net, job.tested, crops=job.recipe.crops).page(page)
    page.foot(f"{PACKAGE.name} {PACKAGE.version}", line)
    page.save(job.out / "report.html")


def _curves(job: _Job, rows: Sequence[Row], kind: str, name: str, scale: float = 1.0) -> dict[str, tuple[Any, Any]]:
    """A number in the journals of each stage, over the epochs of the whole compression."""
    curves: dict[str, tuple[Any, Any]] = {}
    over, epoch = 0, job.recipe.epoch_steps(len(job.learned.clips))
    for row in rows[1:]:
        x, y = curves[row.stage] = [], []
        for path in sorted((job.out / row.stage).rglob("log.jsonl")):
            entries = journal(path.parent)
            x += [(over + entry["step"]) / epoch for entry in entries if entry["kind"] == kind]
            y += [entry[name] * scale for entry in entries if entry["kind"] == kind]
            over += entries[-1]["step"]
    return curves
