"""From the network's planes to spectra: magnitude and phase are estimated apart from each other.

For each bin of each source a sigmoid gives a mask of the mixture's magnitude, two values give an angle by which its
phase is rotated, and in models of four planes one more adds magnitude that the mixture lacks.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from audio_core.dsp.precision import full_precision
from torch import Tensor, nn


class Mixture(NamedTuple):
    """The spectrograms of the mixture, (B, C, T, F) each; where there are subbands, each is a channel."""

    magnitude: Tensor
    cos: Tensor
    sin: Tensor
    samples: int
    """Of each channel, which are fewer than the audio's in subbands."""


class SourcePlanes(nn.Conv2d):
    """A 1 x 1 convolution whose outputs are those of one source after another; only the wanted ones are computed."""

    def __init__(self, inputs: int, sources: int, planes: int):
        super().__init__(inputs, sources * planes, 1)
        self.sources = sources

    def forward(self, x: Tensor, sources: list[int]) -> Tensor:
        """(B, inputs, T, F) -> (B, sources, planes, T, F)."""
        each = (values.unflatten(0, (self.sources, -1))[sources] for values in (self.weight, self.bias))
        weight, bias = (values.flatten(0, 1) for values in each)
        return F.conv2d(x, weight, bias).unflatten(1, (len(sources), -1))


@full_precision
def estimates(planes: Tensor, mixture: Mixture, bounded: bool) -> Tensor:
    """Planes (B, S, C, 3 or 4, T, F) -> complex spectra (B, S, C, T, F) of the mixture's lowest F bins.

    A `bounded` added magnitude is at most 1.
    """
    magnitude, cos, sin = (part[:, None, ..., : planes.shape[-1]] for part in mixture[:3])
    masked = torch.sigmoid(planes[:, :, :, 0]) * magnitude
    if planes.shape[3] == 4:
        added = planes[:, :, :, 3]
        masked = torch.relu(masked + (torch.tanh(added) if bounded else added))
    x, y = torch.tanh(planes[:, :, :, 1]), torch.tanh(planes[:, :, :, 2])
    # Below a length of 1e-10 there is no angle, and the bin is silent. The root of 0 would have no gradient.
    masked = masked / (x.square() + y.square()).clamp(min=1e-20).sqrt()
    return torch.complex(masked * (cos * x - sin * y), masked * (sin * x + cos * y))
