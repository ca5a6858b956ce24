"""The conditioners of stable-audio-tools, each with an `id`, a `type` and a `config` -> ours, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from audio_core.files import InputError
from audio_core.train.stated import build, unknown

from .codecs import Codec, codec_of

# --- what each states --------------------------------------------------------------------------------------
# A Literal has the one value that is possible here.


@dataclass(frozen=True, kw_only=True)
class _Any:
    output_dim: int | None = None


@dataclass(frozen=True, kw_only=True)
class _T5(_Any):
    t5_model_name: str = "t5-base"
    max_length: int = 128
    enable_grad: bool = False
    project_out: bool = False


@dataclass(frozen=True, kw_only=True)
class _CLAPAudio(_Any):
    clap_ckpt_path: str | None = None
    audio_model_type: str = "HTSAT-base"
    enable_fusion: bool = True
    finetune: Literal[False] = False
    project_out: bool = False


@dataclass(frozen=True, kw_only=True)
class _CLAPText(_CLAPAudio):
    use_text_features: bool = False
    feature_layer_ix: int = -1


@dataclass(frozen=True, kw_only=True)
class _Int(_Any):
    min_val: int = 0
    max_val: int = 512


@dataclass(frozen=True, kw_only=True)
class _Number(_Any):
    min_val: float = 0.0
    max_val: float = 1.0


@dataclass(frozen=True, kw_only=True)
class _List(_Any):
    options: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Phoneme(_Any):
    max_length: int = 1024
    project_out: bool = False


@dataclass(frozen=True, kw_only=True)
class _LUT(_Phoneme):
    tokenizer_name: str
    use_abs_pos_emb: bool = False
    special_tokens: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Pretransform(_Any):
    sample_rate: int | None = None
    pretransform_config: dict[str, Any] | None = None
    use_model_pretransform: bool = False
    pretransform_ckpt_path: str | None = None
    save_pretransform: bool = False


@dataclass(frozen=True, kw_only=True)
class _SourceMix(_Pretransform):
    source_keys: tuple[str, ...]
    pre_encoded: bool = False
    allow_null_source: bool = False
    source_length: int | None = None


# A type of the original, our kind, and how it is stated.
_KINDS: dict[str, tuple[str, Any]] = {
    "t5": ("T5", _T5),
    "clap_text": ("CLAPText", _CLAPText),
    "clap_audio": ("CLAPAudio", _CLAPAudio),
    "int": ("Int", _Int),
    "number": ("Number", _Number),
    "list": ("List", _List),
    "phoneme": ("Phoneme", _Phoneme),
    "lut": ("LUT", _LUT),
    "pretransform": ("Pretransform", _Pretransform),
    "source_mix": ("SourceMix", _SourceMix),
}
# Where the weights of CLAP lie and which they are: here its features are computed elsewhere.
_OF_CLAP = ("clap_ckpt_path", "audio_model_type", "enable_fusion", "finetune")
_OF_CODECS = tuple(_Pretransform.__dataclass_fields__.keys() - _Any.__dataclass_fields__.keys())


@dataclass(frozen=True, kw_only=True)
class One:
    id: str
    type: str
    config: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    cond_dim: int = 768
    configs: tuple[One, ...] = ()
    default_keys: dict[str, str] = field(default_factory=dict)
    pre_encoded_keys: tuple[str, ...] = ()


# --- reading -----------------------------------------------------------------------------------------------


def conditioning(
    stated: Conditioning, own: Codec | None, where: str = "model.conditioning"
) -> tuple[dict[str, Any], list[str]]:
    """Our conditioning and remarks. `own` is the model's codec."""
    conditioners: dict[str, Any] = {}
    remarks: list[str] = []
    for at, one in enumerate(stated.configs):
        here = f"{where}.configs[{at}]"
        if one.type not in _KINDS:
            raise InputError(f"{here}.type: {unknown(one.type, _KINDS)}")
        if one.id in conditioners:
            raise InputError(f"{here}.id: {one.id!r:.60} is there twice")
        kind, cls = _KINDS[one.type]
        values = build(cls, one.config or {}, f"{here}.config")
        plain = {"kind": kind, **(one.config or {})}
        if isinstance(values, _CLAPAudio):
            plain = {key: value for key, value in plain.items() if key not in _OF_CLAP}
            remarks.append(f"{one.id}: CLAP itself is not run here; give items its features, which it computed before")
        if isinstance(values, _Pretransform):
            plain = {key: value for key, value in plain.items() if key not in _OF_CODECS}
            found = _codec(values, own, here)
            plain["encoded_channels"] = found.width
            if not values.use_model_pretransform:
                name = f"model.conditioning.conditioners.{one.id}.codec.name"
                remarks.append(f"{one.id}: has a codec of its own; name it: {name}=codec-vae, and codec.path likewise")
        conditioners[one.id] = plain
    plain = {
        "cond_dim": stated.cond_dim,
        "conditioners": conditioners,
        "default_keys": dict(stated.default_keys),
        "pre_encoded_keys": list(stated.pre_encoded_keys),
    }
    return plain, remarks


def _codec(stated: _Pretransform, own: Codec | None, where: str) -> Codec:
    if stated.use_model_pretransform:
        if own is None:
            raise InputError(f"{where}.config.use_model_pretransform: is set, and the model has no pretransform")
        return own
    if stated.pretransform_config is None:
        raise InputError(f"{where}.config.pretransform_config: is missing, and use_model_pretransform is not set")
    return codec_of(stated.pretransform_config, f"{where}.config.pretransform_config")
