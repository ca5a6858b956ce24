"""The learning task: audio through the codec and back, compared by spectra and by discriminators."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from audio_core import metrics
from audio_core.loss import adversarial
from audio_core.loss.spectral import MelLoss
from audio_core.nn.discriminate import DiscriminatorOutput, Discriminators
from audio_core.nn.quantize import usage
from audio_core.train.player import Metrics, Player
from torch import Tensor, nn

from .discriminators import STFTDiscriminator, WaveDiscriminator
from .model import NeuralCodec, Reconstruction
from .original import PowerMelLoss, SwappedSTFTDiscriminator
from .recipe import Recipe, Weights


class Generator(nn.Module):
    """A codec, and what a run must remember about the balance of its losses."""

    def __init__(self, codec: NeuralCodec, balancer: adversarial.Balancer | None = None):
        super().__init__()
        self.codec, self.balancer = codec, balancer

    def forward(self, audio: Tensor, counts: Tensor | None) -> Reconstruction:
        return self.codec(audio, counts)


class Coding:
    """Two players, the codec as generator and its discriminators; or the codec alone."""

    def __init__(self, generator: Player, discriminators: Player | None, recipe: Recipe):
        self.generator, self.discriminators, self.recipe = generator, discriminators, recipe
        self.players: Mapping[str, Player] = {"codec": generator} | (
            {"discriminators": discriminators} if discriminators else {}
        )
        rate = recipe.model.rate
        self.mel, self.power = MelLoss(rate), PowerMelLoss(rate)
        self.one_count = recipe.model.learning == "moving_original"  # all of a batch use as many layers

    def step(self, batch: Tensor, at: int) -> Metrics:
        """Audio (B, 1, T)."""
        recipe, counts = self.recipe, self._counts(len(batch), batch.device)
        estimate, codes, quantizer_losses = self.generator(batch, counts)
        losses = self._distances(estimate, batch)
        learning = self.discriminators is not None and at >= recipe.discriminators.begin
        output: DiscriminatorOutput | None = None
        if self.discriminators and (learning or recipe.discriminators.from_start):
            output = self._discriminated(batch, estimate, learning)
            losses |= self._adversarial(output, estimate, len(batch))
        weights = recipe.weights
        commitment = weights.commitment * quantizer_losses.sum()
        if self.generator.raw.balancer:
            total = self.generator.raw.balancer(losses, estimate)
        else:
            total = torch.stack([getattr(weights, name) * loss for name, loss in losses.items()]).sum()
        self.generator.update(total + commitment)
        values = {**losses, "commitment": commitment, "total": total + commitment}
        if self.discriminators and learning and output:
            real, fake = zip(*(each.split(len(batch)) for each in output.logits), strict=True)
            values["discriminators"] = adversarial.hinge_discriminator(real, fake)
            self.discriminators.update(values["discriminators"])
        entropy, share = usage(codes, recipe.model.size)
        values |= {"bits": entropy.sum(), "used": share.mean()}
        return {name: value.detach() for name, value in values.items()}

    def _discriminated(self, audio: Tensor, estimate: Tensor, learning: bool) -> DiscriminatorOutput:
        """The discriminators' output for real audio, followed by that for the estimate where they learn from both."""
        assert self.discriminators
        if learning:
            return self.discriminators(torch.cat([audio, estimate.detach()]))
        with torch.no_grad():
            return self.discriminators.raw(audio)

    def _adversarial(self, output: DiscriminatorOutput, estimate: Tensor, items: int) -> dict[str, Tensor]:
        """The generator's losses; the first `items` of `output` are of real audio."""
        weights = self.recipe.weights
        assert self.discriminators
        if not weights.adversarial and not weights.features:
            return {}
        with self.discriminators.judging() as discriminator:
            fake = discriminator(estimate)
        losses = {}
        if weights.adversarial:
            losses["adversarial"] = adversarial.hinge_generator(fake.logits)
        if weights.features:
            real = [[each[:items] for each in features] for features in output.features]
            losses["features"] = adversarial.feature_matching(real, fake.features, self.recipe.relative_features)
        return losses

    def _counts(self, items: int, device: torch.device) -> Tensor | None:
        """The number of layers that each item is decoded from."""
        layers = self.recipe.model.layers
        if not self.recipe.dropout:
            return None
        draws = 1 if self.one_count else items
        few = torch.randint(1, layers + 1, (draws,), device=device)
        kept = torch.rand(draws, device=device) >= self.recipe.dropout
        return torch.where(kept, layers, few).expand(items)

    def _distances(self, estimate: Tensor, audio: Tensor) -> dict[str, Tensor]:
        weights = self.recipe.weights
        parts = {
            "mel": lambda: self.mel.to(audio.device)(estimate, audio),
            "power": lambda: self.power.to(audio.device)(estimate, audio),
            "wave": lambda: relative_error(estimate, audio),
        }
        return {name: part() for name, part in parts.items() if getattr(weights, name)}

    def evaluate(self, batch: Tensor) -> Metrics:
        estimate, codes, _ = self.release()(batch)
        entropy, share = usage(codes, self.recipe.model.size)
        ratios = metrics.si_sdr(estimate, batch)
        return {
            "mel": self.mel.to(batch.device)(estimate, batch),
            "si_sdr": ratios[batch.any(-1)].mean(),  # silence has none; a mean of nothing is NaN, which is left out
            "bits": entropy.sum(),
            "used": share.mean(),
        }

    def release(self) -> NeuralCodec:
        """The codec with averaged weights, where there are such."""
        return self.generator.average.net.codec if self.generator.average else self.generator.raw.codec


def relative_error(estimate: Tensor, audio: Tensor) -> Tensor:
    """Power of the difference over that of the audio, the mean over items; below -40 dB audio counts as -40 dB."""
    return ((estimate - audio).square().mean((1, 2)) / (audio.square().mean((1, 2)) + 1e-4)).mean()


def discriminators(recipe: Recipe) -> Discriminators | None:
    """The discriminators of a recipe, if it has any."""
    settings, parts = recipe.discriminators, {}
    if settings.wave:
        parts["wave"] = WaveDiscriminator(width=settings.wave)
    if settings.stft:
        kind = SwappedSTFTDiscriminator if settings.swapped else STFTDiscriminator
        parts["stft"] = kind(width=settings.stft)
    return Discriminators(**parts) if parts else None


def generator(codec: NeuralCodec, weights: Weights) -> Generator:
    """The codec with the balancer of its losses, where `weights` ask for one."""
    if not weights.balanced:
        return Generator(codec)
    shares = {name: getattr(weights, name) for name in ("mel", "power", "wave", "adversarial", "features")}
    return Generator(codec, adversarial.Balancer({name: share for name, share in shares.items() if share}, decay=0.99))
