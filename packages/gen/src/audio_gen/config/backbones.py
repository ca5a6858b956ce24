"""The settings of the diffusion backbones, without torch. Names are those of the original's JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from .checks import at_least, shares_heads
from .transformer import TransformerConfig

# --- the diffusion transformer -------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """A width of 0 says that the model has no such condition."""

    io_channels: int = 32
    patch_size: int = 1
    """Frames that make one position."""
    embed_dim: int = 768
    depth: int = 12
    num_heads: int = 8
    cond_token_dim: int = 0
    """Of tokens for cross-attention."""
    project_cond_tokens: bool = True
    """To embed_dim; otherwise they keep their width, and there are fewer heads of keys and values than of queries."""
    global_cond_dim: int = 0
    """Of one vector for the whole sequence."""
    project_global_cond: bool = True
    prepend_cond_dim: int = 0
    """Of tokens before the sequence."""
    input_concat_dim: int = 0
    """Channels of what is given for each frame beside the input."""
    global_cond_type: Literal["prepend", "adaLN"] = "prepend"
    """Whether the global vector is one more token, or scales, shifts and gates every block."""
    timestep_cond_type: Literal["global", "input_concat"] = "global"
    """Whether the time is part of the global vector, or of every frame."""
    timestep_embed_dim: int | None = None
    """Channels of the time in every frame."""
    transformer: TransformerConfig = field(default_factory=TransformerConfig)

    def __post_init__(self) -> None:
        at_least(1, self, "io_channels", "patch_size", "embed_dim", "depth", "num_heads")
        at_least(0, self, "cond_token_dim", "global_cond_dim", "prepend_cond_dim", "input_concat_dim")
        if self.embed_dim % self.num_heads:
            raise ValueError(f"embed_dim must be a multiple of num_heads, got {self.embed_dim} and {self.num_heads}")
        self.transformer.check_head(self.head)
        if self.transformer.causal:
            raise ValueError("transformer.causal: a diffusion transformer sees the whole sequence")
        if self.cond_token_dim and not self.project_cond_tokens:
            shares_heads("cond_token_dim", self.cond_token_dim, "project_cond_tokens", self.num_heads, self.head)
        if self.global_cond_dim not in (0, self.embed_dim) and not self.project_global_cond:
            raise ValueError(f"global_cond_dim must be embed_dim where project_global_cond is off: {self.embed_dim}")
        if self.timestep_cond_type == "input_concat" and not (self.timestep_embed_dim or 0) > 0:
            raise ValueError("timestep_embed_dim must be given where timestep_cond_type is input_concat")
        if self.timestep_cond_type == "global" and self.timestep_embed_dim is not None:
            raise ValueError("timestep_embed_dim is for timestep_cond_type input_concat")
        if self.global_cond_type == "adaLN" and self.timestep_cond_type != "global" and not self.global_cond_dim:
            raise ValueError("adaLN needs a global vector: global_cond_dim, or the time")

    @property
    def head(self) -> int:
        """Channels of an attention head."""
        return self.embed_dim // self.num_heads

    @property
    def context_width(self) -> int:
        """Of the tokens that cross-attention sees; 0: none."""
        return self.embed_dim if self.cond_token_dim and self.project_cond_tokens else self.cond_token_dim

    @property
    def in_channels(self) -> int:
        """Of the frames that the network sees."""
        return self.io_channels + self.input_concat_dim + (self.timestep_embed_dim or 0)
