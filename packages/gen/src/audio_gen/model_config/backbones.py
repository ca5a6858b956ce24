"""The networks of stable-audio-tools, which a `type` and a `config` describe -> ours, as plain data."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from audio_core import config
from audio_core.files import InputError
from audio_core.train.stated import build, unknown

from ..config.backbones import DiTConfig
from ..config.transformer import AttentionConfig, FeedForwardConfig, NormConfig, TransformerConfig
from ..config.unets import ADPConfig, DanceDiffusionUNetConfig

PARTS = {"attn_kwargs": AttentionConfig, "ff_kwargs": FeedForwardConfig, "norm_kwargs": NormConfig}
"""Parts of the transformer by the original's names."""
_OUR_PARTS = {"attn_kwargs": "attention", "ff_kwargs": "feed_forward", "norm_kwargs": "norm"}


# --- settings that only the original has -------------------------------------------------------------------
# A Literal has the one value that the networks here have.


@dataclass(frozen=True, kw_only=True)
class DanceDiffusion(DanceDiffusionUNetConfig):
    use_snake: Literal[False] = False


@dataclass(frozen=True, kw_only=True)
class ADP(ADPConfig):
    use_snake: Literal[False] = False
    use_stft_context: Literal[False] = False


@dataclass(frozen=True, kw_only=True)
class _Beside:
    """What a DiT is told that is another part's business here."""

    transformer_type: Literal["continuous_transformer"] = "continuous_transformer"
    diffusion_objective: str = ""


# --- reading -----------------------------------------------------------------------------------------------


def transformer(stated: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The keys of the transformer below a model; all of `stated` must be such."""
    parts = {
        _OUR_PARTS[name]: config.plain(build(cls, stated[name], f"{where}.{name}"))
        for name, cls in PARTS.items()
        if name in stated
    }
    rest = {name: value for name, value in stated.items() if name not in PARTS}
    build(TransformerConfig, {**rest, **parts}, where)
    return {**rest, **parts}


def transformer_keys() -> set[str]:
    """As the original names them."""
    return _names(TransformerConfig) - {*_OUR_PARTS.values()} | {*PARTS}


def expect_keys(stated: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Refuse keys that a part of a file may not have."""
    build(dataclasses.make_dataclass("Keys", [(name, Any, None) for name in sorted(known)]), stated, where)


def dit(stated: Mapping[str, Any], where: str) -> dict[str, Any]:
    own, beside = _names(DiTConfig) - {"transformer"}, _names(_Beside)
    expect_keys(stated, own | beside | transformer_keys(), where)
    build(_Beside, {key: value for key, value in stated.items() if key in beside}, where)
    inner = transformer({key: value for key, value in stated.items() if key not in own | beside}, where)
    plain = {**{key: value for key, value in stated.items() if key in own}, "transformer": inner}
    build(DiTConfig, plain, where)
    return {"kind": "DiT", **plain}


def dance_diffusion(stated: Mapping[str, Any], where: str) -> dict[str, Any]:
    build(DanceDiffusion, stated, where)
    return {"kind": "DanceDiffusionUNet", **_without(stated, "use_snake")}


def adp(stated: Mapping[str, Any], where: str) -> dict[str, Any]:
    build(ADP, stated, where)
    return {"kind": "ADP", **_without(stated, "use_snake", "use_stft_context")}


def _guided(stated: Mapping[str, Any], where: str) -> dict[str, Any]:
    plain = adp(stated, where)
    if plain.get("context_embedding_features") is None:
        raise InputError(f"{where}: context_embedding_features is missing, without which adp_cfg_1d has no guidance")
    return plain


def _unconditioned(stated: Mapping[str, Any], where: str) -> dict[str, Any]:
    plain = adp(stated, where)
    for key in ("context_features", "context_channels", "context_embedding_features"):
        if plain.get(key):
            raise InputError(f"{where}: {key}: is set, and adp_uncond_1d has no conditions")
    return plain


UNCONDITIONED = {"DAU1d": dance_diffusion, "adp_uncond_1d": _unconditioned, "dit": dit}
"""The types of `diffusion_uncond`."""
CONDITIONED = {"dit": dit, "adp_cfg_1d": _guided, "adp_1d": adp}
"""Those of `diffusion_cond` and `diffusion_cond_inpaint`."""
DECODING = {"DAU1d": dance_diffusion, "adp_1d": adp, "dit": dit}
"""Those of `diffusion_autoencoder`."""


def backbone(kinds: Mapping[str, Any], kind: str, stated: Mapping[str, Any] | None, where: str) -> dict[str, Any]:
    """The network of a `type` among `kinds` with the `config` at `where` in a file."""
    if kind not in kinds:
        raise InputError(f"{where.removesuffix('.config')}.type: {unknown(kind, kinds)}")
    return kinds[kind](stated or {}, where)


def _names(cls: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(cls)}


def _without(stated: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in stated.items() if key not in names}
