"""Training by a recipe: a run that goes on where it stood, and the bundle it ends in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from audio_core import config
from audio_core.files import note
from audio_core.train.average import Average, warming
from audio_core.train.fit import fit
from audio_core.train.player import Metrics, Player, Task
from audio_core.train.results import Outcome, load_trained, recipe_of, results
from audio_core.train.run import Run
from audio_core.train.watch import Evaluate, Journal, Listen, Log, Save, reconstructions

from . import PACKAGE, data
from .config import CodecConfig, bitrates
from .model import NeuralCodec, build, finished, spread
from .recipe import Recipe
from .task import Coding, discriminators, generator


def train(recipe: Recipe, out: str | Path, device: str = "auto", quiet: bool = False) -> Outcome | None:
    """Train by `recipe` into `out`, from where it stands; None when it was asked to stop before its end."""
    out = Path(out)
    corpora = data.corpora(recipe.data, out / "headers.jsonl", quiet)
    held = [item for _, items in corpora for item in items]
    source = data.samples(recipe.data, [items for items, _ in corpora], recipe.model.rate, recipe.seed)
    run = Run(out, recipe, device, sum(len(items) for items, _ in corpora), quiet)
    torch.manual_seed(recipe.seed)  # the weights it begins with
    task = _task(recipe)
    journal = Journal(run)
    watchers: list[Any] = [Log(journal, quiet)]
    if held:
        clips = data.clips(recipe.data, held, recipe.model.rate)
        watchers.append(Evaluate(journal, clips, 8, "mel", lower=True, quiet=quiet))
        watchers += [_Codebooks(quiet), Listen(journal, lambda: reconstructions(task, clips, run), recipe.model.rate)]
    with journal:
        fit(task, source, run, [*watchers, Save()])
    if run.main and run.finished:
        release(out, out / "bundle", force=True)  # a run that went on makes it anew
    run.close()
    return Outcome(out, run.step) if run.finished else None


def _task(recipe: Recipe) -> Coding:
    net, discriminator = generator(first(recipe.model), recipe.weights), discriminators(recipe)
    average = Average(net, warming(recipe.average)) if recipe.average else None
    clip = recipe.clip or None
    player = Player(net, recipe.optimizer.build(net.parameters()), recipe.schedule, clip, average)
    if discriminator is None:
        return Coding(player, None, recipe)
    optimizer = recipe.discriminator_optimizer.build(discriminator.parameters())
    return Coding(player, Player(discriminator, optimizer, recipe.schedule, clip), recipe)


def first(config: CodecConfig) -> NeuralCodec:
    """A codec with the weights that a training begins with."""
    model = build(config)
    if config.learning == "moving":
        spread(model)
    return model


class _Codebooks:
    """Warns once when few of the entries are in use."""

    def __init__(self, quiet: bool):
        self.done = quiet

    def __call__(self, task: Task, metrics: Metrics, run: Run) -> None:
        if self.done or not run.main or run.step % run.plan.evaluate_every or "used" not in metrics:
            return
        share = float(metrics["used"])
        if share < 0.05:
            note(f"step {run.step}: {100 * share:.0f} % of the entries of the codebooks occur in a batch")
            self.done = True


# --- releasing ---------------------------------------------------------------------------------------------


def release(folder: str | Path, out: str | Path, best: bool = False, force: bool = False) -> NeuralCodec:
    """The codec of a run as a bundle: its last weights, or those of its best evaluation."""
    recipe, model = trained(folder, best)
    model = finished(model)
    PACKAGE.save(model, out, _card(Path(folder), recipe, best), force)
    return model


def trained(folder: str | Path, best: bool = False) -> tuple[Recipe, NeuralCodec]:
    """The recipe of a run and its codec, with the last weights or those of its best evaluation."""
    recipe = recipe_of(folder, Recipe)
    net = generator(first(recipe.model), recipe.weights)
    load_trained(net, folder, "codec", best, net.codec)
    return recipe, net.codec.eval()


def _card(folder: Path, recipe: Recipe, best: bool) -> str:
    settings, measured = recipe.model, results(folder, best)
    rates = bitrates(settings)
    named = {
        "mel": "distance of mel spectrograms",
        "si_sdr": "SI-SDR, dB",
        "bits": "entropy of a frame's codes in eight clips, bits",
    }
    kind = config.kind(type(settings))
    return PACKAGE.card(
        f"{kind}, {settings.rate / 1000:g} kHz, up to {rates[-1]:g} kbit/s",
        f"Neural codec of {settings.layers} codebooks of {settings.size} entries, a frame of {settings.hop} samples.",
        f"Trained on {', '.join(root.name for root in (recipe.data.root, *recipe.data.more))} for "
        f"{measured.get('step', recipe.steps)} steps. The recordings have licences of their own.",
        {text: measured[name] for name, text in named.items() if measured.get(name) is not None},
    )
