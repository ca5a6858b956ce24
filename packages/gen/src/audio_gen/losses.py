"""The losses of diffusion models, which a training lowers and an evaluation measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from audio_core.data.seeds import mix
from audio_core.dsp.precision import full_precision
from audio_core.dsp.stft import STFT
from audio_core.loss.spectral import same_shape
from torch import Generator, Tensor, nn

from .diffusion.objectives import Objective, mse, noised


def diffusion_loss(
    network: Callable[..., Tensor],
    objective: Objective,
    x: Tensor,
    t: Tensor,
    noise: Tensor,
    items: Sequence[Mapping[str, Any]],
    real: Tensor,
    extra: Mapping[str, Tensor] | None = None,
    chosen: Tensor | None = None,
    counted: Tensor | None = None,
) -> Tensor:
    """Of latents x (B, C, T) with `noise` at times t (B,), of which the frames `real` (B, T) are no padding.

    `extra` and `chosen` are as `Diffusion` takes them. Of the frames only those `counted` (B, T) enter; None: all.
    """
    output = network(noised(objective, x, noise, t), t, items, extra, chosen, real)
    return mse(output.float(), objective.target(x, noise, t), counted)


def fixed_noise(indices: Sequence[int], x: Tensor, at: int) -> Tensor:
    """Noise like x (B, C, T) that is the same in every evaluation: of the items' indices and the number of a time."""
    noise = [
        torch.randn(item.shape, generator=Generator().manual_seed(mix(index, at)))
        for index, item in zip(indices, x, strict=True)
    ]
    return torch.stack(noise).to(x.device)


class SpectralDistance(nn.Module):
    """Of audio (B, C, T) from a target, the mean over windows from 2048 samples down to 32, with a quarter as hop.

    Each adds |Y - X| / |Y| (Frobenius, the mean over items and channels), where Y is the target's magnitudes, to the
    mean of |ln Y - ln X|. Of stereo the sum and the difference of its channels are compared.
    """

    WINDOWS = (2048, 1024, 512, 256, 128, 64, 32)

    def __init__(self, samples: int):
        """Of audio of at least so many samples; no window is longer."""
        super().__init__()
        self.stfts = nn.ModuleList(STFT(window, window // 4) for window in self.WINDOWS if window <= samples)

    @full_precision
    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        same_shape(estimate, target)
        distances = []
        for stft in self.stfts:
            x, y = (stft(_sides(audio)).abs().clamp(min=1e-4) for audio in (estimate, target))  # (B, C, F, frames)
            convergence = torch.linalg.matrix_norm(y - x) / torch.linalg.matrix_norm(y)
            distances.append(convergence.mean() + F.l1_loss(x.log(), y.log()))
        return torch.stack(distances).mean()


def _sides(audio: Tensor) -> Tensor:
    """Of stereo the sum and the difference."""
    if audio.shape[1] != 2:
        return audio
    left, right = audio.unbind(1)
    return torch.stack([left + right, left - right], 1)
