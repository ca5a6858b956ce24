"""What an autoencoder learns from, beside its discriminator."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Spectral:
    """Distance of spectrograms at several resolutions.

    Stereo is compared twice: as sum and difference of its channels, and as left and right.
    """

    weight: float = 1.0
    decay: float = 1.0
    """Multiplies the weight before each use, so that update n (from 0 on) has weight * decay^(n + 1)."""
    begin: int = 0
    """The first update that learns from it. A small network that learns magnitudes first may never find the phase."""
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
    begin: int = 0
    """Steps without it, so that the latents are in use before they are to be few: against posterior collapse."""
    anneal_steps: int = 0
    """The weight then grows linearly from 0 in so many steps."""
    anneal_epochs: int = 0
    """The weight grows from 0 with each of so many epochs, and stays the same within one."""

    def __post_init__(self) -> None:
        if min(self.begin, self.anneal_steps, self.anneal_epochs) < 0:
            raise ValueError("begin, anneal_steps and anneal_epochs are from 0 on")
        if self.anneal_epochs and (self.begin or self.anneal_steps):
            raise ValueError("anneal_epochs counts from the first step; leave begin and anneal_steps at 0")

    def at(self, step: int, epoch_steps: int) -> float:
        """The weight in a step, from 0 on, where an epoch has `epoch_steps`."""
        if self.anneal_epochs:
            return self.weight * min(1.0, step // epoch_steps / self.anneal_epochs)
        since = step - self.begin
        return self.weight * (since >= 0) * (min(1.0, since / self.anneal_steps) if self.anneal_steps else 1.0)


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
        if self.spectral and self.spectral.begin and (self.balanced or not (self.time.l1 or self.time.l2)):
            raise ValueError("spectral.begin: needs a loss before it, time.l1 or time.l2, and no balance")
