"""The learning task of adversarial relativistic-contrastive post-training (ARC, arXiv 2505.08175).

From an item with noise the model estimates the item in one step. Item and estimate get the same further noise, and a
discriminator scores both under the item's conditions. Even steps train the model, odd ones the discriminator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from audio_core.command import processes
from audio_core.data.seeds import mix
from audio_core.files import InputError
from audio_core.train.player import Metrics, Player
from torch import Tensor, distributed

from .config import DiffusionConfig
from .config.arc import PROMPT, ArcConfig
from .config.timesteps import TimestepsConfig
from .data import Batch
from .diffusion.objectives import noised
from .diffusion.timesteps import Timesteps, shift
from .models.arc import (
    ConditionedDiscriminator,
    counted_scores,
    relativistic_discriminator,
    relativistic_generator,
    score_change,
)
from .models.conditioners.stored import Features
from .models.diffusion import Diffusion, inpainting
from .recipe import Recipe
from .task import Diffusing, chosen_of, draws_of, freeze_unused, player_of

_CHANGE = 0.05  # standard deviation of the noise by which R1 and R2 are approximated


class Draws(NamedTuple):
    """Of a batch."""

    chosen: Tensor  # (B, kinds of tokens) that the model does without
    t: Tensor  # (B,), at which it estimates
    noise: Tensor  # (B, C, T)
    compared_t: Tensor  # (B,), at which the discriminator compares
    compared_noise: Tensor  # (B, C, T)


class PostTraining(Diffusing):
    """Two players, a diffusion model and its discriminator."""

    def __init__(self, player: Player, discriminator: Player, recipe: Recipe, encodes: bool = False):
        super().__init__(player, recipe, encodes)
        self.discriminator, self.settings = discriminator, cast(ArcConfig, recipe.arc)
        self.players = {"model": player, "discriminator": discriminator}
        levels = self.settings.noise_dist.generator, self.settings.noise_dist.discriminator
        self.levels = [  # by seeds of their own: Sobol sequences of one seed would go together
            Timesteps(TimestepsConfig(distribution=each), mix(recipe.seed, at)) for at, each in enumerate(levels)
        ]

    def step(self, batch: Batch, at: int) -> Metrics:
        x = self._latents(batch)
        items = [self._drawn_for(int(index), each) for index, each in zip(batch.index.tolist(), x, strict=True)]
        draws = Draws(*(torch.stack(each).to(x.device) for each in zip(*items, strict=True)))
        extra = inpainting(x, self._masks(batch, x)) if self.model.inpaints else None
        counted = batch.real if self.model.masks or self._counts_real(at) else None
        learns = self._train_discriminator if at % 2 else self._train_model
        return learns(x, draws, batch, extra, counted)

    @property
    def model(self) -> DiffusionConfig:
        return cast(DiffusionConfig, self.recipe.model)

    def _drawn_for(self, index: int, like: Tensor) -> Draws:
        """The draws of one item, without the first axis."""
        generator = draws_of(self.recipe, index)
        chosen = chosen_of(generator, self.recipe)
        t, compared = (level(1, index, generator)[0] for level in self.levels)
        if self.model.distribution_shift:
            t, compared = (shift(each, like.shape[-1], self.model.distribution_shift) for each in (t, compared))
        noise, compared_noise = (torch.randn(like.shape, generator=generator) for _ in range(2))
        return Draws(chosen, t, noise, compared, compared_noise)

    def _train_model(
        self, x: Tensor, draws: Draws, batch: Batch, extra: Mapping[str, Tensor] | None, real: Tensor | None
    ) -> Metrics:
        weights = self.settings.discriminator.weights
        estimate = self.estimated(self.player, x, draws, batch, extra, draws.chosen)
        pair = [self._compared(each, draws) for each in (x, estimate)]
        with self.discriminator.judging() as discriminator:
            scores = self._scores(discriminator, pair, draws, [batch.facts] * 2, extra, batch.real)
            counted = None if real is None else counted_scores(real, scores[0])
            loss = relativistic_generator(scores[0], scores[1], counted)
            self.player.update(weights.generator * loss)  # within: checkpointing computes the frozen network again
        return {"generator": loss.detach(), "latent_std": x.std(), "estimate_std": estimate.detach().std()}

    def _train_discriminator(
        self, x: Tensor, draws: Draws, batch: Batch, extra: Mapping[str, Tensor] | None, real: Tensor | None
    ) -> Metrics:
        settings, weights = self.settings.discriminator, self.settings.discriminator.weights
        with torch.no_grad():
            estimate = self.estimated(self.player.raw, x, draws, batch, extra)
        pair = [self._compared(each, draws) for each in (x, estimate)]
        inputs, facts = [*pair], [batch.facts] * 2
        if settings.include_grad_penalties:
            inputs += [each + _CHANGE * self._change(batch, each, at) for at, each in enumerate(pair)]
            facts += [batch.facts] * 2
        if settings.contrastive:
            inputs.append(pair[0])
            facts.append(self._with_other_prompts(batch.facts))
        # In one pass, for which DistributedDataParallel joins the gradients.
        scores = self._scores(self.discriminator, inputs, draws, facts, extra, batch.real)
        counted = None if real is None else counted_scores(real, scores[0])
        losses = {"discriminator": relativistic_discriminator(scores[0], scores[1], counted)}
        total = weights.discriminator * losses["discriminator"]
        if settings.include_grad_penalties:
            changes = [score_change(scores[at], scores[2 + at], counted) for at in range(2)]
            losses["grad_penalty"] = (changes[0] + changes[1]) / 2
            total = total + losses["grad_penalty"]
        if settings.contrastive:
            losses["contrastive"] = relativistic_discriminator(scores[0], scores[-1], counted)
            total = total + weights.contrastive * losses["contrastive"]
        self.discriminator.update(total)
        return {name: each.detach() for name, each in losses.items()}

    def estimated(
        self,
        network: Player | Diffusion,
        x: Tensor,
        draws: Draws,
        batch: Batch,
        extra: Mapping[str, Tensor] | None,
        chosen: Tensor | None = None,
    ) -> Tensor:
        """The items x (B, C, T) as the model estimates them in one step."""
        objective = self.player.raw.objective
        noisy = noised(objective, x, draws.noise, draws.t)
        output = network(noisy, draws.t, batch.facts, extra, chosen, batch.real)
        return objective.denoised(noisy, output.float(), draws.t)

    def _compared(self, x: Tensor, draws: Draws) -> Tensor:
        """Items or estimates as the discriminator sees them."""
        return noised(self.player.raw.objective, x, draws.compared_noise, draws.compared_t)

    def _scores(
        self,
        network: Any,
        inputs: Sequence[Tensor],
        draws: Draws,
        facts: Sequence[Sequence[Mapping[str, Any]]],
        extra: Mapping[str, Tensor] | None,
        real: Tensor,
    ) -> tuple[Tensor, ...]:
        """The scores (B, 1, S) of each of the inputs (B, C, T), under facts of its own."""
        count = len(inputs)
        repeated = {name: torch.cat([each] * count) for name, each in (extra or {}).items()} or None
        items = [item for each in facts for item in each]
        t, real = torch.cat([draws.compared_t] * count), torch.cat([real] * count)
        return network(torch.cat([*inputs]), t, items, repeated, None, real).chunk(count)

    def _change(self, batch: Batch, like: Tensor, at: int) -> Tensor:
        """Noise like items (B, C, T) or estimates, by which their scores must not change much."""
        seeds = [mix(self.recipe.seed, index, 3, at) for index in batch.index.tolist()]
        noise = [torch.randn(like.shape[1:], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack(noise).to(like.device)

    def _with_other_prompts(self, facts: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Copies of the facts with the prompts of the next items, of which the last one's are the next process's."""
        keys = [PROMPT, *filter(None, [self.model.conditioning.default_keys.get(PROMPT)])]
        prompts = [{key: each[key] for key in keys if key in each} for each in facts]
        following = [*prompts[1:], _of_next_process(prompts[0])]
        rest = [{key: value for key, value in each.items() if key not in keys} for each in facts]
        return [{**one, **prompt} for one, prompt in zip(rest, following, strict=True)]


