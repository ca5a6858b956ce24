"""The settings of language models of codes, without torch: codebook patterns, the network, and how codes are sampled.

Names are those of the originals: of stable-audio-tools' JSON for the network, of AudioCraft for the patterns.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .checks import as_many, at_least, shares_heads
from .transformer import TransformerConfig

# --- patterns --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class DelayConfig:
    """A step holds one code of each codebook; later codebooks are some frames behind. MusicGen's."""

    delays: tuple[int, ...] | None = None
    """Of each codebook, in frames; None: 0, 1, 2 and so on."""
    flatten_first: int = 0
    """So many frames at the beginning have a step for each code, before the delays begin."""
    empty_initial: int = 0
    """Steps without codes at the beginning, beyond the one that all patterns begin with."""

    def __post_init__(self) -> None:
        at_least(0, self, "flatten_first", "empty_initial")
        _check_delays(self)

    def expect(self, codebooks: int) -> None:
        """Refuse a number of codebooks that the settings are not for."""
        if self.delays is not None:
            as_many(codebooks, self, "delays")


@dataclass(frozen=True, kw_only=True)
class ParallelConfig:
    """A step holds all codes of a frame."""

    empty_initial: int = 0

    def __post_init__(self) -> None:
        at_least(0, self, "empty_initial")

    def expect(self, codebooks: int) -> None:
        pass


@dataclass(frozen=True, kw_only=True)
class CoarseFirstConfig:
    """All codes of the first codebook, then those of the others, a step for each frame. VALL-E's."""

    delays: tuple[int, ...] | None = None
    """Of each codebook but the first, in frames; None: all 0."""

    def __post_init__(self) -> None:
        _check_delays(self)

    def expect(self, codebooks: int) -> None:
        if codebooks < 2:
            raise ValueError("CoarseFirst needs two codebooks or more")
        if self.delays is not None:
            as_many(codebooks - 1, self, "delays")


@dataclass(frozen=True, kw_only=True)
class MusicLMConfig:
    """Groups of codebooks one after the other, a step for each code. MusicLM's."""

    group_by: int = 2
    """Codebooks in a group."""

    def __post_init__(self) -> None:
        at_least(1, self, "group_by")

    def expect(self, codebooks: int) -> None:
        if codebooks % self.group_by:
            raise ValueError(f"group_by must divide the number of codebooks, {codebooks}, got {self.group_by}")


@dataclass(frozen=True, kw_only=True)
class UnrollConfig:
    """Groups of codebooks have a step each in every frame; a group may be some frames behind."""

    flattening: tuple[int, ...] | None = None
    """The group of each codebook, from 0 on; None: each codebook is one."""
    delays: tuple[int, ...] | None = None
    """Of each codebook, in frames, the same within a group; None: all 0."""

    def __post_init__(self) -> None:
        _check_delays(self)
        if self.flattening is not None and {*self.flattening} != {*range(len({*self.flattening}))}:
            raise ValueError(f"flattening must use every group from 0 on, got {[*self.flattening]}")

    def groups(self, codebooks: int) -> tuple[int, ...]:
        return tuple(range(codebooks)) if self.flattening is None else self.flattening

    def expect(self, codebooks: int) -> None:
        for name in ("flattening", "delays"):
            if getattr(self, name) is not None:
                as_many(codebooks, self, name)
        if self.delays is not None:
            groups = self.groups(codebooks)
            if len({*zip(groups, self.delays, strict=True)}) > len({*groups}):
                raise ValueError(f"delays must be the same within a group of flattening, got {[*self.delays]}")


PatternConfig = DelayConfig | ParallelConfig | CoarseFirstConfig | MusicLMConfig | UnrollConfig


def _check_delays(config: DelayConfig | CoarseFirstConfig | UnrollConfig) -> None:
    if config.delays is not None:
        at_least(0, config, "delays")


# --- the network -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class LanguageModelConfig:
    """A width of 0 says that the model has no such condition."""

    codebooks: int = 4
    codebook_size: int = 2048
    """Codes of each codebook; the model has one more, which stands where there is none."""
    pattern: PatternConfig = field(default_factory=DelayConfig)
    embed_dim: int = 1024
    depth: int = 12
    dim_heads: int = 64
    """Channels of an attention head."""
    cross_attn_cond_dim: int = 0
    """Of tokens for cross-attention."""
    project_cross_attn_cond: bool = False
    """To embed_dim; otherwise they keep their width, and there are fewer heads of keys and values than of queries."""
    prepend_cond_dim: int = 0
    """Of tokens before the sequence."""
    transformer: TransformerConfig = field(default_factory=lambda: TransformerConfig(causal=True))

    def __post_init__(self) -> None:
        at_least(1, self, "codebooks", "codebook_size", "embed_dim", "depth", "dim_heads")
        at_least(0, self, "cross_attn_cond_dim", "prepend_cond_dim")
        self.pattern.expect(self.codebooks)
        if self.embed_dim % self.dim_heads:
            raise ValueError(f"embed_dim must be a multiple of dim_heads, got {self.embed_dim} and {self.dim_heads}")
        self.transformer.check_head(self.dim_heads)
        if not self.transformer.causal:
            raise ValueError("transformer.causal must be on: a language model predicts what it does not see yet")
        if self.cross_attn_cond_dim and not self.project_cross_attn_cond:
            heads, width = self.embed_dim // self.dim_heads, self.cross_attn_cond_dim
            shares_heads("cross_attn_cond_dim", width, "project_cross_attn_cond", heads, self.dim_heads)

    @property
    def context_width(self) -> int:
        """Of the tokens that cross-attention sees; 0: none."""
        projected = self.cross_attn_cond_dim and self.project_cross_attn_cond
        return self.embed_dim if projected else self.cross_attn_cond_dim


# --- sampling --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class CodeSampling:
    """How codes are drawn from a language model's probabilities."""

    temperature: float = 1.0
    """Below 1 likely codes become more likely; 0: always the likeliest code."""
    top_k: int = 250
    """Draw from so many of the likeliest codes; 0: from all."""
    top_p: float = 0.0
    """Draw from the likeliest codes that together have this probability, whatever `top_k` is; 0: as `top_k` says."""
    guidance: float = 1.0
    """How many times the step from the unconditioned to the conditioned logits is taken; 1: no guidance."""
    window: int | None = None
    """The most frames that the model sees, for longer results; None: all of them."""
    stride: int | None = None
    """Frames that each further window adds. It sees the `window` - `stride` frames before."""

    def __post_init__(self) -> None:
        at_least(0, self, "top_k")
        for name in ("temperature", "guidance"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be finite and at least 0, got {getattr(self, name)}")
        if not 0 <= self.top_p <= 1:
            raise ValueError(f"top_p must be from 0 to 1, got {self.top_p}")
        if (self.window is None) is not (self.stride is None):
            raise ValueError("window and stride need one another")
        if self.window is not None and self.stride is not None and not 1 <= self.stride < self.window:
            raise ValueError(f"stride must be from 1 to below window, {self.window}, got {self.stride}")
