"""Encoders, decoders, bottlenecks and pretransforms of stable-audio-tools, which a `type` and a `config` describe."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from audio_core.files import InputError
from audio_core.train.stated import build, unknown

from .. import config as ours

# --- settings that only the original has -------------------------------------------------------------------
# A Literal has the one value that the networks here have. Others change nothing that a trained model computes.


@dataclass(frozen=True)
class _ELU:
    alpha: float = 1.0

    def __post_init__(self) -> None:
        if self.alpha != 1:
            raise ValueError(f"alpha: expected 1, got {self.alpha}")


@dataclass(frozen=True)
class _Nothing:
    """No settings."""


@dataclass(frozen=True, kw_only=True)
class _SEANet:
    activation: Literal["ELU"] = "ELU"
    activation_params: _ELU = _ELU()
    norm: Literal["weight_norm"] = "weight_norm"
    norm_params: _Nothing = _Nothing()
    causal: Literal[False] = False
    pad_mode: Literal["reflect"] = "reflect"
    true_skip: Literal[False] = False


@dataclass(frozen=True, kw_only=True)
class _SEANetEncoderConfig(_SEANet, ours.SEANetEncoderConfig):
    ratios: tuple[int, ...] = (2, 2, 2, 2, 2)


@dataclass(frozen=True, kw_only=True)
class _SEANetDecoderConfig(_SEANet, ours.SEANetDecoderConfig):
    final_activation: Literal[None] = None
    final_activation_params: Literal[None] = None
    trim_right_ratio: float = 1.0
    """Of causal networks."""


@dataclass(frozen=True, kw_only=True)
class _TAAE:
    checkpointing: bool = False
    layer_scale: Literal[True] = True
    mapping_style: Literal["conv"] = "conv"


@dataclass(frozen=True, kw_only=True)
class _TAAEEncoderConfig(_TAAE, ours.TAAEEncoderConfig):
    sliding_window: tuple[int, int] | None = (63, 64)


@dataclass(frozen=True, kw_only=True)
class _TAAEDecoderConfig(_TAAE, ours.TAAEDecoderConfig):
    sliding_window: tuple[int, int] | None = (63, 64)


@dataclass(frozen=True, kw_only=True)
class _SoftNormConfig(ours.SoftNormConfig):
    dim: int = 32
    auto_scale: Literal[False] = False
    freeze: Literal[False] = False


@dataclass(frozen=True, kw_only=True)
class _RVQ:
    kmeans_init: bool = True
    kmeans_iters: int = 50
    commitment_weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class _RVQConfig(_RVQ, ours.RVQConfig):
    pass


@dataclass(frozen=True, kw_only=True)
class _RVQVAEConfig(_RVQ, ours.RVQVAEConfig):
    pass


@dataclass(frozen=True, kw_only=True)
class _DitheredFSQConfig(ours.DitheredFSQConfig):
    dither_inference: bool = True


# --- what there is -----------------------------------------------------------------------------------------

# A type of the original -> how it is read, and the configuration that comes of it.
ENCODERS: dict[str, tuple[type, type]] = {
    "oobleck": (ours.OobleckEncoderConfig, ours.OobleckEncoderConfig),
    "dac": (ours.DACEncoderConfig, ours.DACEncoderConfig),
    "seanet": (_SEANetEncoderConfig, ours.SEANetEncoderConfig),
    "taae": (_TAAEEncoderConfig, ours.TAAEEncoderConfig),
}
DECODERS: dict[str, tuple[type, type]] = {
    "oobleck": (ours.OobleckDecoderConfig, ours.OobleckDecoderConfig),
    "dac": (ours.DACDecoderConfig, ours.DACDecoderConfig),
    "seanet": (_SEANetDecoderConfig, ours.SEANetDecoderConfig),
    "taae": (_TAAEDecoderConfig, ours.TAAEDecoderConfig),
}
BOTTLENECKS: dict[str, tuple[type, type]] = {
    "vae": (ours.VAEConfig, ours.VAEConfig),
    "tanh": (ours.TanhConfig, ours.TanhConfig),
    "l2_norm": (ours.L2NormConfig, ours.L2NormConfig),
    "wasserstein": (ours.WassersteinConfig, ours.WassersteinConfig),
    "softnorm": (_SoftNormConfig, ours.SoftNormConfig),
    "rvq": (_RVQConfig, ours.RVQConfig),
    "rvq_vae": (_RVQVAEConfig, ours.RVQVAEConfig),
    "dac_rvq": (ours.DACRVQConfig, ours.DACRVQConfig),
    "dac_rvq_vae": (ours.DACRVQVAEConfig, ours.DACRVQVAEConfig),
    "fsq": (ours.FSQConfig, ours.FSQConfig),
    "dithered_fsq": (_DitheredFSQConfig, ours.DitheredFSQConfig),
}
PRETRANSFORMS: dict[str, tuple[type, type]] = {
    "patched": (ours.PatchedConfig, ours.PatchedConfig),
    "wavelet": (ours.WaveletConfig, ours.WaveletConfig),
    "pqmf": (ours.FilterBankConfig, ours.FilterBankConfig),
}
# Types of the original that are not among these, and why.
_ABSENT = {
    "local_attn": "which the original itself cannot build",
    **dict.fromkeys(("same", "taae_v2", "patched", "staged_patched"), "which belongs to later models"),
    "autoencoder": "an autoencoder before an autoencoder",
    **dict.fromkeys(("dac_pretrained", "audiocraft_pretrained"), "a codec that is fetched from elsewhere"),
}


@dataclass(frozen=True)
class Part:
    type: str
    config: dict[str, Any] | None = None
    requires_grad: bool = True


def part(kinds: Mapping[str, tuple[type, type]], stated: Any, where: str) -> Any:
    """Our configuration of a part with a `type` among `kinds` and a `config`, which is at `where` in the file."""
    name = stated.type
    if name not in kinds:
        raise InputError(f"{where}.type: {unknown(name, kinds, _ABSENT.get(name, ''))}")
    read, wanted = kinds[name]
    values = build(read, stated.config or {}, f"{where}.config")
    if wanted is read:
        return values
    return wanted(**{each.name: getattr(values, each.name) for each in dataclasses.fields(wanted)})
