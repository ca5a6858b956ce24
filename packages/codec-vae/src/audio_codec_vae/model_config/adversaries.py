"""Discriminators in a model_config.json -> those of our recipes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from audio_core.files import InputError
from audio_core.train.stated import build, unknown

from .stated import quarters


@dataclass(frozen=True)
class Weights:
    adversarial: float
    feature_matching: float


@dataclass(frozen=True)
class Discriminator:
    type: str
    weights: Weights
    config: dict[str, Any] | None = None


@dataclass(frozen=True)
class LeakyReLU:
    negative_slope: float = 0.2

    def __post_init__(self) -> None:
        if self.negative_slope != 0.2:
            raise ValueError(f"negative_slope: is {self.negative_slope:g}, and the networks here have 0.2")


@dataclass(frozen=True)
class Encodec:
    """Over complex STFTs. A Literal has the one value that the networks here have."""

    filters: int
    n_ffts: tuple[int, ...] = (1024, 2048, 512)
    hop_lengths: tuple[int, ...] = (256, 512, 128)
    win_lengths: tuple[int, ...] = (1024, 2048, 512)
    in_channels: int | None = None
    out_channels: Literal[1] = 1
    max_filters: int = 1024
    filters_scale: Literal[1] = 1
    kernel_size: tuple[int, int] = (3, 9)
    dilations: tuple[int, ...] = (1, 2, 4)
    stride: tuple[int, int] = (1, 1)
    normalized: Literal[True] = True
    activation: Literal["LeakyReLU"] = "LeakyReLU"
    activation_params: LeakyReLU = LeakyReLU()
    spec_scale_pow: float = 0.0
    normalize_losses: bool = False
    loss_type: Literal["hinge"] = "hinge"

    def __post_init__(self) -> None:
        quarters(self, "n_ffts", "hop_lengths", "win_lengths")
        if self.kernel_size != (3, 9) or self.dilations != (1, 2, 4) or self.stride[0] != 1:
            raise ValueError("kernel_size, dilations, stride: the networks here have [3, 9], [1, 2, 4] and [1, any]")

    def plain(self) -> dict[str, Any]:
        return {
            "kind": "EncodecDiscriminator",
            "width": self.filters,
            "windows": [*self.n_ffts],
            "stride": self.stride[1],
            "power": self.spec_scale_pow,
            "relative_features": self.normalize_losses,
        }


@dataclass(frozen=True)
class DAC:
    """Over periods, bands and lower rates."""

    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    fft_sizes: tuple[int, ...] = (2048, 1024, 512)
    rates: tuple[int, ...] = ()
    bands: tuple[tuple[float, float], ...] = ((0.0, 0.1), (0.1, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0))
    use_hinge: bool = False

    def __post_init__(self) -> None:
        edges = [0.0, *(high for _, high in self.bands)]
        if [low for low, _ in self.bands] != edges[:-1] or edges[-1] != 1:
            raise ValueError("bands: expected each to begin where the one before ends, from 0 to 1")

    def plain(self) -> dict[str, Any]:
        return {
            "kind": "DACDiscriminator",
            "periods": [*self.periods],
            "windows": [*self.fft_sizes],
            "rates": [*self.rates],
            "bands": [high for _, high in self.bands[:-1]],
            "loss": "shifted_hinge" if self.use_hinge else "least_squares",
        }


@dataclass(frozen=True)
class Oobleck:
    """RAVE's."""

    in_channels: int = 1

    def plain(self) -> dict[str, Any]:
        return {"kind": "OobleckDiscriminator"}


_KINDS: Mapping[str, Any] = {"encodec": Encodec, "dac": DAC, "oobleck": Oobleck}


def settings(stated: Discriminator, channels: int, where: str) -> dict[str, Any]:
    """The discriminator of a recipe as plain data."""
    if stated.type not in _KINDS:
        raise InputError(f"{where}.type: {unknown(stated.type, _KINDS)}")
    given = build(_KINDS[stated.type], stated.config or {}, f"{where}.config")
    if getattr(given, "in_channels", None) not in (None, channels):
        raise InputError(f"{where}.config.in_channels: is {given.in_channels}, and the audio has {channels}")
    weights = {"adversarial": stated.weights.adversarial, "features": stated.weights.feature_matching}
    return {**given.plain(), **weights}
