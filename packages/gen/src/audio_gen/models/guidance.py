"""Classifier-free guidance: a backbone estimates with and without its conditions, and goes beyond the former.

Only tokens for cross-attention and prepended tokens are left out; global and concatenated conditions stay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from audio_core.dsp.precision import full_precision
from torch import Tensor

from ..config.guidance import Guidance
from ..diffusion.objectives import Objective

Conditions = Mapping[str, Tensor | None]
"""By the names of a backbone's arguments."""

TOKENS = {"cross_attn_cond": "cross_attn_mask", "prepend_cond": "prepend_cond_mask"}
"""The conditions that guidance leaves out, each with its mask."""


class Prediction(NamedTuple):
    output: Tensor  # (B, C, T)
    unconditioned: Tensor  # the same as the output where nothing was guided


class Guided:
    """A backbone with its conditions, as samplers call it.

    The unconditioned estimate sees `null` of the tokens, or `negative` tokens, which may have masks of their own.
    """

    def __init__(
        self,
        backbone: Callable[..., Tensor],
        conditions: Conditions,
        guidance: Guidance,
        objective: Objective,
        negative: Conditions | None = None,
        null: Callable[[Tensor], Tensor] = torch.zeros_like,
    ):
        self.backbone, self.guidance, self.objective = backbone, guidance, objective
        self.conditions = {name: value for name, value in conditions.items() if value is not None}
        if guidance.scale != 1:
            given = {name: value for name, value in (negative or {}).items() if value is not None}
            self.both = doubled(self.conditions, given, null)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """The guided output at times t (B,)."""
        return self.pair(x, t).output

    def pair(self, x: Tensor, t: Tensor) -> Prediction:
        """Beside it the unconditioned output, which v-ddim-cfgpp takes too."""
        least, most = self.guidance.interval
        if self.guidance.scale != 1:
            sigma = self.objective.sigma(t)
            inside = (sigma >= least) & (sigma <= most)
        if self.guidance.scale == 1 or not inside.any():
            output = self.backbone(x, t, **self.conditions)
            return Prediction(output, output)
        both = self.backbone(torch.cat([x, x]), torch.cat([t, t]), **self.both)
        conditioned, unconditioned = both.chunk(2)
        valid = self.conditions.get("padding_mask")
        output = guided(conditioned, unconditioned, self.guidance, self.objective, x, t, valid)
        inside = inside[:, None, None]
        return Prediction(torch.where(inside, output, conditioned), torch.where(inside, unconditioned, conditioned))


def doubled(
    conditions: dict[str, Tensor], negative: dict[str, Tensor], null: Callable[[Tensor], Tensor] = torch.zeros_like
) -> dict[str, Tensor]:
    """The conditions of the conditioned estimates, and behind them in the batch those of the unconditioned ones."""
    present = [name for name in TOKENS if name in conditions]
    if not present:
        raise ValueError(f"guidance leaves out {' or '.join(TOKENS)}, and there is neither; its scale must be 1")
    others = dict(conditions)
    for name in present:
        others[name] = null(conditions[name])
        if name in negative:
            others |= _negative(name, conditions, negative)
    if unused := {*negative} - {each for name in present if name in negative for each in (name, TOKENS[name])}:
        raise ValueError(f"guidance keeps {', '.join(sorted(unused))}, so it cannot be negative")
    return {name: torch.cat([value, others[name]]) for name, value in conditions.items()}


def _negative(name: str, conditions: dict[str, Tensor], negative: dict[str, Tensor]) -> dict[str, Tensor]:
    """Negative tokens, zero where they are not real, and their mask where the model is given masks."""
    tokens, mask_name = negative[name], TOKENS[name]
    if tokens.shape != conditions[name].shape:
        raise ValueError(f"negative {name} is {tuple(tokens.shape)}, and {name} {tuple(conditions[name].shape)}")
    mask = negative.get(mask_name, torch.ones_like(tokens[..., 0], dtype=torch.bool))
    tokens = torch.where(mask[..., None], tokens, 0.0)
    return {name: tokens, mask_name: mask} if mask_name in conditions else {name: tokens}


@full_precision
def guided(
    conditioned: Tensor,
    unconditioned: Tensor,
    guidance: Guidance,
    objective: Objective,
    x: Tensor,
    t: Tensor,
    valid: Tensor | None = None,
) -> Tensor:
    """Both outputs for x (B, C, T) at t (B,) -> the guided one. `valid` (B, T) is true in frames that count.

    APG and the norm threshold are stated for estimates of the clean signal. These differ by -sigma times what the
    outputs differ by, so both can be applied to the outputs, and nothing is divided by a sigma near 0.
    """
    difference = conditioned - unconditioned
    frames = 1.0 if valid is None else valid[:, None].to(difference.dtype)
    if guidance.norm_threshold:
        norm = objective.sigma(t)[:, None, None] * _norm(difference * frames)
        difference = difference * (guidance.norm_threshold / norm).clamp(max=1)
    if guidance.apg:
        clean = objective.denoised(x, conditioned, t) * frames
        direction = clean / _norm(clean).clamp(min=1e-12)
        parallel = (difference * direction).sum((1, 2), keepdim=True) * direction
        difference = difference - guidance.apg * parallel
    output = conditioned + (guidance.scale - 1) * difference
    if guidance.rescale:
        output = rescaled(output, conditioned, guidance.rescale)
    return output


def rescaled(output: Tensor, conditioned: Tensor, share: float) -> Tensor:
    """`output` with the standard deviation over the channels of each frame that `conditioned` has, by this share."""
    smallest = torch.finfo(output.dtype).tiny
    ratio = conditioned.std(1, keepdim=True) / output.std(1, keepdim=True).clamp(min=smallest)
    return output * (share * ratio + 1 - share)


def _norm(x: Tensor) -> Tensor:
    """Of each item, (B, 1, 1)."""
    return x.square().sum((1, 2), keepdim=True).sqrt()


def dropped(
    conditions: Conditions, chosen: Tensor, null: Callable[[Tensor], Tensor] = torch.zeros_like
) -> dict[str, Tensor | None]:
    """For training: tokens are `null` where `chosen` (B, kinds of `TOKENS`) says so: a model also learns without."""
    result = dict(conditions)
    for name, items in zip(TOKENS, chosen.unbind(1), strict=True):
        tokens = conditions.get(name)
        if tokens is not None:
            result[name] = torch.where(items.to(tokens.device)[:, None, None], null(tokens), tokens)
    return result
