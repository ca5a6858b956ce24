"""Masks of inpainting, 1 where a frame is given and 0 where it is generated: training and generation share them."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from audio_core.files import InputError
from torch import Tensor

from .config.masks import MaskConfig

_TYPES = ("segments", "full", "causal")


def inpainting_masks(padding: Tensor, settings: MaskConfig, generator: random.Random) -> Tensor:
    """Random masks (B, 1, T) for training; `padding` (B, T) is 1 where an item is real and 0 behind its end."""
    counts = padding.sum(1).tolist()
    masks = [_mask(int(real), padding.shape[1], settings, generator) for real in counts]
    return torch.stack(masks)[:, None].to(padding.device)


def _mask(real: int, frames: int, settings: MaskConfig, generator: random.Random) -> Tensor:
    """(T,). Only `full` has padding generated as well. The numbers are drawn in stable-audio-tools' order."""
    kind = generator.choices(_TYPES, settings.mask_type_probabilities)[0]
    mask = torch.ones(frames)
    if kind == "full":
        return torch.zeros(frames)
    if kind == "causal":
        mask[generator.randint(0, real) : real] = 0
    elif real:
        segments = generator.randint(1, settings.max_mask_segments)
        for _ in range(segments):
            length = generator.randint(1, max(1, real // segments))
            start = generator.randint(0, real - length)
            mask[start : start + length] = 0
    return mask


def to_frames(mask: Tensor, frames: int) -> Tensor:
    """A mask (B, T) of samples as one of latent frames: that of the first sample of each, in the mask's dtype."""
    return F.interpolate(mask[:, None].float(), frames, mode="nearest")[:, 0].to(mask.dtype)


def soft_mask(
    samples: int, start: int, end: int, fade_in: int = 0, fade_out: int = 0, marination: float = 0.0
) -> Tensor:
    """A mask (samples,) that is 1 from `start` to `end`, with Hann fades inside both edges.

    `marination` leaves a part of what is given open to change. stable-audio-tools' first form of inpainting had this.
    """
    if fade_in + fade_out > end - start:
        raise InputError(
            f"fade_in, fade_out: {fade_in} and {fade_out} samples do not fit one after the other into the "
            f"{end - start} from start to end; make them shorter"
        )
    mask = torch.zeros(samples)
    mask[start:end] = 1
    if fade_in:
        mask[start : start + fade_in] = torch.hann_window(2 * fade_in, periodic=False)[:fade_in]
    if fade_out:
        mask[end - fade_out : end] = torch.hann_window(2 * fade_out, periodic=False)[fade_out:]
    return mask * (1 - marination)
