"""The configurations of conditioners, which make tensors of what describes an item: texts, numbers, audio.

Names and defaults are those of the originals' JSON. Where `output_dim` is None it is the `cond_dim` of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from audio_core.checks import within

_MOST_TOKENS = 2**20


@dataclass(frozen=True, kw_only=True)
class _Text:
    """What conditioners of text have in common."""

    output_dim: int | None = None
    project_out: bool = False
    """A projection to `output_dim` also where the width is that already."""
    max_length: int = 128
    """Tokens of a text; a longer one is cut."""

    def __post_init__(self) -> None:
        _check_width(self)
        within(self, 1, "max_length")
        if self.max_length > _MOST_TOKENS:
            raise ValueError(f"max_length must be at most {_MOST_TOKENS}, got {self.max_length}")


# --- texts ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class T5Config(_Text):
    """What a T5 encoder makes of a text; needs the library transformers."""

    t5_model_name: str = "t5-base"
    """A folder with the encoder and its tokenizer, or their Hub id."""
    enable_grad: bool = False
    """The encoder learns, and is stored with the model."""


@dataclass(frozen=True, kw_only=True)
class BytesConfig(_Text):
    """A small transformer on the bytes of a text. It learns with the model, and there is nothing to download."""

    dim: int = 256
    depth: int = 2
    num_heads: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, 1, "dim", "depth", "num_heads")
        if self.dim % self.num_heads:
            raise ValueError(f"dim must be a multiple of num_heads, got {self.dim}")


@dataclass(frozen=True, kw_only=True)
class LUTConfig(_Text):
    """A vector for each token; needs the library transformers."""

    tokenizer_name: str
    """A folder with the tokenizer, or its Hub id."""
    vocab_size: int
    """Tokens of the tokenizer, with the special ones."""
    max_length: int = 1024
    use_abs_pos_emb: bool = False
    special_tokens: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, 1, "vocab_size")


@dataclass(frozen=True, kw_only=True)
class PhonemeConfig(_Text):
    """A vector for each phoneme of an English text; needs the library g2p_en."""

    max_length: int = 1024


# --- what was computed elsewhere -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class PrecomputedConfig:
    """Features that an encoder of any kind has computed before."""

    width: int
    length: int | None = None
    """To which zeros fill the features of an item; None: to the longest of a batch."""
    file: str | None = None
    """Features of texts, as `audio_gen.models.conditioners.stored.save` writes them."""
    output_dim: int | None = None
    project_out: bool = False

    def __post_init__(self) -> None:
        _check_width(self)
        within(self, 1, "width", *(["length"] if self.length is not None else []))


@dataclass(frozen=True, kw_only=True)
class CLAPTextConfig:
    """Features of a text that CLAP has computed before."""

    use_text_features: bool = False
    """The hidden states of its text encoder, 77 of 768 channels, and not one embedding of 512."""
    feature_layer_ix: int = -1
    """The layer of these hidden states."""
    file: str | None = None
    output_dim: int | None = None
    project_out: bool = False

    def __post_init__(self) -> None:
        _check_width(self)

    @property
    def width(self) -> int:
        return 768 if self.use_text_features else 512


@dataclass(frozen=True, kw_only=True)
class CLAPAudioConfig:
    """An embedding of audio that CLAP has computed before."""

    output_dim: int | None = None
    project_out: bool = False

    def __post_init__(self) -> None:
        _check_width(self)

    @property
    def width(self) -> int:
        return 512


# --- numbers and choices -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class IntConfig:
    """A vector for each whole number; others than these count as the nearest."""

    min_val: int = 0
    max_val: int = 512
    from_min_val: bool = False
    """The first vector is that of `min_val`, for a `min_val` other than 0."""
    output_dim: int | None = None

    def __post_init__(self) -> None:
        _check_width(self)
        if self.max_val < self.min_val:
            raise ValueError(f"max_val must be at least min_val, got {self.max_val}")
        if self.min_val and not self.from_min_val:
            raise ValueError(
                f"min_val: is {self.min_val}, and the first vector that of 0; for the first to be that of min_val, "
                f"set from_min_val"
            )


@dataclass(frozen=True, kw_only=True)
class NumberConfig:
    """Sines and cosines of a number; one outside of the range counts as its end."""

    min_val: float = 0.0
    max_val: float = 1.0
    output_dim: int | None = None

    def __post_init__(self) -> None:
        _check_width(self)
        if not self.min_val < self.max_val:
            raise ValueError(f"max_val must be above min_val, got {self.max_val}")


@dataclass(frozen=True, kw_only=True)
class ListConfig:
    """A vector for each option, and one for all other values."""

    options: tuple[str, ...]
    output_dim: int | None = None

    def __post_init__(self) -> None:
        _check_width(self)
        if not self.options or len(set(self.options)) < len(self.options):
            raise ValueError(f"options must be different ones, at least one, got {list(self.options)}")


# --- audio -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class CodecSource:
    name: str
    """Of an installed codec."""
    path: str = "default"
    """The folder or Hub id of its bundle, or what its package calls the one that it ships."""
    fingerprint: str = ""
    """Of the codec that a model has learnt with, as hexadecimal digits: with another it would give noise."""

    def __post_init__(self) -> None:
        try:
            bytes.fromhex(self.fingerprint)
        except ValueError:
            raise ValueError(f"fingerprint must be hexadecimal digits, got {self.fingerprint[:40]!r}") from None


@dataclass(frozen=True, kw_only=True)
class PretransformConfig:
    """Latents of audio, for concatenation to the input."""

    encoded_channels: int
    """Channels of the codec's latents."""
    codec: CodecSource | None = None
    """None: the model's own codec."""
    output_dim: int | None = None

    def __post_init__(self) -> None:
        _check_width(self)
        within(self, 1, "encoded_channels")


