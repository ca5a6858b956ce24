"""The learning tasks of diffusion and of language models.

From an item with noise a diffusion network estimates v, or a rectified flow's velocity; a language model predicts each
code from those before.

All draws of a step follow from the seed and the index of each item, so they depend on neither the size of a batch nor
the number of processes. A mean over real frames is one over those of all processes. It is one for each accumulated
pass: where padding does not count, and in language models, `accumulate` differs a little from a larger batch.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, cast

import torch
from audio_core.data.seeds import mix
from audio_core.files import InputError
from audio_core.train.average import Average, delayed
from audio_core.train.player import Metrics, Player, Task
from torch import Generator, Tensor

from .config import AudioConfig, DiffusionConfig, LMConfig
from .config.diffusion_autoencoder import DiffusionAutoencoderConfig
from .data import Batch
from .diffusion.objectives import mse, noised
from .diffusion.timesteps import Timesteps, shift
from .losses import SpectralDistance, diffusion_loss, fixed_noise
from .masks import inpainting_masks
from .models.diffusion import Diffusion, inpainting
from .models.diffusion_autoencoder import DiffusionAutoencoder, Estimate
from .models.guidance import TOKENS
from .models.language import Loss
from .models.lm import LM
from .models.transformer import ContinuousTransformer
from .recipe import Recipe

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""The times at which a model is tested."""


