"""Measures of stereo that the core does not have."""

from __future__ import annotations

import torch.nn.functional as F
from audio_core.dsp.stft import stft
from torch import Tensor

FRAMES = 32  # of the STFT, over which the likeness of the channels is taken


def coherence(x: Tensor, n_fft: int = 1024, hop: int = 256) -> Tensor:
    """How alike two channels (2, T) are in each bin over 32 frames, from 0 to 1, as (bins, groups).

    1 where one is the other, louder or later; near 0 for sounds that have nothing in common; 0 where one is silent.
    """
    left, right = _groups(stft(x, n_fft, hop))
    cross = (left * right.conj()).sum(-1).abs()
    power = left.abs().square().sum(-1) * right.abs().square().sum(-1)
    return cross / (power.sqrt() + 1e-8)


def coherence_difference(estimate: Tensor, target: Tensor, n_fft: int = 1024, hop: int = 256) -> Tensor:
    """The mean difference of two sounds' coherence (2, T) -> (), weighted by the energy of the target."""
    difference = (coherence(estimate, n_fft, hop) - coherence(target, n_fft, hop)).abs()
    energy = _groups(stft(target, n_fft, hop)).abs().square().sum((0, -1))  # (bins, groups)
    return (energy * difference).sum() / (energy.sum() + 1e-8)


def _groups(spectrum: Tensor) -> Tensor:
    """(2, bins, frames) -> (2, bins, groups, frames of a group), the last filled with zeros."""
    return F.pad(spectrum, (0, -spectrum.shape[-1] % FRAMES)).unflatten(-1, (-1, FRAMES))