def _of_next_process(prompt: Mapping[str, Any]) -> Any:
    """What the next process has given, after the last one the first; with one process its own."""
    if not distributed.is_initialized():
        return prompt
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, {key: _on_cpu(value) for key, value in prompt.items()})
    return values[(distributed.get_rank() + 1) % len(values)]


def _on_cpu(value: Any) -> Any:
    """A text, or features without the GPU of this process."""
    if isinstance(value, Features):
        return Features(*(each.cpu() if isinstance(each, Tensor) else each for each in value))
    return value.cpu() if isinstance(value, Tensor) else value


def post_training(recipe: Recipe, model: Diffusion, encodes: bool = False) -> PostTraining:
    """The task of a recipe with `arc`, whose discriminator begins with the weights of the model."""
    settings = cast(ArcConfig, recipe.arc)
    if settings.discriminator.contrastive and recipe.batch * processes() < 2:
        raise InputError("arc.discriminator.contrastive: takes the prompts of other items; give batch=2 or more")
    player = player_of(recipe, model)
    net = ConditionedDiscriminator(settings.discriminator, model)
    freeze_unused(net)
    weights = [each for each in net.parameters() if each.requires_grad]
    discriminator = Player(net, settings.optimizer.build(weights), settings.schedule, recipe.clip or None)
    return PostTraining(player, discriminator, recipe, encodes)