@dataclass(frozen=True, kw_only=True)
class SourceMixConfig:
    """The sum of the projected latents of all sources that an item has."""

    encoded_channels: int
    source_keys: tuple[str, ...]
    codec: CodecSource | None = None
    pre_encoded: bool = False
    """The sources are latents already."""
    allow_null_source: bool = False
    """An item without sources is a learned vector, repeated `source_length` times."""
    source_length: int | None = None
    output_dim: int | None = None

    def __post_init__(self) -> None:
        _check_width(self)
        within(self, 1, "encoded_channels")
        if not self.source_keys or len(set(self.source_keys)) < len(self.source_keys):
            raise ValueError(f"source_keys must be different ones, at least one, got {list(self.source_keys)}")
        if self.allow_null_source and not 1 <= (self.source_length or 0) <= _MOST_TOKENS:
            raise ValueError(f"allow_null_source needs a source_length from 1 to {_MOST_TOKENS}")


ConditionerConfig = (
    T5Config
    | BytesConfig
    | LUTConfig
    | PhonemeConfig
    | PrecomputedConfig
    | CLAPTextConfig
    | CLAPAudioConfig
    | IntConfig
    | NumberConfig
    | ListConfig
    | PretransformConfig
    | SourceMixConfig
)


@dataclass(frozen=True, kw_only=True)
class ConditioningConfig:
    cond_dim: int = 768
    conditioners: Mapping[str, ConditionerConfig] = field(default_factory=dict)
    """By the key under which an item states what each is to take."""
    default_keys: Mapping[str, str] = field(default_factory=dict)
    """Where an item lacks a key, the one to take in its place."""
    pre_encoded_keys: tuple[str, ...] = ()
    """What items hold under these is a tensor that the model takes as it is."""

    def __post_init__(self) -> None:
        within(self, 1, "cond_dim")
        for name in ("default_keys", "pre_encoded_keys"):
            for key in getattr(self, name):
                if key not in self.conditioners:
                    raise ValueError(f"{name}: there is no conditioner {key!r}")
        for key in self.conditioners:
            if not key or "." in key:  # of a module's name
                raise ValueError(f"conditioners: {key!r} is no possible key; leave out dots")

    def output_dim(self, key: str) -> int:
        return self.conditioners[key].output_dim or self.cond_dim


def _check_width(config: ConditionerConfig | _Text) -> None:
    if config.output_dim is not None:
        within(config, 1, "output_dim")
