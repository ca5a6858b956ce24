"""The losses of SEMamba, on compressed spectrograms (B, F, T)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from audio_core.dsp.precision import full_precision
from audio_core.dsp.stft import stft
from torch import Tensor

from .compressed import Compressed, CompressedSTFT
from .config import SPECTRAL

if TYPE_CHECKING:
    from .model import Estimate


def anti_wrapped(difference: Tensor) -> Tensor:
    """The distance of angles: |x| after x is brought to -pi to pi by whole turns."""
    return (difference - 2 * math.pi * torch.round(difference / (2 * math.pi))).abs()


class PhaseLosses(NamedTuple):
    """Mean distances of angles: of the phase, and of its differences between neighbours."""

    instantaneous: Tensor
    group_delay: Tensor  # along frequency
    angular_frequency: Tensor  # along time


@full_precision
def phase_losses(estimate: Tensor, target: Tensor) -> PhaseLosses:
    error = target - estimate
    # A difference begins with the first value itself, as in the original.
    over_bins = torch.diff(error, dim=1, prepend=torch.zeros_like(error[:, :1]))
    over_frames = torch.diff(error, dim=2, prepend=torch.zeros_like(error[:, :, :1]))
    return PhaseLosses(*(anti_wrapped(x).mean() for x in (error, over_bins, over_frames)))


class GeneratorLosses(NamedTuple):
    """Unweighted. The original logs `complex` and `consistency` without the factor 2 that they have here."""

    magnitude: Tensor
    phase: Tensor  # the sum of the three phase losses
    complex: Tensor
    time: Tensor
    consistency: Tensor


@full_precision
def generator_losses(
    estimate: Estimate, audio: Tensor, target: Compressed, target_audio: Tensor, stft: CompressedSTFT
) -> GeneratorLosses:
    """All but the metric loss. `audio` (B, T) is what `stft.inverse` makes of the estimate."""
    again = stft(audio, eps=1e-10)  # finite gradients where the spectrum is 0
    return GeneratorLosses(
        magnitude=F.mse_loss(estimate.magnitude, target.magnitude),
        phase=torch.stack(phase_losses(estimate.phase, target.phase)).sum(),
        complex=2 * F.mse_loss(estimate.parts, target.parts),
        time=F.l1_loss(audio, target_audio),
        consistency=2 * F.mse_loss(estimate.parts, again.parts),
    )


@full_precision
def spectral_loss(audio: Tensor, target: Tensor, power: float) -> Tensor:
    """The mean distance of magnitudes^`power` of audio (B, T) with a short and a long window; silence is as good as any
    other target."""
    distances = []
    for window in SPECTRAL:
        x, y = (_magnitudes(signal, window, power) for signal in (audio, target))
        distances.append(F.l1_loss(x, y))
    return torch.stack(distances).mean()


@full_precision
def oversuppression_loss(estimate: Tensor, target: Tensor) -> Tensor:
    """Of compressed magnitudes (B, F, T), where they are too small: damaged speech is worse than noise that is left."""
    return F.relu(target - estimate).square().mean()


def _magnitudes(audio: Tensor, window: int, power: float) -> Tensor:
    spectrum = stft(audio, window, window // 4)
    return (spectrum.real.square() + spectrum.imag.square() + 1e-8) ** (power / 2)


@full_precision
def metric_loss(score: Tensor) -> Tensor:
    """Of the generator: the discriminator's score (B,) of its estimate should be that of clean speech, 1."""
    return (score - 1).square().mean()


def normalised(pesq: Tensor) -> Tensor:
    """What the discriminator predicts: a little above 1 at best."""
    return (pesq - 1) / 3.5


class DiscriminatorLosses(NamedTuple):
    real: Tensor
    fake: Tensor


@full_precision
def discriminator_losses(real: Tensor, fake: Tensor, pesq: Tensor) -> DiscriminatorLosses:
    """Scores (B,) of (clean, clean) and of (clean, estimate), and the estimates' wide-band PESQ, NaN where it failed.

    The mean is over the items that have a PESQ. (The original drops the whole batch for one that has none.)
    """
    known = pesq.isfinite()
    error = torch.where(known, fake - normalised(pesq.nan_to_num(1.0)), 0)
    return DiscriminatorLosses((real - 1).square().mean(), error.square().sum() / known.sum().clamp(min=1))
