"""Training by a recipe: a run that goes on where it stood, and the bundle it ends in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from audio_core import command
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
from .data.pairs import corpora
from .data.samples import Held, training
from .model import SEMamba, load
from .original import discriminator_weights
from .recipe import Exponential, Recipe
from .scores import PesqPool
from .task import Enhancement, discriminator


def train(recipe: Recipe, out: str | Path, device: str = "auto", quiet: bool = False) -> Outcome | None:
    """Train by `recipe` into `out`, from where it stands; None when it was asked to stop before its end."""
    out = Path(out)
    learned, held = corpora(recipe.data, out / "headers.jsonl", quiet)
    source = training(recipe.data, learned, recipe.model.rate, recipe.seed)
    pool = PesqPool(recipe.model.rate, recipe.discriminator.workers) if recipe.weights.metric else None
    begin = {} if states(out) else _beginning(recipe)  # before a mistake could leave a folder
    run = Run(out, recipe, device, learned.files, quiet)
    torch.manual_seed(recipe.seed)  # the weights it begins with
    task = _task(recipe, learned.files, pool, begin)
    journal = Journal(run)
    watchers: list[Any] = [Log(journal, quiet)]
    if held.files:
        items = Held(recipe.data, held, recipe.model.rate)
        watchers.append(Evaluate(journal, items, 1, _best(quiet or not run.main), quiet=quiet))  # of many lengths
        watchers.append(Listen(journal, lambda: _sounds(task, items, run), recipe.model.rate))
    try:
        with journal:
            fit(task, source, run, [*watchers, Save()])
    finally:
        if pool:
            pool.close()
    if run.main and run.finished:
        release(out, out / "bundle", force=True)  # a run that went on makes it anew
    run.close()
    return Outcome(out, run.step) if run.finished else None


def _best(quiet: bool) -> str:
    """The metric that decides which weights are best."""
    if find_spec("pesq"):
        return "pesq"
    if not quiet:
        note('PESQ is not installed, so SI-SDR decides which weights are best: pip install "audio-semamba[metrics]"')
    return "si_sdr"


def _task(recipe: Recipe, files: int, pool: PesqPool | None, begin: Mapping[str, dict[str, Tensor]]) -> Enhancement:
    schedule = recipe.schedule
    if isinstance(schedule, Exponential) and not schedule.epoch:
        schedule = replace(schedule, epoch=recipe.epoch_steps(files))
    net = SEMamba(recipe.model)
    if "generator" in begin:
        net.load_state_dict(begin["generator"])
    net.checkpointing = recipe.checkpointing
    if command.processes() > 1:
        join(net)
    average = Average(net, warming(recipe.average)) if recipe.average else None
    generator = Player(net, recipe.optimizer.build(net.parameters()), schedule, recipe.clip or None, average)
    judge = discriminator(recipe)
    if judge is None:
        return Enhancement(generator, None, recipe)
    if "discriminator" in begin:
        judge.load_state_dict(begin["discriminator"])
    optimizer = recipe.discriminator_optimizer.build(judge.parameters())
    return Enhancement(generator, Player(judge, optimizer, schedule), recipe, pool)


def _beginning(recipe: Recipe) -> dict[str, dict[str, Tensor]]:
    """The weights that a training begins with where not with random ones, by the networks' names."""
    begin: dict[str, dict[str, Tensor]] = {}
    if recipe.pretrained:
        model = load(recipe.pretrained)
        asked, given = asdict(recipe.model), asdict(model.config)
        if others := [f"model.{name}={given[name]}" for name in asked if given[name] != asked[name]]:
            raise InputError(f"pretrained={recipe.pretrained}: another network; give {' '.join(others)} too")
        begin["generator"] = model.state_dict()
    if (judge := discriminator(recipe)) and recipe.discriminator.pretrained:
        begin["discriminator"] = discriminator_weights(recipe.discriminator.pretrained, judge.config)
    return begin


def _sounds(task: Enhancement, items: Held, run: Run) -> Mapping[str, Tensor]:
    """The first recordings of the validation: noisy, enhanced, clean."""
    sounds: dict[str, Tensor] = {}
    for at in range(min(3, len(items))):
        clean, noisy = items[at]["clean"], items[at]["noisy"]
        enhanced = task.release().enhance(noisy.to(run.accelerator.device)).cpu()
        scale = 0.9 / max(1e-8, *(float(x.abs().max()) for x in (clean, noisy, enhanced)))  # samples have an RMS of 1
        named = {"noisy": noisy, "enhanced": enhanced, "clean": clean}
        sounds |= {f"clip{at}-{name}": scale * x for name, x in named.items()}
    return sounds


# --- releasing ---------------------------------------------------------------------------------------------


def release(folder: str | Path, out: str | Path, best: bool = False, force: bool = False) -> SEMamba:
    """The model of a run as a bundle: its last weights, or those of its best evaluation."""
    recipe, model = trained(folder, best)
    PACKAGE.save(model, out, _card(Path(folder), recipe, best), force)
    return model


def trained(folder: str | Path, best: bool = False) -> tuple[Recipe, SEMamba]:
    """The recipe of a run and its model, with the last weights or those of its best evaluation."""
    recipe = recipe_of(folder, Recipe)
    model = SEMamba(recipe.model)
    load_trained(model, folder, "generator", best)
    return recipe, model.eval()


def _card(folder: Path, recipe: Recipe, best: bool) -> str:
    settings, measured, data = recipe.model, results(folder, best), recipe.data
    names = {"pesq": "PESQ, wide band", "si_sdr": "SI-SDR, dB"}
    kind = "causal, one frame at a time" if settings.causal else "bidirectional"
    speech = ", ".join(path.name for path in (data.train, *data.more))
    noise = [*(path.name for path in data.noise), *[f"made in code ({', '.join(data.made)})"] * bool(data.made)]
    mixed = f", noise where a recording has no noisy partner: {' and '.join(noise)}," if noise else ""
    begun = f", begun with the weights of {recipe.pretrained}," if recipe.pretrained else ""
    validated = "; the numbers are of its validation" if measured else ""
    return PACKAGE.card(
        f"SEMamba, {settings.channels} channels, {settings.blocks} blocks",
        f"Speech enhancement at {settings.rate / 1000:g} kHz, {kind}.",
        f"Trained on {speech}{mixed} for {measured.get('step', recipe.steps)} steps{begun}{validated}. "
        "The recordings have licences of their own.",
        {text: measured[name] for name, text in names.items() if measured.get(name) is not None},
    )
