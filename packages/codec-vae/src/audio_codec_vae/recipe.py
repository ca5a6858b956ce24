"""All settings of a training. Importing it needs no torch.

Defaults are those of stable-audio-tools' autoencoders, where nothing else is said.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from audio_core.train.optimize import SGD, Adam, AdamW, Constant, Cosine, Staircase
from audio_core.train.plan import Plan

from .config import AutoencoderConfig

# --- losses of the autoencoder ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Spectral:
    """Distance of spectrograms at several resolutions.

    Stereo is compared twice: as sum and difference of its channels, and as left and right.
    """

    weight: float = 1.0
    decay: float = 1.0
    """Multiplies the weight before each use, so that update n (from 0 on) has weight * decay^(n + 1)."""
    windows: tuple[int, ...] = (2048, 1024, 512, 256, 128, 64, 32)
    """In samples; hops are a quarter."""
    weighting: Literal["A", "K", "none"] = "A"
    """How both signals are filtered before: A as in auraloss, K as for loudness (ITU-R BS.1770)."""
    convergence: float = 1.0
    """Norm of the difference, relative to the norm of the magnitudes of `divide_by`."""
    log_magnitude: float = 1.0
    magnitude: float = 0.0
    phase: float = 0.0
    """Distance of the complex spectra, relative to their magnitudes."""
    divide_by: Literal["estimate", "target"] = "estimate"
    """`target` is the textbook's. stable-audio-tools divides by the estimate, which rewards loud estimates."""
    mel_bands: int = 0
    """Compares so many mel bands in place of the bins of the STFT; 0: bins."""
    sides: float = 1.0
    """Of stereo, the weight of left and right relative to that of sum and difference."""


@dataclass(frozen=True)
class Mel:
    """DAC's distance of log mel spectrograms, the sum over several resolutions. Its own recipe weighs it with 15."""

    weight: float = 15.0
    windows: tuple[int, ...] = (32, 64, 128, 256, 512, 1024, 2048)
    bands: tuple[int, ...] = (5, 10, 20, 40, 80, 160, 320)
    """Of each window."""
    power: float = 1.0
    log: float = 1.0
    """Weight of the distance of logarithms."""
    magnitude: float = 0.0
    """Weight of the distance of magnitudes."""

    def __post_init__(self) -> None:
        if len(self.windows) != len(self.bands):
            raise ValueError(f"bands: expected one number for each of {len(self.windows)} windows")


@dataclass(frozen=True)
class Phase:
    """Distance of the changes of phase over time and over frequency, of left and right, by the energy of the target."""

    weight: float = 1.0
    windows: tuple[int, ...] = (2048, 1024, 512)


@dataclass(frozen=True)
class Time:
    """Distances of the samples; 0 leaves one out."""

    l1: float = 0.0
    """Weight of the mean absolute difference."""
    l2: float = 0.0
    """Weight of the mean squared difference."""
    decay: float = 1.0
    """As in Spectral."""


