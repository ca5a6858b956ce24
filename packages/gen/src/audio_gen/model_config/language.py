"""`lm` -> ours, as plain data."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from audio_core.files import InputError
from audio_core.train.stated import build

from ..config.language import LanguageModelConfig
from .backbones import expect_keys, transformer, transformer_keys
from .codecs import Pretransform, codebooks
from .conditioning import Conditioning, conditioning
from .file import File

_PATTERNS = {"delay": "Delay", "parallel": "Parallel", "unroll": "Unroll", "musiclm": "MusicLM"}
# What the codec and the pattern say, and what goes to the transformer.
_ELSEWHERE = ("codebooks", "codebook_size", "pattern", "transformer")


@dataclass(frozen=True, kw_only=True)
class LM:
    type: Literal["continuous_transformer"] = "continuous_transformer"
    codebook_pattern: Literal["delay", "parallel", "unroll", "musiclm"] = "delay"
    cross_attention_cond_ids: tuple[str, ...] = ()
    prepend_cond_ids: tuple[str, ...] = ()
    global_cond_ids: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Model:
    pretransform: Pretransform
    conditioning: Conditioning | None = None
    lm: LM


def language(file: File) -> tuple[dict[str, Any], bool, list[str]]:
    stated = build(Model, file.model, "model")
    plain, codec, remarks = file.audio(stated.pretransform)
    number, size = codebooks(stated.pretransform, "model.pretransform")
    conditions, more = conditioning(stated.conditioning or Conditioning(), codec)
    if stated.lm.global_cond_ids:
        more.append("model.lm.global_cond_ids: are left out; the original takes no heed of them either")
    plain |= {
        "kind": "LM",
        "lm": {
            "codebooks": number,
            "codebook_size": size,
            "pattern": {"kind": _PATTERNS[stated.lm.codebook_pattern]},
            **_network(stated.lm.config, "model.lm.config"),
        },
        "conditioning": conditions,
        "cross_attention_cond_ids": list(stated.lm.cross_attention_cond_ids),
        "prepend_cond_ids": list(stated.lm.prepend_cond_ids),
    }
    return plain, True, remarks + more


def _network(stated: dict[str, Any], where: str) -> dict[str, Any]:
    own = {each.name for each in dataclasses.fields(LanguageModelConfig)} - {*_ELSEWHERE}
    expect_keys(stated, own | transformer_keys() - {"causal"}, where)
    for name in ("embed_dim", "depth"):
        if name not in stated:
            raise InputError(f"{where}.{name}: is missing")
    rest = {key: value for key, value in stated.items() if key not in own}
    inner = transformer({**rest, "causal": True}, where)
    plain = {**{key: value for key, value in stated.items() if key in own}, "transformer": inner}
    build(LanguageModelConfig, plain, where)
    return plain
