"""The learning task: audio through the codec and back, judged by spectra and by those who learn to tell."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from audio_core import metrics
from audio_core.loss import adversarial
from audio_core.loss.spectral import MelLoss, PowerMelLoss
from audio_core.nn.discriminate import DiscriminatorOutput, Discriminators, STFTDiscriminator, WaveDiscriminator
from audio_core.nn.quantize import usage
from audio_core.train.player import Metrics, Player
from torch import Tensor, nn

from .model import NeuralCodec, Reconstruction
from .recipe import Recipe


class Learner(nn.Module):
    """A codec, and what a run must remember about the balance of its losses."""

    def __init__(self, codec: NeuralCodec, balancer: adversarial.Balancer | None = None):
        super().__init__()
        self.codec, self.balancer = codec, balancer

    def forward(self, audio: Tensor, counts: Tensor | None) -> Reconstruction:
        return self.codec(audio, counts)


class Coding:
    """Two players, the codec and its discriminators; or one, while nobody discriminators."""

    def __init__(self, learner: Player, discriminators: Player | None, recipe: Recipe):
        self.learner, self.discriminators, self.recipe = learner, discriminators, recipe
        self.players: Mapping[str, Player] = {"codec": learner} | (
            {"discriminators": discriminators} if discriminators else {}
        )
        rate = recipe.model.rate
        self.mel, self.power = MelLoss(rate), PowerMelLoss(rate)
        self.together = recipe.model.learning == "moving_original"  # uses so many layers for all of a batch

    def step(self, batch: Tensor, at: int) -> Metrics:
        """Audio (B, 1, T)."""
        recipe, counts = self.recipe, self._counts(len(batch), batch.device)
        made, codes, rounding = self.learner(batch, counts)
        losses = self._distances(made, batch)
        learning = self.discriminators is not None and at >= recipe.discriminators.begin
        output: DiscriminatorOutput | None = None
        if self.discriminators and (learning or recipe.discriminators.from_start):
            output = self._discriminated(batch, made, learning)
            with self.discriminators.judging() as discriminator:
                said = discriminator(made)
            losses["adversarial"] = adversarial.hinge_generator(said.logits)
            real = [[each[: len(batch)] for each in features] for features in output.features]
            losses["features"] = adversarial.feature_matching(real, said.features, recipe.relative_features)
        weights = recipe.weights
        commitment = weights.commitment * rounding.sum()
        if self.learner.raw.balancer:
            total = self.learner.raw.balancer(losses, made)
        else:
            total = torch.stack([getattr(weights, name) * loss for name, loss in losses.items()]).sum()
        self.learner.update(total + commitment)
        told = {**losses, "commitment": commitment, "total": total + commitment}
        if self.discriminators and learning and output:
            real_logits, made_logits = zip(*(each.split(len(batch)) for each in output.logits), strict=True)
            told["discriminators"] = adversarial.hinge_discriminator(real_logits, made_logits)
            self.discriminators.update(told["discriminators"])
        entropy, share = usage(codes, recipe.model.size)
        told |= {"bits": entropy.sum(), "used": share.mean()}
        return {name: value.detach() for name, value in told.items()}

    def _discriminated(self, audio: Tensor, made: Tensor, learning: bool) -> DiscriminatorOutput:
        """What discriminators say of both: one pass serves their own lesson and, where audio is real, the codec's."""
        assert self.discriminators
        if learning:
            return self.discriminators(torch.cat([audio, made.detach()]))
        with torch.no_grad():
            return self.discriminators.raw(audio)

    def _counts(self, items: int, device: torch.device) -> Tensor | None:
        """How many layers each item is rebuilt from."""
        layers = self.recipe.model.layers
        if not self.recipe.dropout:
            return None
        draws = 1 if self.together else items
        few = torch.randint(1, layers + 1, (draws,), device=device)
        kept = torch.rand(draws, device=device) >= self.recipe.dropout
        return torch.where(kept, layers, few).expand(items)

    def _distances(self, made: Tensor, audio: Tensor) -> dict[str, Tensor]:
        weights = self.recipe.weights
        parts = {
            "mel": lambda: self.mel.to(audio.device)(made, audio),
            "power": lambda: self.power.to(audio.device)(made, audio),
            "wave": lambda: relative_error(made, audio),
        }
        return {name: part() for name, part in parts.items() if getattr(weights, name)}

    def evaluate(self, batch: Tensor) -> Metrics:
        made, codes, _ = self.release()(batch)
        entropy, share = usage(codes, self.recipe.model.size)
        ratios = metrics.si_sdr(made, batch)
        found = {
            "mel": self.mel.to(batch.device)(made, batch),
            "si_sdr": ratios[batch.any(-1)].mean(),  # silence has none; NaN, which does not count, of nothing else
            "bits": entropy.sum(),
            "used": share.mean(),
        }
        return found

    def release(self) -> NeuralCodec:
        """The averaged weights, where there are such."""
        return self.learner.average.net.codec if self.learner.average else self.learner.raw.codec


def relative_error(made: Tensor, audio: Tensor) -> Tensor:
    """Power of the difference over that of the audio, the mean over items; below -40 dB audio counts as -40 dB."""
    return ((made - audio).square().mean((1, 2)) / (audio.square().mean((1, 2)) + 1e-4)).mean()


def discriminators(recipe: Recipe) -> Discriminators | None:
    """Those that the recipe names, if any."""
    chosen, found = recipe.discriminators, {}
    if chosen.wave:
        found["wave"] = WaveDiscriminator(width=chosen.wave)
    if chosen.stft:
        found["stft"] = STFTDiscriminator(width=chosen.stft, swapped=chosen.swapped)
    return Discriminators(**found) if found else None


def learner(codec: NeuralCodec, recipe: Recipe) -> Learner:
    weights = recipe.weights
    if not weights.balanced:
        return Learner(codec)
    shares = {name: getattr(weights, name) for name in ("mel", "power", "wave", "adversarial", "features")}
    return Learner(codec, adversarial.Balancer({name: share for name, share in shares.items() if share}, decay=0.99))
