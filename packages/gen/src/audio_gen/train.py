"""Training by a recipe: a run that goes on where it stood, and the bundle it ends in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from audio_core import command, config
from audio_core.train.fit import fit
from audio_core.train.results import Outcome, load_trained, recipe_of, results
from audio_core.train.run import Run
from audio_core.train.watch import Evaluate, Journal, Log, Save

from . import PACKAGE
from .data.corpus import Corpus
from .models.diffusion import Diffusion
from .recipe import Recipe
from .task import diffusing


def train(recipe: Recipe, out: str | Path, device: str = "auto", quiet: bool = False) -> Outcome | None:
    """Train by `recipe` into `out`, from where it stands; None when it was asked to stop before its end."""
    out, settings = Path(out), recipe.model
    corpus = Corpus(recipe.data, settings, out, quiet=quiet or command.rank() > 0)
    run = Run(out, recipe, device, len(corpus), quiet)
    torch.manual_seed(recipe.seed)  # the weights it begins with
    task = diffusing(recipe, Diffusion(settings), encodes=corpus.kind == "audio")
    journal = Journal(run)
    watchers: list[Any] = [Log(journal, quiet)]
    if tested := corpus.tests():
        watchers.append(Evaluate(journal, tested, recipe.batch, "loss", lower=True, quiet=quiet))
    with journal:
        fit(task, corpus.training(recipe.seed), run, [*watchers, Save()])
    if run.main and run.finished:
        release(out, out / "bundle", force=True)  # a run that went on makes it anew
    run.close()
    return Outcome(out, run.step) if run.finished else None


# --- releasing ---------------------------------------------------------------------------------------------


def release(folder: str | Path, out: str | Path, best: bool = False, force: bool = False) -> Diffusion:
    """The model of a run as a bundle: its last weights, or those of its best evaluation."""
    recipe, model = trained(folder, best)
    PACKAGE.save(model, out, _card(Path(folder), recipe, model, best), force)
    return model


def trained(folder: str | Path, best: bool = False) -> tuple[Recipe, Diffusion]:
    """The recipe of a run and its model, with the last weights or those of its best evaluation."""
    recipe = recipe_of(folder, Recipe)
    model = Diffusion(recipe.model)
    load_trained(model, folder, "model", best)
    return recipe, model.eval()


def _card(folder: Path, recipe: Recipe, model: Diffusion, best: bool) -> str:
    settings, measured, data = recipe.model, results(folder, best), recipe.data
    keys = ", ".join(settings.conditioning.conditioners) or "nothing"
    what = f"latents of {settings.codec.name}" if settings.codec else "audio" if settings.hop == 1 else "latents"
    names = ", ".join(root.name for root in (data.root, *data.more))
    return PACKAGE.card(
        f"Diffusion of {what}, {settings.rate / 1000:g} kHz",
        f"Generates up to {settings.samples / settings.rate:.3g} s from {keys}; objective {settings.objective}, "
        f"backbone {config.kind(type(settings.backbone))}.",
        f"Trained on {names} for {measured.get('step', recipe.steps)} steps. The data have licences of their own.",
        {"loss of what was held out": measured["loss"]} if measured.get("loss") is not None else {},
    )
