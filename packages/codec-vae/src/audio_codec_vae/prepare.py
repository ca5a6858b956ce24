"""Recordings of any rate, length and number of channels -> one batch, as stable-audio-tools makes it of tensors.

It stands apart, since only latents that are to equal the original's need its filter and its rules for channels. Files
are read by the core, whose resampling is better and which mixes surround down.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from audio_core.audio import batch
from audio_core.files import InputError
from torch import Tensor

from .resampling import resample


def prepared(recordings: Sequence[Tensor], rates: int | Sequence[int], model: Any) -> Tensor:
    """Recordings (T,), (C, T) or (1, C, T) -> (B, channels, T) at the rate of `model`, for its `encode`.

    All are followed by zeros up to the longest and to a whole number of frames. A model of one channel gets the mean
    of all; others get one channel several times, or the first of many.
    """
    rates = [rates] * len(recordings) if isinstance(rates, int) else [*rates]
    if not recordings or len(rates) != len(recordings):
        raise InputError(f"rates: {len(rates)} for {len(recordings)} recordings; pass one rate, or one for each")
    each = [
        resample(_rows(recording, at), rate, model.sample_rate)
        for at, (recording, rate) in enumerate(zip(recordings, rates, strict=True))
    ]
    longest = max(rows.shape[-1] for rows in each)
    length = -(-longest // model.hop) * model.hop
    return torch.stack([F.pad(_channels(rows, model.channels), (0, length - rows.shape[-1])) for rows in each])


def _rows(recording: Tensor, at: int) -> Tensor:
    """(C, T)."""
    name, shape = f"recordings[{at}]", tuple(recording.shape)
    if len(shape) == 3 and shape[0] == 1:
        recording = recording[0]
    elif len(shape) not in (1, 2):
        raise InputError(f"{name}: has the shape {shape}; pass one recording, (T,) or (C, T)")
    recording = torch.atleast_2d(recording)
    return batch(recording[None], len(recording), name)[0]


def _channels(rows: Tensor, channels: int) -> Tensor:
    if channels == 1:
        return rows.mean(0, keepdim=True)
    if len(rows) not in (1, channels) and len(rows) < channels:
        raise InputError(f"audio: has {len(rows)} channels, which cannot become {channels}")
    return rows.expand(channels, -1) if len(rows) == 1 else rows[:channels]
