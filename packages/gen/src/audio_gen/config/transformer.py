"""The settings of the transformer that diffusion models and language models share, without torch.

Names are those of the original's JSON, where `attention`, `feed_forward` and `norm` are `attn_kwargs`, `ff_kwargs` and
`norm_kwargs`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from audio_core.checks import within

_FEWEST_ROTATED = 32  # features of a head, in the one rotary table that all blocks share


@dataclass(frozen=True, kw_only=True)
class AttentionConfig:
    """Of self-attention and cross-attention alike."""

    qk_norm: Literal["none", "l2", "ln", "dyt"] = "none"
    """What norms queries and keys within each head: nothing, their length, a layer norm, or a tanh (dynamic tanh)."""
    differential: bool = False
    """Attends with a second pair of queries and keys, and subtracts the result."""
    feat_scale: bool = False
    """Learns to scale the mean over time and the rest of the output apart."""


@dataclass(frozen=True, kw_only=True)
class FeedForwardConfig:
    mult: float = 4.0
    """The hidden layer's width in widths of the transformer."""
    no_bias: bool = False
    """Of the last layer, and without `glu` of the first too."""
    glu: bool = True
    """A gated linear unit; otherwise SiLU."""
    use_conv: bool = False
    """Convolutions over time in place of linear layers; with `glu` the last layer alone."""
    conv_kernel_size: int = 3

    def __post_init__(self) -> None:
        if self.mult <= 0:
            raise ValueError(f"feed_forward.mult must be above 0, got {self.mult}")
        if self.conv_kernel_size < 1 or self.conv_kernel_size % 2 == 0:
            raise ValueError(f"feed_forward.conv_kernel_size must be odd, got {self.conv_kernel_size}")


@dataclass(frozen=True, kw_only=True)
class NormConfig:
    """Of the layer norms of blocks; those of queries and keys have their own."""

    bias: bool = False
    """Learns a shift."""
    fix_scale: bool = False
    """Learns no gain."""
    force_fp32: bool = False
    """Computes in float32, whatever the model computes in."""
    eps: float = 1e-5

    def __post_init__(self) -> None:
        if self.eps <= 0:
            raise ValueError(f"norm.eps must be above 0, got {self.eps}")


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """All but the sizes, which whoever holds the transformer decides."""

    attention: AttentionConfig = field(default_factory=AttentionConfig)
    feed_forward: FeedForwardConfig = field(default_factory=FeedForwardConfig)
    norm: NormConfig = field(default_factory=NormConfig)
    causal: bool = False
    """Self-attention sees no later position. Cross-attention sees all of its context."""
    sliding_window: tuple[int, int] | None = None
    """How many positions self-attention reaches to the left and right; None: all. The original has it on GPUs alone."""
    final_cross_attn_ix: int = -1
    """The last block with cross-attention; -1: all have it."""
    num_memory_tokens: int = 0
    """Learned positions before all others."""
    rotary_pos_emb: bool = True
    """Rotates half of each head's features, and at least 32, by the position."""
    add_rope: bool = False
    """Rotates exactly half of them, in place of `rotary_pos_emb`."""
    rotary_interpolation_factor: float = 1.0
    """Divides positions: a sequence so many times as long as in training keeps the angles seen there."""
    rotary_base_rescale_factor: float = 1.0
    """Slows the slow rotations so many times and keeps the fast ones, for longer sequences too."""
    use_sinusoidal_emb: bool = False
    """Adds sines of the position to the input."""
    use_abs_pos_emb: bool = False
    """Adds a learned vector of each position to the input."""
    abs_pos_emb_max_length: int = 10000
    conformer: bool = False
    """A module of convolutions between attention and feed-forward layer."""
    layer_scale: bool = False
    """A learned factor for each channel of a branch, small at first."""
    remove_norms: bool = False
    """Dynamic tanh in place of the blocks' layer norms."""
    zero_init_branch_outputs: bool = True
    """New blocks pass their input on; `layer_scale` does the same, and takes its place."""

    def __post_init__(self) -> None:
        within(self, -1, "final_cross_attn_ix")
        within(self, 0, "num_memory_tokens", *(["sliding_window"] if self.sliding_window is not None else []))
        within(self, 1, "abs_pos_emb_max_length", "rotary_interpolation_factor", "rotary_base_rescale_factor")
        if self.use_sinusoidal_emb and self.use_abs_pos_emb:
            raise ValueError("use_sinusoidal_emb and use_abs_pos_emb exclude each other")
        ahead = {
            "conformer": self.conformer,
            "feed_forward.use_conv": self.feed_forward.use_conv,
            "attention.feat_scale": self.attention.feat_scale,
        }
        for name, set_ in ahead.items():
            if self.causal and set_:
                raise ValueError(f"{name} looks ahead, so a causal transformer cannot have it")

    def rotated(self, head: int) -> int:
        """How many features of a head of `head` channels are rotated by the position."""
        if self.add_rope:
            return head // 2
        return max(head // 2, _FEWEST_ROTATED) if self.rotary_pos_emb else 0

    def check_head(self, head: int) -> None:
        """Refuse a head that has no room for what is rotated."""
        if self.rotated(head) > head:
            raise ValueError(
                f"heads must have at least {_FEWEST_ROTATED} channels for rotary_pos_emb, got {head}; "
                "take fewer heads or another position embedding"
            )
        if self.rotated(head) % 2:
            raise ValueError(f"half of a head's channels are rotated in pairs, so heads of {head} channels cannot be")
