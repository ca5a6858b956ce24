"""The configurations of what comes before the encoder and after the decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from audio_core.checks import within

Biorthogonal = Literal["bior2.2", "bior2.4", "bior2.6", "bior2.8", "bior4.4", "bior6.8"]


@dataclass(frozen=True)
class PatchedConfig:
    """Stretches of samples become channels."""

    channels: int
    patch_size: int
    oversampling: int = 1
    """Patches are taken at so many times the rate."""

    def __post_init__(self) -> None:
        within(self, 1, "channels", "patch_size", "oversampling")
        if self.patch_size % self.oversampling:
            raise ValueError(f"patch_size must be a multiple of oversampling, got {self.patch_size}")

    @property
    def ratio(self) -> int:
        return self.patch_size // self.oversampling


@dataclass(frozen=True)
class WaveletConfig:
    channels: int
    levels: int
    wavelet: Biorthogonal = "bior4.4"

    def __post_init__(self) -> None:
        within(self, 1, "channels")
        within(self, 1, "levels", most=16)

    @property
    def ratio(self) -> int:
        return 2**self.levels


@dataclass(frozen=True)
class FilterBankConfig:
    """A pseudo-QMF filter bank."""

    channels: int
    num_bands: int = 16
    attenuation: int = 100
    """Of the stop band, in decibels."""

    def __post_init__(self) -> None:
        within(self, 1, "channels")
        within(self, 22, "attenuation", most=200)
        if self.num_bands not in (2, 4, 8, 16, 32, 64, 128):
            raise ValueError(f"num_bands must be a power of two from 2 to 128, got {self.num_bands}")

    @property
    def ratio(self) -> int:
        return self.num_bands


PretransformConfig = PatchedConfig | WaveletConfig | FilterBankConfig
