"""The learning task: noisy speech to clean speech, compared by spectrograms and by a discriminator that knows PESQ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from audio_core import metrics
from audio_core.train.player import Metrics, Player
from torch import Tensor, nn

from .compressed import Compressed
from .config import DiscriminatorConfig
from .discriminator import MetricDiscriminator
from .loss import discriminator_losses, generator_losses, metric_loss, oversuppression_loss, spectral_loss
from .model import Estimate, SEMamba
from .recipe import Recipe
from .scores import PesqPool, pesq

Batch = Mapping[str, Tensor]  # "clean" and "noisy", (B, 1, T) each


class Enhanced(NamedTuple):
    estimate: Estimate
    audio: Tensor  # (B, T)


class Enhancement:
    """Two players, the generator and its metric discriminator; or the generator alone."""

    def __init__(self, generator: Player, discriminator: Player | None, recipe: Recipe, pool: PesqPool | None = None):
        if (discriminator is None) != (pool is None):
            raise ValueError("a discriminator and the PESQ that it learns from belong together")
        self.generator, self.discriminator, self.recipe, self.pool = generator, discriminator, recipe, pool
        self.players: Mapping[str, Player] = {"generator": generator} | (
            {"discriminator": discriminator} if discriminator else {}
        )

    def step(self, batch: Batch, at: int) -> Metrics:
        """The discriminator learns first, and the generator from the discriminator as it is then, as in the original.

        (With accumulated batches the discriminator therefore is one update ahead only in the last of them.)
        """
        clean, noisy = batch["clean"][:, 0], batch["noisy"][:, 0]
        stft, weights = self.generator.raw.stft, self.recipe.weights
        target, enhanced = stft(clean), self._enhanced(self.generator, noisy)
        learning = self.discriminator is not None and at >= self.recipe.discriminator.begin
        pending = self.pool.submit(enhanced.audio, clean) if self.pool and learning else None
        losses = generator_losses(enhanced.estimate, enhanced.audio, target, clean, stft)._asdict()
        if weights.spectral:
            losses["spectral"] = spectral_loss(enhanced.audio, clean, self.recipe.model.compress)
        if weights.oversuppression:
            losses["oversuppression"] = oversuppression_loss(enhanced.estimate.magnitude, target.magnitude)
        values = {}
        if self.discriminator and pending:
            values = self._discriminate(target, enhanced.estimate, pending.result().to(clean.device))
            with self.discriminator.judging() as discriminator:
                losses["metric"] = metric_loss(discriminator(target.magnitude, enhanced.estimate.magnitude))
        total = torch.stack([getattr(weights, name) * loss for name, loss in losses.items()]).sum()
        self.generator.update(total)
        return {name: value.detach() for name, value in {**losses, "total": total, **values}.items()}

    def _discriminate(self, target: Compressed, estimate: Estimate, scores: Tensor) -> Metrics:
        """A step of the discriminator, for the estimates' PESQ (B,)."""
        assert self.discriminator
        real = self.discriminator(target.magnitude, target.magnitude)
        fake = self.discriminator(target.magnitude, estimate.magnitude.detach())
        losses = discriminator_losses(real, fake, scores)
        self.discriminator.update(losses.real + losses.fake)
        failed = (~scores.isfinite()).float().mean()
        return {"real": losses.real, "fake": losses.fake, "pesq": scores.nan_to_num(1.0).mean(), "unscored": failed}

    def _enhanced(self, generator: Player | SEMamba, noisy: Tensor) -> Enhanced:
        stft: nn.Module = generator.raw.stft if isinstance(generator, Player) else generator.stft
        spectrum = stft(noisy)
        estimate = generator(spectrum.magnitude, spectrum.phase)
        return Enhanced(estimate, stft.inverse(estimate.magnitude, estimate.phase, noisy.shape[-1]))

    def evaluate(self, batch: Batch) -> Metrics:
        """Of whole recordings; PESQ is NaN where it is not installed or finds no speech."""
        model = self.release()
        missing = max(0, self.recipe.model.n_fft // 2 + 1 - batch["clean"].shape[-1])  # of what the STFT can reflect
        clean, noisy = (F.pad(batch[side][:, 0], (0, missing)) for side in ("clean", "noisy"))
        enhanced, target = self._enhanced(model, noisy), model.stft(clean)
        losses = generator_losses(enhanced.estimate, enhanced.audio, target, clean, model.stft)
        pairs = zip(enhanced.audio.cpu().numpy(), clean.cpu().numpy(), strict=True)
        scores = torch.tensor([pesq(one, other, model.config.rate) for one, other in pairs])
        return {
            "pesq": scores.nanmean(),
            "si_sdr": metrics.si_sdr(enhanced.audio, clean).mean(),
            "magnitude": losses.magnitude,
            "phase": losses.phase,
            "complex": losses.complex,
        }

    def release(self) -> SEMamba:
        """The generator with averaged weights, where there are such."""
        return self.generator.average.net if self.generator.average else self.generator.raw


def discriminator(recipe: Recipe) -> MetricDiscriminator | None:
    """The discriminator of a recipe, if it has one."""
    width = recipe.discriminator.width
    return MetricDiscriminator(DiscriminatorConfig(width)) if recipe.weights.metric else None
