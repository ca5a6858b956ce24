"""The diffusion transformer: frames as positions, with conditions beside, before and between them.

x (B, C, T) at time t (B,), 0 clean to 1 noise -> (B, C, T). All conditions are optional:

    cross_attn_cond (B, N, W)         tokens for cross-attention
    cross_attn_mask (B, N)            which of them are real; without it all count, those of padding too
    global_cond (B, W)                one vector for the whole sequence
    input_concat_cond (B, W, any T)   frames beside those of x
    prepend_cond (B, P, W)            tokens before the sequence
    prepend_cond_mask (B, P)          which of them are real
    padding_mask (B, T)               which frames of x are real: no other frame sees the rest

The published models have learnt without masks, and sound as they should only without them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config.backbones import DiTConfig
from .conditions import projection
from .fourier import FourierFeatures
from .transformer import ContinuousTransformer

_FREQUENCIES = 128  # of the time
# The setting that gives a model each of the conditions which are projected.
_DIMS = {"cond": "cond_token_dim", "global": "global_cond_dim", "prepend": "prepend_cond_dim"}


class DiT(nn.Module):
    Config = DiTConfig

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.config = config
        width = config.embed_dim
        self.timestep_features = FourierFeatures(_FREQUENCIES)
        time = config.timestep_embed_dim or width
        self.to_timestep_embed = nn.Sequential(nn.Linear(2 * _FREQUENCIES, time), nn.SiLU(), nn.Linear(time, time))
        if config.cond_token_dim:
            self.to_cond_embed = projection(config.cond_token_dim, config.context_width)
        if config.global_cond_dim:
            self.to_global_embed = projection(config.global_cond_dim, width)
        if config.prepend_cond_dim:
            self.to_prepend_embed = projection(config.prepend_cond_dim, width)
        self.preprocess_conv = _added_conv(config.in_channels)
        self.postprocess_conv = _added_conv(config.io_channels)
        self.transformer = ContinuousTransformer(
            config.transformer,
            width,
            config.depth,
            config.head,
            config.in_channels * config.patch_size,
            config.io_channels * config.patch_size,
            config.context_width,
            width if config.global_cond_type == "adaLN" else 0,
        )

    def forward(self, x: Tensor, t: Tensor, **conditions: Tensor | None) -> Tensor:
        positions = x.shape[2] // self.config.patch_size
        y = self._transformed(x, t, None, **conditions)[:, -positions:]
        y = y.unflatten(2, (-1, self.config.patch_size)).transpose(1, 2).flatten(2)  # (B, C, T)
        return (y + self.postprocess_conv(y)).to(x.dtype)

    def hidden(self, x: Tensor, t: Tensor, layer: int, **conditions: Tensor | None) -> Tensor:
        """The sequence as block `layer` leaves it, with what is prepended: (B, positions, width)."""
        return self._transformed(x, t, layer, **conditions)

    def _transformed(
        self,
        x: Tensor,
        t: Tensor,
        exit_layer: int | None,
        cross_attn_cond: Tensor | None = None,
        cross_attn_mask: Tensor | None = None,
        global_cond: Tensor | None = None,
        input_concat_cond: Tensor | None = None,
        prepend_cond: Tensor | None = None,
        prepend_cond_mask: Tensor | None = None,
        padding_mask: Tensor | None = None,
    ) -> Tensor:
        """(B, positions, channels), those of what is prepended first."""
        config, dtype = self.config, self.preprocess_conv.weight.dtype
        time = self.to_timestep_embed(self.timestep_features(t).to(dtype))
        vector = self._projected("global", config.global_cond_dim, global_cond)
        prepended = self._projected("prepend", config.prepend_cond_dim, prepend_cond)
        frames = [x.to(dtype), *self._beside(x, input_concat_cond)]
        if config.timestep_cond_type == "input_concat":
            frames.append(time[:, :, None].expand(-1, -1, x.shape[2]))
        else:
            vector = time if vector is None else vector + time
        if config.global_cond_type == "prepend" and vector is not None:
            prepended, prepend_cond_mask = _with_last(prepended, prepend_cond_mask, vector[:, None])
        return self.transformer(
            self._positions(torch.cat(frames, 1)),
            prepended,
            self._projected("cond", config.cond_token_dim, cross_attn_cond),
            vector if config.global_cond_type == "adaLN" else None,
            valid=None if padding_mask is None else padding_mask.unflatten(1, (-1, config.patch_size)).any(2),
            prepended_valid=prepend_cond_mask,
            context_valid=cross_attn_mask,
            exit_layer=exit_layer,
        )

    def _projected(self, name: str, width: int, condition: Tensor | None) -> Tensor | None:
        """A condition in the transformer's width. One of zeros stays zeros."""
        if condition is None:
            return None
        if not width:
            raise ValueError(f"the model has no {_DIMS[name]}, and its condition is given")
        layers = getattr(self, f"to_{name}_embed")
        return layers(condition.to(layers[0].weight.dtype))

    def _beside(self, x: Tensor, condition: Tensor | None) -> list[Tensor]:
        """What is given for each frame, at the length of x."""
        width = self.config.input_concat_dim
        if (condition is None) is not (width == 0):
            raise ValueError(
                f"input_concat_dim is {width}, and {'no' if condition is None else 'an'} input_concat_cond is given"
            )
        if condition is None:
            return []
        return [F.interpolate(condition.to(self.preprocess_conv.weight.dtype), x.shape[2], mode="nearest")]

    def _positions(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, T / patch size, patch size * C)"""
        if x.shape[2] % self.config.patch_size:
            raise ValueError(f"the length must be a multiple of {self.config.patch_size}, got {x.shape[2]}")
        x = x + self.preprocess_conv(x)
        return x.unflatten(2, (-1, self.config.patch_size)).transpose(1, 2).flatten(2)


def _with_last(tokens: Tensor | None, mask: Tensor | None, last: Tensor) -> tuple[Tensor, Tensor | None]:
    """`last` (B, 1, C) behind the tokens, and in their mask."""
    if tokens is None:
        return last, None
    if mask is not None:
        mask = F.pad(mask, (0, 1), value=True)
    return torch.cat([tokens, last], 1), mask


def _added_conv(channels: int) -> nn.Conv1d:
    """Of a branch that adds nothing at first."""
    conv = nn.Conv1d(channels, channels, 1, bias=False)
    nn.init.zeros_(conv.weight)
    return conv