@dataclass(frozen=True)
class KL:
    """The divergence of latents from a standard normal distribution. Its weight means nothing without its convention.

    For C channels of latents the sum is 2 C times the mean: a weight of 1e-4 of the sum over 64 channels is 0.0128 of
    the mean, and LyraCodec's 1e-6 of the mean is 7.8e-9 of the sum.
    """

    weight: float = 1e-6
    convention: Literal["sum_over_channels", "mean_over_channels"] = "sum_over_channels"
    """Of mean² + variance - ln variance - 1 the sum over channels (stable-audio-tools), or half the mean (LyraCodec).
    Both are means over items and frames."""
    anneal_steps: int = 0
    """The weight grows linearly from 0 in so many steps."""
    anneal_epochs: int = 0
    """The weight grows from 0 with each of so many epochs, and stays the same within one."""

    def __post_init__(self) -> None:
        if min(self.anneal_steps, self.anneal_epochs) < 0 or (self.anneal_steps and self.anneal_epochs):
            raise ValueError("anneal_steps or anneal_epochs: expected one of them above 0, or none")

    def at(self, step: int, epoch_steps: int) -> float:
        """The weight in a step, from 0 on, where an epoch has `epoch_steps`."""
        if self.anneal_epochs:
            return self.weight * min(1.0, step // epoch_steps / self.anneal_epochs)
        return self.weight * (min(1.0, step / self.anneal_steps) if self.anneal_steps else 1.0)


@dataclass(frozen=True)
class Losses:
    """What the autoencoder learns from, beside the discriminator."""

    spectral: Spectral | None = field(default_factory=Spectral)
    mel: Mel | None = None
    phase: Phase | None = None
    time: Time = field(default_factory=Time)
    kl: KL = field(default_factory=KL)
    mmd: float = 100.0
    """Weight of the maximum mean discrepancy of a Wasserstein bottleneck."""
    commitment: float = 0.25
    """Weight of the distance of latents to their entries, where codebooks learn by gradients."""
    codebook: float = 1.0
    """Weight of the distance of entries to the latents that chose them, where codebooks learn by gradients."""
    quantizer: float = 1.0
    """Weight of the distance of latents to their entries, where codebooks are moving averages."""
    softnorm: float = 1.0
    """Weight of the distance of a SoftNorm's latents from mean 0 and deviation 1."""
    balanced: bool = False
    """The weights of all but the bottleneck's losses are shares of the gradient, whatever the size of the losses."""

    def __post_init__(self) -> None:
        reconstruction = [part.weight for part in (self.spectral, self.mel, self.phase) if part]
        if not any([*reconstruction, self.time.l1, self.time.l2]):
            raise ValueError("one of spectral, mel, phase and time must have a weight above 0")
        if self.balanced and any(part.decay != 1 for part in (self.spectral, self.time) if part):
            raise ValueError("balanced: shares of the gradient do not decay; leave decay at 1")


# --- discriminators --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Adversary:
    """What all discriminators have in common."""

    adversarial: float = 0.1
    """Weight of the autoencoder's adversarial loss."""
    features: float = 5.0
    """Weight of feature matching."""
    loss: Literal["hinge", "least_squares", "shifted_hinge"] = "hinge"
    """The last is DAC's under `use_hinge`: generated audio counts from 0 on, not from -1."""
    relative_features: bool = False
    """Feature matching is relative to the mean of the real features."""
    warmup: int = 0
    """Steps in which the autoencoder does not learn from it. stable-audio-tools counts the steps of both networks, so
    its number is twice as large."""
    warmup_mode: Literal["adv", "full"] = "adv"
    """Whether it learns already during its warm-up: with `adv` it does, with `full` it does not."""

    def __post_init__(self) -> None:
        if self.warmup < 0:
            raise ValueError(f"warmup is from 0 on, got {self.warmup}")


@dataclass(frozen=True, kw_only=True)
class EncodecDiscriminator(Adversary):
    """Networks over complex STFTs of several windows, as stable-audio-tools builds them."""

    width: int = 32
    windows: tuple[int, ...] = (2048, 1024, 512, 256, 128)
    """In samples; hops are a quarter."""
    stride: int = 1
    """Over frequency. EnCodec's own has 2."""
    norm_first: bool = True
    """The first layer has weight norm. EnCodec's own has none."""
    power: float = 0.0
    """Spectra are multiplied by their magnitude to this power: a negative one lifts what is quiet."""


@dataclass(frozen=True, kw_only=True)
class DACDiscriminator(Adversary):
    """Networks over periods of samples, over bands of complex STFTs, and over lower rates."""

    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    windows: tuple[int, ...] = (2048, 1024, 512)
    rates: tuple[int, ...] = ()
    """Sampling rates in Hz for the last kind."""
    bands: tuple[float, ...] = (0.1, 0.25, 0.5, 0.75)
    """Where the bins of an STFT are cut, in parts of all of them."""
    width: int = 32
    """Channels of the first layers over periods and of all layers over bands."""
    loss: Literal["hinge", "least_squares", "shifted_hinge"] = "least_squares"

    def __post_init__(self) -> None:
        super().__post_init__()
        if list(self.bands) != sorted(set(self.bands)) or not all(0 < cut < 1 for cut in self.bands):
            raise ValueError(f"bands: expected rising parts between 0 and 1, got {list(self.bands)}")


@dataclass(frozen=True, kw_only=True)
class OobleckDiscriminator(Adversary):
    """RAVE's networks over scales and periods; their scores are summed before the hinge."""

    scales: int = 3
    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    width: int = 32
    """Channels of the first layers."""


@dataclass(frozen=True, kw_only=True)
class LyraDiscriminator(Adversary):
    """Those that LyraCodec's later revision defines and never trains: over periods, over scales, over one STFT."""

    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    scales: tuple[int, ...] = (1, 2, 4)
    """Of each the number of samples that it averages first."""
    window: int = 2048
    """Of the STFT; 0 leaves it out."""
    hop: int = 512
    width: int = 32
    """Channels of the first layers over periods and of all layers over the STFT."""


# --- learning rates --------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class InverseLR:
    """stable-audio-tools': (1 + n / inv_gamma)^-power, times 1 - warmup^(n + 1), for update n from 0 on."""

    inv_gamma: float = 1.0
    power: float = 1.0
    warmup: float = 0.0
    """From 0 to below 1; 0: none."""
    final: float = 0.0
    """The least factor. stable-audio-tools' `final_lr` is a learning rate: divide it by that of the optimizer."""

    def __post_init__(self) -> None:
        if self.inv_gamma <= 0 or not 0 <= self.warmup < 1:
            raise ValueError(f"expected inv_gamma above 0 and warmup from 0 to below 1, got {self}")

    def __call__(self, update: int) -> float:
        falling = (1 + update / self.inv_gamma) ** -self.power
        return (1 - self.warmup ** (update + 1)) * max(self.final, falling)


@dataclass(frozen=True, kw_only=True)
class LyraInverse:
    """Of LyraCodec's later revision: linear from 0, then (1 + n / inv_gamma)^-power, so that it jumps down between."""

    warmup: int = 10_000
    """Updates."""
    inv_gamma: float = 100_000
    power: float = 0.6

    def __call__(self, update: int) -> float:
        return update / self.warmup if update < self.warmup else (1 + update / self.inv_gamma) ** -self.power


@dataclass(frozen=True, kw_only=True)
class LyraCosine:
    """Of a revision between: rises by epochs, then falls as half a cosine to 0; the same within an epoch."""

    warmup: int = 5
    """Epochs."""
    total: int = 500
    """Epochs in all."""
    epoch: int = 0
    """Updates in an epoch; 0: as many as the training data have."""

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < self.total:
            raise ValueError(f"total: expected more epochs than the {self.warmup} of the warmup, got {self.total}")

    def __call__(self, update: int) -> float:
        epoch = update // max(1, self.epoch)
        if epoch < self.warmup:
            return (epoch + 1) / self.warmup
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (epoch - self.warmup) / (self.total - self.warmup))))


