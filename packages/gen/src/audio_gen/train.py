"""Training by a recipe: a run that goes on where it stood, and the bundle it ends in."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from audio_core import command, config
from audio_core.files import InputError
from audio_core.train.fit import fit
from audio_core.train.results import Outcome, load_trained, recipe_of, results
from audio_core.train.run import Run
from audio_core.train.watch import Evaluate, Journal, Log, Save

from . import PACKAGE
from .adapters import attach, base_fingerprint, merge, network, save_adapter
from .adversarial import post_training
from .config import DiffusionConfig, LMConfig
from .config.diffusion_autoencoder import DiffusionAutoencoderConfig
from .data.corpus import Corpus
from .models.with_codec import open_codec
from .recipe import Recipe
from .task import Model, build, learning


def train(recipe: Recipe, out: str | Path, device: str = "auto", quiet: bool = False) -> Outcome | None:
    """Train by `recipe` into `out`, from where it stands; None when it was asked to stop before its end."""
    out = Path(out)
    view: Any = recipe.model.signal if isinstance(recipe.model, DiffusionAutoencoderConfig) else recipe.model
    corpus = Corpus(recipe.data, view, out, quiet=quiet or command.rank() > 0)
    recipe = _marked(_settled(recipe), corpus)
    run = Run(out, recipe, device, len(corpus), quiet)
    torch.manual_seed(recipe.seed)  # the weights it begins with
    model, base = beginning(recipe)
    begin: Callable[..., Any] = post_training if recipe.arc else learning
    task = begin(recipe, model, encodes=corpus.kind == "audio")
    journal = Journal(run)
    watchers: list[Any] = [Log(journal, quiet)]
    if tested := corpus.tests():
        watchers.append(Evaluate(journal, tested, recipe.batch, "loss", lower=True, quiet=quiet))
    with journal:
        fit(task, corpus.training(recipe.seed), run, [*watchers, Save()])
    if run.main and run.finished:
        if recipe.adapter:
            save_adapter(out / Adapted.FILE, network(trained(out)[1]), base)
        else:
            release(out, out / "bundle", force=True)  # a run that went on makes it anew
    run.close()
    outcome = Adapted if recipe.adapter else Outcome
    return outcome(out, run.step) if run.finished else None


def _settled(recipe: Recipe) -> Recipe:
    """The recipe with the model that it ends in: post-training makes one that is sampled in few steps."""
    if recipe.arc is None:
        return recipe
    if recipe.start is None:
        raise InputError("arc: post-trains a bundle; name it by `start`")
    return dataclasses.replace(recipe, model=few_steps(cast(DiffusionConfig, recipe.model)))


def few_steps(model: DiffusionConfig) -> DiffusionConfig:
    """What a rectified flow is after post-training; one that is so already stays, with its settings of sampling."""
    if model.objective != "rectified_flow":
        return model
    return dataclasses.replace(model, objective="rf_denoiser", sampling=None, guidance=None)


def _marked(recipe: Recipe, corpus: Corpus) -> Recipe:
    """The recipe with the fingerprint of the codec that its data are of, so that the model is used with no other."""
    model, codec = recipe.model, recipe.model.codec_user.codec
    if codec is None or codec.fingerprint:
        return recipe
    mark = open_codec(model).fingerprint() if corpus.kind == "audio" else corpus.fingerprint
    return dataclasses.replace(recipe, model=model.with_codec(dataclasses.replace(codec, fingerprint=mark.hex())))


class Adapted(Outcome):
    """A training that ended in an adapter."""

    FILE = "adapter.safetensors"

    @property
    def bundles(self) -> list[Path]:
        return [self.folder / self.FILE]


def beginning(recipe: Recipe) -> tuple[Model, bytes]:
    """The model that a training begins with, and the fingerprint of the weights that adapters stand beside."""
    model = build(recipe.model)
    if recipe.start:
        start = PACKAGE.model(recipe.start)
        begun = start.config
        own, wanted = begun.codec_user.codec, recipe.model.codec_user.codec
        if own and wanted and not own.fingerprint:  # as bundles from elsewhere may be
            begun = begun.with_codec(dataclasses.replace(own, fingerprint=wanted.fingerprint))
        if recipe.arc and isinstance(begun, DiffusionConfig) and begun.objective != "v":
            stated = cast(DiffusionConfig, recipe.model)
            begun = dataclasses.replace(
                begun, objective=stated.objective, sampling=stated.sampling, guidance=stated.guidance
            )
        if begun != recipe.model:
            names = ", ".join(config.differences(begun, recipe.model))
            raise InputError(f"{recipe.start}: is another model than that of the recipe (different: {names})")
        model.load_state_dict(start.state_dict())
    if not recipe.adapter:
        return model, b""
    base = base_fingerprint(network(model))
    attach(network(model), recipe.adapter)
    model.conditioner.requires_grad_(False)
    return model, base


# --- releasing ---------------------------------------------------------------------------------------------


def release(folder: str | Path, out: str | Path, best: bool = False, force: bool = False) -> Model:
    """The model of a run as a bundle: its last weights, or those of its best evaluation."""
    recipe, model = trained(folder, best)
    if recipe.adapter:
        merge(network(model))
    PACKAGE.save(model, out, _card(Path(folder), recipe, model, best), force)
    return model


def trained(folder: str | Path, best: bool = False) -> tuple[Recipe, Model]:
    """The recipe of a run and its model, with the last weights or those of its best evaluation."""
    recipe = recipe_of(folder, Recipe)
    model = build(recipe.model)
    if recipe.adapter:
        attach(network(model), recipe.adapter)
    load_trained(model, folder, "model", best)
    return recipe, model.eval()


def _card(folder: Path, recipe: Recipe, model: Model, best: bool) -> str:
    settings, measured, data = recipe.model, results(folder, best), recipe.data
    keys = ", ".join(settings.conditioning.conditioners) or "nothing"
    source = f" of {settings.codec.name}" if settings.codec else ""
    if isinstance(settings, LMConfig):
        title = f"Language model of codes{source}"
        how = f"{settings.lm.codebooks} codebooks, pattern {config.kind(type(settings.lm.pattern))}"
    elif isinstance(settings, DiffusionConfig):
        title = f"Diffusion of {'audio' if settings.hop == 1 else f'latents{source}'}"
        how = f"objective {settings.objective}, backbone {config.kind(type(settings.backbone))}"
    else:
        title = "Autoencoder that decodes by diffusion"
        keys = "the code of its own encoder" if settings.encoder else f"codes{source}"
        how = f"backbone {config.kind(type(settings.backbone))}"
    names = ", ".join(root.name for root in (data.root, *data.more))
    return PACKAGE.card(
        f"{title}, {settings.rate / 1000:g} kHz",
        f"Generates up to {settings.samples / settings.rate:.3g} s from {keys}; {how}.",
        f"Trained on {names} for {measured.get('step', recipe.steps)} steps. The data have licences of their own.",
        {"loss of what was held out": measured["loss"]} if measured.get("loss") is not None else {},
    )
