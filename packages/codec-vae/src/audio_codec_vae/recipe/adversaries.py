"""The discriminators, and how the autoencoder learns from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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