Optimizer = AdamW | Adam | SGD
Schedule = InverseLR | Staircase | Cosine | LyraInverse | LyraCosine | Constant


def by_epochs(schedule: Any, epoch_steps: int) -> Any:
    """The schedule, with the updates of an epoch where it counts epochs and does not know them."""
    unknown = isinstance(schedule, LyraCosine) and not schedule.epoch
    return replace(schedule, epoch=epoch_steps) if unknown else schedule


# --- the whole -------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Recipe(Plan):
    """An autoencoder, and a discriminator or none."""

    model: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    losses: Losses = field(default_factory=Losses)
    discriminator: EncodecDiscriminator | DACDiscriminator | OobleckDiscriminator | LyraDiscriminator | None = None
    optimizer: Optimizer = field(default_factory=lambda: AdamW(1.5e-4, (0.8, 0.99), weight_decay=1e-3))
    schedule: Schedule = field(default_factory=Constant)
    """Of the autoencoder, in its updates."""
    discriminator_optimizer: Optimizer = field(default_factory=lambda: AdamW(3e-4, (0.8, 0.99), weight_decay=1e-3))
    discriminator_schedule: Schedule = field(default_factory=Constant)
    """In the discriminator's own updates."""
    clip: float = 0.0
    """Largest norm of the autoencoder's gradient; 0: no limit."""
    discriminator_clip: float = 0.0
    average: float = 0.0
    """Largest decay of averaged weights, which are then tested and released, 0.9999 in stable-audio-tools; 0: the last
    weights are."""

    FIRST: ClassVar[tuple[str, ...]] = (
        *("steps", "batch", "optimizer", "schedule", "losses.spectral.weight", "losses.kl.weight"),
        *("discriminator", "evaluate_every", "save_every", "workers"),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.average < 1 or min(self.clip, self.discriminator_clip) < 0:
            limits = f"{self.average}, {self.clip} and {self.discriminator_clip}"
            raise ValueError(f"average is from 0 to below 1 and both clips from 0 on, got {limits}")


def averaging(largest: float) -> Any:
    """stable-audio-tools' decay of averaged weights: copies in the first two updates, then 1 - updates^-3/4 at most."""
    return lambda updates: 0.0 if updates <= 2 else min(largest, 1 - updates**-0.75)
