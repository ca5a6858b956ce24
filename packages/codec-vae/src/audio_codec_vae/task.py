"""The learning task: audio through the autoencoder and back, compared by distances and by discriminators."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from audio_core import metrics
from audio_core.loss.adversarial import Balancer
from audio_core.nn.discriminate import DiscriminatorOutput
from audio_core.train.average import Average, delayed
from audio_core.train.player import Metrics, Player
from torch import Tensor, nn

from . import discriminators
from .loss import DISCRIMINATOR, GENERATOR, Distances, divergence, matched, weights
from .models.autoencoder import Autoencoder, Reconstruction
from .recipe import Recipe, by_epochs


class Generator(nn.Module):
    """An autoencoder, and what a run must remember about the balance of its losses."""

    def __init__(self, autoencoder: Autoencoder, balancer: Balancer | None = None):
        super().__init__()
        self.autoencoder, self.balancer = autoencoder, balancer

    def forward(self, audio: Tensor) -> Reconstruction:
        return self.autoencoder(audio)


class Coding:
    """Two players, the autoencoder as generator and its discriminator; or the autoencoder alone."""

    def __init__(self, generator: Player, discriminator: Player | None, recipe: Recipe, epoch_steps: int = 1):
        self.generator, self.discriminator, self.recipe = generator, discriminator, recipe
        self.epoch_steps = epoch_steps
        """Steps of an epoch, for a weight that grows by epochs."""
        self.players: Mapping[str, Player] = {"autoencoder": generator} | (
            {"discriminator": discriminator} if discriminator else {}
        )
        self.distances = Distances(recipe.losses, recipe.model.rate, recipe.model.channels)
        self.frozen = [self.distances]

    def step(self, batch: Tensor, at: int) -> Metrics:
        """Audio (B, C, T)."""
        estimate, encoded = self.generator(batch)
        adversary = self.recipe.discriminator
        weight = weights(self.recipe.losses, adversary, self.generator.updates)
        losses = self.distances(estimate, batch, weight)
        counts = adversary is not None and at >= adversary.warmup
        learns = adversary is not None and (counts or adversary.warmup_mode == "adv")
        output = self._discriminated(batch, estimate) if learns else None
        if counts and output:
            losses |= self._adversarial(output, estimate)
        if self.generator.raw.balancer:
            total = self.generator.raw.balancer(losses, estimate)
        else:
            total = torch.stack([weight[name] * loss for name, loss in losses.items()]).sum()
        bottleneck = self._named(encoded.losses)
        for name, loss in bottleneck.items():
            total = total + self._bottleneck_weight(name, at) * loss
        self.generator.update(total)
        values = {**losses, **bottleneck, "total": total, "latent_std": encoded.latents.std()}
        if self.discriminator and adversary and output:
            real, fake = zip(*(each.chunk(2) for each in output.logits), strict=True)
            values["discriminator"] = DISCRIMINATOR[adversary.loss](real, fake)
            self.discriminator.update(values["discriminator"])
        return {name: value.detach() for name, value in values.items()}

    def _discriminated(self, audio: Tensor, estimate: Tensor) -> DiscriminatorOutput:
        """What the discriminator learns from: its output for real audio, followed by that for the estimate."""
        assert self.discriminator
        return self.discriminator(torch.cat([audio, estimate.detach()]))

    def _adversarial(self, output: DiscriminatorOutput, estimate: Tensor) -> dict[str, Tensor]:
        """The generator's losses; the first half of `output` is of real audio."""
        adversary = self.recipe.discriminator
        assert self.discriminator and adversary
        if not adversary.adversarial and not adversary.features:
            return {}
        with self.discriminator.judging() as discriminator:
            fake = discriminator(estimate)
        losses = {}
        if adversary.adversarial:
            losses["adversarial"] = GENERATOR[adversary.loss](fake.logits)
        if adversary.features:
            real = [[layer.chunk(2)[0] for layer in network] for network in output.features]
            losses["features"] = matched(adversary, output._replace(features=real), fake)
        return losses

    def _named(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The bottleneck's losses, the divergence in the convention of the recipe."""
        bottleneck, convention = self.generator.raw.autoencoder.bottleneck, self.recipe.losses.kl.convention
        return {
            name: divergence(loss, bottleneck, convention) if name == "kl" else loss for name, loss in losses.items()
        }

    def _bottleneck_weight(self, name: str, at: int) -> float:
        losses = self.recipe.losses
        return losses.kl.at(at, self.epoch_steps) if name == "kl" else getattr(losses, name)

    def evaluate(self, batch: Tensor) -> Metrics:
        estimate, encoded = self.release()(batch)
        distances = self.distances(estimate, batch)
        ratios = metrics.si_sdr(estimate, batch)
        silent = ~batch.any(-1)
        return {
            **distances,
            **self._named(encoded.losses),
            "si_sdr": ratios[~silent].mean(),  # a mean of nothing is NaN, which is left out
            "latent_std": encoded.latents.std(),
        }

    def release(self) -> Autoencoder:
        """The autoencoder with averaged weights, where there are such."""
        return self.generator.average.net.autoencoder if self.generator.average else self.generator.raw.autoencoder


def generator(recipe: Recipe, autoencoder: Autoencoder) -> Generator:
    """What a run of the recipe stores of the autoencoder."""
    shares = {name: share for name, share in weights(recipe.losses, recipe.discriminator).items() if share}
    return Generator(autoencoder, Balancer(shares) if recipe.losses.balanced else None)


def coding(recipe: Recipe, autoencoder: Autoencoder, epoch_steps: int = 1) -> Coding:
    """The task of a recipe, for data of which an epoch has `epoch_steps` steps."""
    settings, net = recipe.discriminator, generator(recipe, autoencoder)
    average = Average(net, delayed(recipe.average)) if recipe.average else None
    learning = [parameter for parameter in net.parameters() if parameter.requires_grad]
    schedule = by_epochs(recipe.schedule, epoch_steps)
    learner = Player(net, recipe.optimizer.build(learning), schedule, recipe.clip or None, average)
    if settings is None:
        return Coding(learner, None, recipe, epoch_steps)
    discriminator = discriminators.build(settings, recipe.model.channels, recipe.model.rate)
    optimizer = recipe.discriminator_optimizer.build(discriminator.parameters())
    schedule = by_epochs(recipe.discriminator_schedule, epoch_steps)
    player = Player(discriminator, optimizer, schedule, recipe.discriminator_clip or None)
    return Coding(learner, player, recipe, epoch_steps)
