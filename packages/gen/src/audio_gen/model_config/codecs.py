"""Codecs, which stable-audio-tools calls pretransforms: the sizes of what they make, and no more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from audio_core.files import InputError
from audio_core.train.stated import build, unknown


@dataclass(frozen=True)
class Codec:
    """Sizes of the audio and of the latents."""

    channels: int
    hop: int
    width: int


@dataclass(frozen=True)
class Pretransform:
    """A codec. `iterate_batch`, `model_half` and `chunked` say how the original runs it."""

    type: str
    config: dict[str, Any] = field(default_factory=dict)
    scale: float = 1.0
    model_half: bool = False
    iterate_batch: bool = False
    chunked: bool = False
    enable_grad: bool = False


@dataclass(frozen=True)
class _Sizes:
    io_channels: int
    downsampling_ratio: int
    latent_dim: int


@dataclass(frozen=True)
class _Patched:
    channels: int
    patch_size: int

    def codec(self) -> Codec:
        return Codec(self.channels, self.patch_size, self.channels * self.patch_size)


@dataclass(frozen=True)
class _Wavelet:
    channels: int
    levels: int
    wavelet: str = "bior4.4"

    def __post_init__(self) -> None:
        if not 1 <= self.levels <= 16:
            raise ValueError(f"levels: is {self.levels}, where 1 to 16 are possible")

    def codec(self) -> Codec:
        return Codec(self.channels, 2**self.levels, self.channels * 2**self.levels)


_FIXED: dict[str, Any] = {"patched": _Patched, "wavelet": _Wavelet}
"""Codecs without weights."""
_ABSENT = {
    "pqmf": "a filter bank that no codec here is",
    **dict.fromkeys(("dac_pretrained", "audiocraft_pretrained"), "a codec that is fetched from elsewhere"),
}


def codec_facts(stated: Pretransform, where: str) -> Codec:
    """Sizes of a codec's latents. How its networks are built is the business of its own package."""
    if stated.type in _FIXED:
        return build(_FIXED[stated.type], stated.config, f"{where}.config").codec()
    known = ("autoencoder", *_FIXED)
    if stated.type != "autoencoder":
        raise InputError(f"{where}.type: {unknown(stated.type, known, _ABSENT.get(stated.type, ''))}")
    names = ("io_channels", "downsampling_ratio", "latent_dim")
    sizes = build(_Sizes, {name: stated.config[name] for name in names if name in stated.config}, f"{where}.config")
    if min(sizes.io_channels, sizes.downsampling_ratio, sizes.latent_dim) < 1:
        raise InputError(f"{where}.config: {', '.join(names)} are 1 or more")
    return Codec(sizes.io_channels, sizes.downsampling_ratio, sizes.latent_dim)


@dataclass(frozen=True)
class _Bottleneck:
    type: str
    config: dict[str, Any] = field(default_factory=dict)
    requires_grad: bool = True


_COUNTS = {
    **dict.fromkeys(("rvq", "rvq_vae"), "num_quantizers"),
    **dict.fromkeys(("dac_rvq", "dac_rvq_vae"), "n_codebooks"),
}
"""Bottlenecks with codebooks, and what the number of these is called."""


def codebooks(stated: Pretransform, where: str) -> tuple[int, int]:
    """How many codebooks a codec has, and of how many codes each."""
    where = f"{where}.config.bottleneck"
    if stated.config.get("bottleneck") is None:
        raise InputError(f"{where}: is missing, and a language model needs a codec with codebooks")
    bottleneck = build(_Bottleneck, stated.config["bottleneck"], where)
    if bottleneck.type not in _COUNTS:
        raise InputError(f"{where}.type: {unknown(bottleneck.type, _COUNTS)}, which have codebooks")
    sizes = []
    for name in (_COUNTS[bottleneck.type], "codebook_size"):
        value = bottleneck.config.get(name)
        if type(value) is not int or value < 1:
            raise InputError(f"{where}.config.{name}: expected a number from 1 on, got {value!r:.60}")
        sizes.append(value)
    return sizes[0], sizes[1]


def codec_of(stated: Mapping[str, Any], where: str) -> Codec:
    return codec_facts(build(Pretransform, stated, where), where)
