"""Training by a recipe: a run that goes on where it stood, and the bundle it ends in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from audio_core import command, config
from audio_core.train.fit import fit
from audio_core.train.results import Outcome, load_trained, recipe_of, results
from audio_core.train.run import Run
from audio_core.train.watch import Evaluate, Journal, Listen, Log, Save, reconstructions

from . import PACKAGE
from .data import Corpus, clips, samples
from .models.autoencoder import Autoencoder, folded
from .recipe import Recipe
from .task import Coding, coding, generator


def train(recipe: Recipe, out: str | Path, device: str = "auto", quiet: bool = False) -> Outcome | None:
    """Train by `recipe` into `out`, from where it stands; None when it was asked to stop before its end."""
    out, model = Path(out), recipe.model
    corpus = Corpus(recipe.data, model, out / "headers.jsonl", quiet or command.rank() > 0)
    run = Run(out, recipe, device, len(corpus), quiet)
    torch.manual_seed(recipe.seed)  # the weights it begins with
    task = coding(recipe, Autoencoder(model), recipe.epoch_steps(len(corpus)))
    journal = Journal(run)
    watchers: list[Any] = [Log(journal, quiet)]
    if corpus.held:
        held = clips(recipe.data, model, corpus.held)
        watchers.append(Evaluate(journal, held, 4, measure(task), lower=True, quiet=quiet))
        watchers.append(Listen(journal, lambda: reconstructions(task, held, run), model.rate))
    with journal:
        fit(task, samples(recipe.data, model, corpus.trained, recipe.seed), run, [*watchers, Save()])
    if run.main and run.finished:
        release(out, out / "bundle", force=True)  # a run that went on makes it anew
    run.close()
    return Outcome(out, run.step) if run.finished else None


def measure(task: Coding) -> str:
    """The distance that decides which weights are best: the first that the recipe learns from."""
    return next(iter(task.distances.parts))


# --- releasing ---------------------------------------------------------------------------------------------


def release(folder: str | Path, out: str | Path, best: bool = False, force: bool = False) -> Autoencoder:
    """The autoencoder of a run as a bundle: its last weights, or those of its best evaluation."""
    recipe, model = trained(folder, best)
    model = folded(model)
    PACKAGE.save(model, out, _card(Path(folder), recipe, model, best), force)
    return model


def trained(folder: str | Path, best: bool = False) -> tuple[Recipe, Autoencoder]:
    """The recipe of a run and its autoencoder, with the last weights or those of its best evaluation."""
    recipe = recipe_of(folder, Recipe)
    net = generator(recipe, Autoencoder(recipe.model))
    load_trained(net, folder, "autoencoder", best, net.autoencoder)
    return recipe, net.autoencoder.eval()


_MEASURED = {
    "si_sdr": "SI-SDR, dB",
    "spectral": "distance of spectrograms",
    "mel": "distance of mel spectrograms",
    "phase": "distance of changes of phase",
    "l1": "mean absolute error",
    "l2": "mean squared error",
    "latent_std": "deviation of the latents",
}


def _card(folder: Path, recipe: Recipe, model: Autoencoder, best: bool) -> str:
    settings, measured, data = recipe.model, results(folder, best), recipe.data
    encoder = config.kind(type(settings.encoder)).removesuffix("Encoder")
    neck = config.kind(type(settings.bottleneck)) if settings.bottleneck else "no"
    sides = {1: "mono", 2: "stereo"}.get(settings.channels, f"{settings.channels} channels")
    frames = f"{settings.rate / model.hop:.4g} frames a second"
    names = ", ".join(root.name for root in (data.root, *data.more))
    validated = "; the numbers are of the files held out" if measured else ""
    return PACKAGE.card(
        f"{encoder} autoencoder, {settings.rate / 1000:g} kHz, {sides}",
        f"Audio to {model.width} channels of latents with {frames}, and back; {neck} bottleneck.",
        f"Trained on {names} for {measured.get('step', recipe.steps)} steps{validated}. "
        "The recordings have licences of their own.",
        {text: measured[name] for name, text in _MEASURED.items() if measured.get(name) is not None},
    )
