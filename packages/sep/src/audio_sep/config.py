"""The configurations of the seven separation models, without torch."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from audio_core.files import InputError

_SOURCE = re.compile(r"\w[\w .-]*")  # it names a file, too


@dataclass(frozen=True)
class SeparatorConfig:
    """What all models have in common. The defaults are those of the originals on the whole spectrum."""

    rate: int = 44100
    channels: int = 2
    sources: tuple[str, ...] = ("vocals",)
    """What the model separates, in the order of its outputs."""
    n_fft: int = 2048
    """Of a model of subbands: at the rate of a subband."""
    hop: int = 441
    widths: tuple[int, ...] = (32, 64, 128, 256, 384, 384)
    """Channels of the encoder blocks, the first at full resolution. The decoder mirrors them."""

    bands: ClassVar[int] = 1
    """Subbands of a filter bank, each with a spectrogram of its own at the rate / bands."""
    slices: ClassVar[int] = 1
    """Parts of equal width that a spectrogram is cut into along frequency; they become channels."""
    planes: ClassVar[int] = 4
    """What the network gives for each bin: a mask of magnitudes, a rotation of two values, and perhaps a magnitude."""

    def __post_init__(self) -> None:
        for name in ("rate", "channels", "hop"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.sources or len({*self.sources}) != len(self.sources):
            raise ValueError(f"sources must be one or more different names, got {self.sources}")
        for name in self.sources:
            if not _SOURCE.fullmatch(name):
                raise ValueError(f"sources are names of letters, digits, spaces, . - and _, got {name!r}")
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"widths must be one or more numbers from 1 on, got {self.widths}")
        unit = 2 * self.slices * 2 ** len(self.widths)  # each encoder block halves the frequencies
        if self.n_fft < unit or self.n_fft % unit:
            raise ValueError(f"n_fft must be a multiple of {unit} for {len(self.widths)} widths, got {self.n_fft}")
        if self.hop > self.n_fft:
            raise ValueError(f"hop must not be larger than n_fft, got {self.hop} and {self.n_fft}")

    @property
    def bins(self) -> int:
        """Of a spectrogram."""
        return self.n_fft // 2 + 1

    @property
    def inputs(self) -> int:
        """Channels that the network sees."""
        return self.channels * self.bands * self.slices

    @property
    def shortest(self) -> int:
        """Samples of the shortest audio, which the STFT reflects at its ends; the filter bank adds some."""
        return self.bins if self.bands == 1 else max(self.bands * (self.bins - 16), 1)


@dataclass(frozen=True)
class UNetConfig(SeparatorConfig):
    """A U-Net on the whole spectrum."""

    planes: ClassVar[int] = 3


@dataclass(frozen=True)
class UNetSubbandTimeConfig(SeparatorConfig):
    """The U-Net on four subbands, which takes a quarter of the work."""

    n_fft: int = 512
    hop: int = 110

    bands: ClassVar[int] = 4
    planes: ClassVar[int] = 3


@dataclass(frozen=True)
class ResUNet143Config(SeparatorConfig):
    """The residual U-Net of 143 convolutions on the whole spectrum, as published at ISMIR 2021."""


@dataclass(frozen=True)
class ResUNet143DecouplePlusConfig(SeparatorConfig):
    """The residual U-Net on a spectrogram cut in four along frequency."""

    slices: ClassVar[int] = 4


@dataclass(frozen=True)
class ResUNet143SubbandTimeConfig(SeparatorConfig):
    """The residual U-Net on four subbands."""

    n_fft: int = 512
    hop: int = 110

    bands: ClassVar[int] = 4


@dataclass(frozen=True)
class MobileNetSubbandTimeConfig(SeparatorConfig):
    """A small U-Net of depthwise convolutions on four subbands."""

    n_fft: int = 512
    hop: int = 110
    widths: tuple[int, ...] = (32, 64, 64, 64, 64, 64)

    bands: ClassVar[int] = 4


@dataclass(frozen=True)
class ConditionalUNetConfig(SeparatorConfig):
    """A U-Net that a vector of one value for each source tells what to separate, one source a pass."""

    sources: tuple[str, ...] = ("vocals", "accompaniment")

    slices: ClassVar[int] = 4
    planes: ClassVar[int] = 3


ModelConfig = (
    UNetConfig
    | UNetSubbandTimeConfig
    | ResUNet143Config
    | ResUNet143DecouplePlusConfig
    | ResUNet143SubbandTimeConfig
    | MobileNetSubbandTimeConfig
    | ConditionalUNetConfig
)


# --- names in the original program -------------------------------------------------------------------------

ORIGINAL_TYPES: dict[str, type[SeparatorConfig]] = {
    "UNet": UNetConfig,
    "UNetSubbandTime": UNetSubbandTimeConfig,
    "ResUNet143_DecouplePlusInplaceABN_ISMIR2021": ResUNet143Config,
    "ResUNet143_DecouplePlus": ResUNet143DecouplePlusConfig,
    "ResUNet143_Subbandtime": ResUNet143SubbandTimeConfig,
    "MobileNet_Subbandtime": MobileNetSubbandTimeConfig,
    "ConditionalUNet": ConditionalUNetConfig,
}
"""The `model_type` of the original's recipes -> our configurations."""
UNPUBLISHED = (
    *("MobileTiny_Subbandtime", "LevelRNN", "WavUNet", "WavUNetLevelRNN", "TTnet", "TTnetNoTransformer"),
    *("JiafengCNN", "JiafengTTNet", "ResUNet143FC_Subbandtime", "AmbisonicToBinaural_UNetSubbandtimePhase"),
    *("AmbisonicToBinaural_ResUNetSubbandtimePhase", "MobileNetSubbandTime", "WrapperDemucs", "WrapperHDemucs"),
)
"""Names that the original knows too, of models whose code was never published."""


def original_type(name: str) -> type[SeparatorConfig]:
    """The configuration for a `model_type` of the original."""
    if name in ORIGINAL_TYPES:
        return ORIGINAL_TYPES[name]
    what = "a model whose code was never published" if name in UNPUBLISHED else "no model of the original"
    raise InputError(f"model_type {name}: is {what}; there are {', '.join(ORIGINAL_TYPES)}")