class Diffusing:
    """One player, the network with its conditioners. Audio is encoded by a codec that does not learn."""

    def __init__(self, player: Player, recipe: Recipe, encodes: bool = False):
        self.player, self.recipe, self.encodes = player, recipe, encodes
        self.players = {"model": player}
        self.timesteps = Timesteps(recipe.timesteps, recipe.seed)

    def step(self, batch: Batch, at: int) -> Metrics:
        x = self._latents(batch)
        t, noise, chosen = self._draws(batch, x)
        loss = self._loss(self.player, x, t, noise, batch, chosen, at)
        self.player.update(loss)
        return {"loss": loss.detach(), "latent_std": x.std()}

    def _draws(self, batch: Batch, x: Tensor) -> tuple[Tensor, ...]:
        """The times (B,), the noise (B, C, T) and which kinds of tokens are left out, of a batch."""
        draws = [self._drawn(int(index), item) for index, item in zip(batch.index.tolist(), x, strict=True)]
        return tuple(torch.stack(each).to(x.device) for each in zip(*draws, strict=True))

    def _drawn(self, index: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The time (), the noise (C, T) and which kinds of tokens are left out, of one item."""
        generator = draws_of(self.recipe, index)
        chosen = chosen_of(generator, self.recipe)
        t = self.timesteps(1, index, generator)[0]
        return t, torch.randn(like.shape, generator=generator), chosen

    def _loss(
        self,
        network: Player | Diffusion,
        x: Tensor,
        t: Tensor,
        noise: Tensor,
        batch: Batch,
        chosen: Tensor | None = None,
        at: int | None = None,
    ) -> Tensor:
        settings, model = cast(DiffusionConfig, self.recipe.model), self.player.raw
        if settings.distribution_shift and at is not None:
            t = shift(t, x.shape[-1], settings.distribution_shift)
        extra = inpainting(x, self._masks(batch, x)) if settings.inpaints else None
        counted = batch.real if self._counts_real(at) else None
        return diffusion_loss(network, model.objective, x, t, noise, batch.facts, batch.real, extra, chosen, counted)

    def _counts_real(self, at: int | None) -> bool:
        """Whether only real frames count in a step."""
        if not self.recipe.mask_padding:
            return False
        dropout = self.recipe.mask_padding_dropout if at is not None else 0.0
        return random.Random(mix(self.recipe.seed, at or 0)).random() >= dropout

    def _masks(self, batch: Batch, x: Tensor) -> Tensor:
        """(B, 1, T)."""
        real = batch.real.float()
        masks = [
            inpainting_masks(real[at : at + 1], self.recipe.inpainting, random.Random(mix(self.recipe.seed, index, 1)))
            for at, index in enumerate(batch.index.tolist())
        ]
        return torch.cat(masks).to(x.dtype)

    def _latents(self, batch: Batch) -> Tensor:
        if not self.encodes:
            return batch.values
        with torch.no_grad():
            return self.player.raw.encode(batch.values)

    def evaluate(self, batch: Batch) -> Metrics:
        """The loss at a few times, with noise that is the same in every evaluation."""
        x, model = self._latents(batch), self.release()
        losses = {}
        for at, level in enumerate(LEVELS):
            noise = fixed_noise(batch.index.tolist(), x, at)
            t = torch.full((len(x),), level, device=x.device)
            losses[f"loss_{level}"] = self._loss(model, x, t, noise, batch)
        return {"loss": torch.stack([*losses.values()]).mean(), **losses}

    def release(self) -> Diffusion:
        return released(self.player)


class Decoding(Diffusing):
    """One player, a diffusion autoencoder: it learns audio under the condition of its code.

    An encoder of its own learns with it, also by the losses of its bottleneck.
    """

    def __init__(self, player: Player, recipe: Recipe, encodes: bool = False):
        super().__init__(player, recipe, encodes)
        config = cast(DiffusionAutoencoderConfig, recipe.model)
        self.weight = config.latents.reconstruction if config.latents else 0.0
        if self.weight and not encodes:
            raise InputError("model.latents.reconstruction: compares audio; data.root must hold audio and no latents")
        self.distance = SpectralDistance(config.frames * config.signal.hop) if self.weight else None
        self.frozen = [self.distance] if self.distance else []

    def _latents(self, batch: Batch) -> Tensor:
        if not self.encodes:
            return batch.values
        with torch.no_grad():
            return self.player.raw.signal(batch.values)

    def step(self, batch: Batch, at: int) -> Metrics:
        x = self._latents(batch)  # (B, C, T), audio or latents
        t, noise, _ = self._draws(batch, x)
        seeds = [mix(self.recipe.seed, index, 2) for index in batch.index.tolist()]
        error, estimate = self.estimated(self.player, x, t, noise, seeds)
        weights = self.player.raw.loss_weights
        loss = error + sum(weights[name] * each for name, each in estimate.losses.items())
        losses = {"mse": error, **estimate.losses}
        if self.distance:
            losses["spectral"] = self.distance(self._heard(x, t, noise, estimate, batch), batch.values)
            loss = loss + self.weight * losses["spectral"]
        self.player.update(loss)
        losses = {"loss": loss, **losses}
        return {name: each.detach() for name, each in losses.items()} | {"latent_std": estimate.code.detach().std()}

    def _heard(self, x: Tensor, t: Tensor, noise: Tensor, estimate: Estimate, batch: Batch) -> Tensor:
        """The estimate of latents x without noise, as audio."""
        model = self.player.raw
        latents = model.objective.denoised(noised(model.objective, x, noise, t), estimate.v.float(), t)
        return model.audio(latents, batch.values.shape[-1])

    def estimated(
        self, network: Any, x: Tensor, t: Tensor, noise: Tensor, seeds: Sequence[int] | None = None
    ) -> tuple[Tensor, Estimate]:
        """The mean squared error of v of audio or latents x (B, C, T), and what it is one of."""
        model, source = self.player.raw, x
        if model.encoder is None:
            with torch.no_grad():
                source = model.encode(x)
        estimate = network(noised(model.objective, x, noise, t), t, source, seeds)
        return mse(estimate.v.float(), model.objective.target(x, noise, t)), estimate

    def evaluate(self, batch: Batch) -> Metrics:
        """The error at a few times, with noise that is the same in every evaluation and the mean of the code."""
        x, model = self._latents(batch), self.release()
        losses, estimate = {}, None
        for at, level in enumerate(LEVELS):
            t = torch.full((len(x),), level, device=x.device)
            losses[f"loss_{level}"], estimate = self.estimated(model, x, t, fixed_noise(batch.index.tolist(), x, at))
        return {"loss": torch.stack([*losses.values()]).mean(), **losses, **estimate.losses}


class Predicting:
    """One player, the language model with its conditioners, on codes."""

    def __init__(self, player: Player, recipe: Recipe, encodes: bool = False):
        self.player, self.recipe, self.encodes = player, recipe, encodes
        self.players = {"model": player}

    def step(self, batch: Batch, at: int) -> Metrics:
        loss = self.player(self._codes(batch), batch.facts, batch.real, self._left_out(batch))
        self.player.update(loss.total)
        return self._named(loss)

    def _codes(self, batch: Batch) -> Tensor:
        """(B, K, T) of the codebooks that the model has."""
        if self.encodes:
            return self.player.raw.encode(batch.values)
        settings = cast(LMConfig, self.recipe.model).lm
        codes = batch.values[:, : settings.codebooks]
        if codes.shape[1] < settings.codebooks or int(codes.max()) >= settings.codebook_size:
            found = f"{codes.shape[1]} codebooks with codes up to {int(codes.max())}"
            wanted = f"{settings.codebooks} with codes below {settings.codebook_size}"
            raise InputError(f"{batch.facts[0].get('relpath', 'codes')}: {found}, and the model has {wanted}")
        return codes

    def _left_out(self, batch: Batch) -> Tensor:
        """Which kinds of tokens are left out of each item."""
        return torch.stack([chosen_of(draws_of(self.recipe, index), self.recipe) for index in batch.index.tolist()])

    def _named(self, loss: Loss) -> Metrics:
        each = {f"codebook{at}": value.detach() for at, value in enumerate(loss.codebooks)}
        return {"loss": loss.total.detach(), **each}

    def evaluate(self, batch: Batch) -> Metrics:
        return self._named(self.release()(self._codes(batch), batch.facts, batch.real))

    def release(self) -> LM:
        return released(self.player)


def draws_of(recipe: Recipe, index: int) -> Generator:
    """What draws for the item `index` of a training."""
    return Generator().manual_seed(mix(recipe.seed, index))


def chosen_of(generator: Generator, recipe: Recipe) -> Tensor:
    """Which kinds of tokens are left out."""
    return torch.rand(len(TOKENS), generator=generator) < recipe.cfg_dropout


def released(player: Player) -> Any:
    """The model with averaged weights, where there are such."""
    return player.average.net if player.average else player.raw


Model = Diffusion | DiffusionAutoencoder | LM


def build(config: AudioConfig) -> Model:
    """A new model."""
    if isinstance(config, LMConfig):
        return LM(config)
    if isinstance(config, DiffusionAutoencoderConfig):
        return DiffusionAutoencoder(config)
    return Diffusion(cast(DiffusionConfig, config))


def freeze_unused(model: Diffusion | LM) -> None:
    """Conditioners that no condition comes from get no gradient, for which several processes would wait."""
    config = model.config
    used = {*config.cross_attention_cond_ids, *config.prepend_cond_ids}
    if isinstance(config, DiffusionConfig):
        used |= {*config.global_cond_ids, *config.input_concat_ids}
    for key, conditioner in model.conditioner.conditioners.items():
        if key not in used or key in config.conditioning.pre_encoded_keys:
            conditioner.requires_grad_(False)


def learning(recipe: Recipe, model: Model, encodes: bool = False) -> Task:
    """The task of a recipe; with `encodes` its items are audio."""
    player = player_of(recipe, model)
    if isinstance(model, LM):
        return Predicting(player, recipe, encodes)
    return (Decoding if isinstance(model, DiffusionAutoencoder) else Diffusing)(player, recipe, encodes)


def player_of(recipe: Recipe, model: Model) -> Player:
    """A model that learns as a recipe says."""
    for module in model.modules():
        if isinstance(module, ContinuousTransformer):
            module.checkpointing = recipe.checkpointing
    if not isinstance(model, DiffusionAutoencoder):
        freeze_unused(model)
    # stable-audio-tools averages language models less often, and later.
    decay = delayed(recipe.average, 2 / 3, 10, 100) if isinstance(model, LM) else delayed(recipe.average)
    average = Average(model, decay) if recipe.average else None
    weights: Sequence[Tensor] = [each for each in model.parameters() if each.requires_grad]
    return Player(model, recipe.optimizer.build(weights), recipe.schedule, recipe.clip or None, average)
