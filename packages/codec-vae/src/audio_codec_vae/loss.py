"""The distances between audio and its reconstruction that a recipe asks for, and the losses of its discriminators."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from audio_core.dsp.precision import at_least_float32, full_precision
from audio_core.dsp.stft import STFT
from audio_core.loss import adversarial
from audio_core.loss.spectral import MelLoss, same_shape
from audio_core.nn.discriminate import DiscriminatorOutput
from torch import Tensor, nn

from .models.bottleneck import Bottleneck, LogVariance
from .recipe import Adversary, Losses, OobleckDiscriminator
from .spectral import SpectralLoss


class Distances(nn.Module):
    """All distances of a recipe, by name and without their weights. Audio is (B, C, T)."""

    def __init__(self, losses: Losses, rate: int, channels: int):
        super().__init__()
        self.parts, time = nn.ModuleDict(), losses.time
        if (spectral := losses.spectral) and spectral.weight:
            self.parts["spectral"] = SpectralLoss(spectral, rate, channels == 2)
            if channels == 2 and spectral.sides:
                self.parts["sides"] = SpectralLoss(spectral, rate)
        if (mel := losses.mel) and mel.weight:
            self.parts["mel"] = MelLoss(rate, mel.windows, mel.bands, mel.power, mel.log, mel.magnitude)
        if losses.phase and losses.phase.weight:
            self.parts["phase"] = PhaseLoss(losses.phase.windows)
        if time.l1:
            self.parts["l1"] = nn.L1Loss()
        if time.l2:
            self.parts["l2"] = nn.MSELoss()

    def forward(self, estimate: Tensor, target: Tensor, weight: Mapping[str, float] | None = None) -> dict[str, Tensor]:
        """All, or those whose weight is not 0."""
        parts = {name: loss for name, loss in self.parts.items() if weight is None or weight[name]}
        return {name: loss(estimate, target) for name, loss in parts.items()}


def weights(losses: Losses, adversary: Adversary | None, updates: int = 0) -> dict[str, float]:
    """The weights of all `Distances` and of the adversarial losses, after so many updates of the autoencoder."""
    parts = {name: getattr(losses, name) for name in ("spectral", "mel", "phase")}
    values = {name: part.weight if part else 0.0 for name, part in parts.items()}
    if losses.spectral:
        values["spectral"] *= losses.spectral.decay ** (updates + 1) if updates >= losses.spectral.begin else 0.0
        values["sides"] = losses.spectral.sides * values["spectral"]
    for name in ("l1", "l2"):
        values[name] = getattr(losses.time, name) * losses.time.decay ** (updates + 1)
    return values | ({"adversarial": adversary.adversarial, "features": adversary.features} if adversary else {})


def divergence(kl: Tensor, bottleneck: Bottleneck, convention: str) -> Tensor:
    """The KL divergence that a bottleneck gave, in a convention of `recipe.KL`."""
    own = "mean_over_channels" if isinstance(bottleneck, LogVariance) else "sum_over_channels"
    if convention == own:
        return kl
    return kl * 2 * bottleneck.width if own == "mean_over_channels" else kl / (2 * bottleneck.width)


# --- phases ----------------------------------------------------------------------------------------------


class PhaseLoss(nn.Module):
    """1 - cos of the difference between two signals' changes of phase: from frame to frame and from bin to bin.

    The first is the error of the instantaneous frequency, the second that of the group delay. Each is a mean weighted
    by the target's energy, so that the phase of what is not heard does not count: from 0 to 2, and 0.6 for two noises,
    since neighbours in an STFT share most of their samples. Weights by the energy of both would reward silence.
    """

    def __init__(self, windows: Sequence[int]):
        super().__init__()
        self.stfts = nn.ModuleList([STFT(window, window // 4) for window in windows])

    @full_precision
    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        same_shape(estimate, target)
        distances = []
        for stft in self.stfts:
            x, y = stft(estimate), stft(target)  # (B, C, F, frames)
            distances += [_turned(x, y, axis) for axis in (-1, -2)]
        return torch.stack(distances).mean()


def _turned(x: Tensor, y: Tensor, axis: int) -> Tensor:
    """The distance of changes of phase along an axis, which are the angles of products of neighbours."""
    x, y = (z.narrow(axis, 1, z.shape[axis] - 1) * z.narrow(axis, 0, z.shape[axis] - 1).conj() for z in (x, y))
    cosine = (x * y.conj()).real / (_length(x) * _length(y))
    energy = y.detach().abs()
    return (energy * (1 - cosine)).sum() / (energy.sum() + 1e-8)


def _length(z: Tensor) -> Tensor:
    """|z| whose gradient is finite at 0."""
    return (z.real.square() + z.imag.square() + 1e-16).sqrt()


# --- adversaries -----------------------------------------------------------------------------------------

Logits = Sequence[Tensor]


def shifted_hinge_discriminator(real: Logits, fake: Logits) -> Tensor:
    """DAC's in stable-audio-tools: relu(1 - real) + relu(fake)."""
    fakes = torch.stack([at_least_float32(each).relu().mean() for each in fake]).mean()
    return adversarial.hinge_generator(real) + fakes


DISCRIMINATOR: dict[str, Callable[[Logits, Logits], Tensor]] = {
    "hinge": adversarial.hinge_discriminator,
    "least_squares": adversarial.least_squares_discriminator,
    "shifted_hinge": shifted_hinge_discriminator,
}
GENERATOR: dict[str, Callable[[Logits], Tensor]] = {
    "hinge": adversarial.linear_generator,
    "least_squares": adversarial.least_squares_generator,
    "shifted_hinge": adversarial.hinge_generator,
}


def matched(settings: Adversary, real: DiscriminatorOutput, fake: DiscriminatorOutput) -> Tensor:
    """Feature matching: the mean over layers, then over networks; of the Oobleck discriminator the sum over layers."""
    if not isinstance(settings, OobleckDiscriminator):
        return adversarial.feature_matching(real.features, fake.features, settings.relative_features)
    reals, fakes = ([layer for network in output.features for layer in network] for output in (real, fake))
    return len(reals) * adversarial.feature_matching([reals], [fakes], settings.relative_features)
