"""Training by a recipe: a run that goes on where it stood, and the bundle it ends in."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from audio_core import config
from audio_core.files import InputError, note
from audio_core.nn.joint_norm import join
from audio_core.train.average import Average, warming
from audio_core.train.fit import fit
from audio_core.train.player import Player
from audio_core.train.results import Outcome, load_trained, recipe_of, results, states
from audio_core.train.run import Run
from audio_core.train.watch import Evaluate, Journal, Listen, Log, Save
from torch import Tensor

from . import PACKAGE
from .data.corpus import corpora
from .data.samples import Held, Mixtures
from .models import MODELS, load
from .models.separator import SpectrogramSeparator
from .recipe import Recipe
from .task import Separation, mixture

LISTEN_SECONDS = 10


def train(recipe: Recipe, out: str | Path, device: str = "auto", quiet: bool = False) -> Outcome | None:
    """Train by `recipe` into `out`, from where it stands; None when it was asked to stop before its end."""
    out, model = Path(out), recipe.model
    learned, held = corpora(recipe.data, out / "headers.jsonl", quiet)
    source = Mixtures(recipe.data, learned, model.rate, model.channels, recipe.seed)
    begin = _pretrained(recipe) if recipe.pretrained and not states(out) else None  # a run that goes on has learnt more
    run = Run(out, recipe, device, quiet=quiet)
    torch.manual_seed(recipe.seed)  # the weights it begins with
    task = _task(recipe, begin, run.accelerator.num_processes)
    journal = Journal(run)
    watchers: list[Any] = [Log(journal, quiet)]
    if any(held.values()):
        items = Held(recipe.data, held, model.rate, model.channels, model.sources[0])
        if run.main and not quiet:
            what = "songs" if items.songs else "mixtures, since the sources held out are not of the same songs"
            note(f"validation on {len(items)} {what}")
        watchers.append(Evaluate(journal, items, 1, "sdr", quiet=quiet))  # of many lengths
        watchers.append(Listen(journal, lambda: _sounds(task, items, run), model.rate))
    with journal:
        fit(task, source, run, [*watchers, Save()])
    if run.main and run.finished:
        release(out, out / "bundle", force=True)  # a run that went on makes it anew
    run.close()
    return Outcome(out, run.step) if run.finished else None


def _task(recipe: Recipe, begin: SpectrogramSeparator | None, processes: int) -> Separation:
    net = _build(recipe)
    if begin:
        net.load_state_dict(begin.state_dict())
    if processes > 1:
        join(net)
    else:  # a fifth less work on processors; the gradients of several processes are joined in the usual order
        net = net.to(memory_format=torch.channels_last)
    average = Average(net, warming(recipe.average)) if recipe.average else None
    optimizer = recipe.optimizer.build(net.parameters())
    return Separation(Player(net, optimizer, recipe.schedule, recipe.clip or None, average), recipe)


def _build(recipe: Recipe) -> SpectrogramSeparator:
    return MODELS[config.kind(type(recipe.model))](recipe.model)


def _pretrained(recipe: Recipe) -> SpectrogramSeparator:
    """The model of a bundle; what its sources are called does not matter."""
    model = load(recipe.pretrained)
    expected = replace(recipe.model, sources=model.config.sources)
    if model.config != expected or len(model.config.sources) != len(recipe.model.sources):
        names = config.differences(model.config, expected) or ["sources"]
        raise InputError(
            f"{recipe.pretrained}: is another model than that of the recipe (different: {', '.join(names)})"
        )
    return model


def _sounds(task: Separation, items: Held, run: Run) -> Mapping[str, Tensor]:
    """The beginnings of the first songs held out: the mixture, and each source as it is and as it is estimated."""
    sounds: dict[str, Tensor] = {}
    recipe = task.recipe
    for at in range(min(3, len(items))):
        song = {source: x[:, : LISTEN_SECONDS * recipe.model.rate] for source, x in items[at].items()}
        mixed = mixture({source: x[None] for source, x in song.items()}, recipe.data.inputs)
        sounds[f"song{at}-mixture"] = mixed[0]
        for source, estimate in task.separate(mixed.to(run.accelerator.device)).items():
            sounds |= {f"song{at}-{source}": song[source], f"song{at}-{source}-estimate": estimate[0].cpu()}
    return sounds


# --- releasing ---------------------------------------------------------------------------------------------


def release(folder: str | Path, out: str | Path, best: bool = False, force: bool = False) -> SpectrogramSeparator:
    """The model of a run as a bundle: its last weights, or those of its best evaluation."""
    recipe, model = trained(folder, best)
    PACKAGE.save(model, out, _card(Path(folder), recipe, best), force)
    return model


def trained(folder: str | Path, best: bool = False) -> tuple[Recipe, SpectrogramSeparator]:
    """The recipe of a run and its model, with the last weights or those of its best evaluation."""
    recipe = recipe_of(folder, Recipe)
    model = _build(recipe)
    load_trained(model, folder, "model", best)
    return recipe, model.eval()


def _card(folder: Path, recipe: Recipe, best: bool) -> str:
    settings, measured, data = recipe.model, results(folder, best), recipe.data
    places = itertools.chain([str(data.packs)] * bool(data.packs), *data.sources.values())
    names = sorted({Path(place).name for place in places})
    sides = "stereo" if settings.channels == 2 else f"{settings.channels} channels"
    beginning = f", begun with the weights of {recipe.pretrained}," if recipe.pretrained else ""
    validated = "; the numbers are of its validation" if measured else ""
    return PACKAGE.card(
        f"{config.kind(type(settings))}: {', '.join(settings.sources)}",
        f"Separates {' and '.join(settings.sources)} from mixtures with {' and '.join(data.inputs)}, "
        f"{settings.rate / 1000:g} kHz, {sides}.",
        f"Trained on {', '.join(names)} for {measured.get('step', recipe.steps)} steps{beginning}{validated}. "
        "The recordings have licences of their own.",
        {f"SDR of {source}, dB": measured[f"sdr_{source}"] for source in settings.sources if _known(measured, source)},
    )


def _known(measured: Mapping[str, Any], source: str) -> bool:
    return measured.get(f"sdr_{source}") is not None
