"""From the network's planes to spectra: magnitude and phase are estimated apart from each other.

For each bin of each source a sigmoid gives a mask of the mixture's magnitude, two values give an angle by which its
phase is rotated, and in models of four planes one more adds magnitude that the mixture lacks.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
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
    """The last layer, a 1 x 1 convolution, whose rows are (sources, channels, planes, bands, slices).

    Only the rows of wanted sources are computed, in an order in which each plane lies together.
    """

    def __init__(self, inputs: int, sources: int, channels: int, planes: int, bands: int, slices: int):
        super().__init__(inputs, sources * channels * planes * bands * slices, 1)
        self.rows = sources, channels, planes, bands, slices

    def forward(self, x: Tensor, sources: list[int]) -> Tensor:
        """(B, inputs, T, F) -> (B, S, planes, C * bands, T, slices * F)."""
        channels, planes, bands, slices = self.rows[1:]
        weight = self.weight.view(*self.rows, -1)[sources].transpose(1, 2).flatten(0, -2)
        bias = self.bias.view(self.rows)[sources].transpose(1, 2).reshape(-1, 1)
        # A product of matrices gives planes one after another from any memory format of x.
        y = torch.baddbmm(bias, weight.expand(len(x), -1, -1), x.flatten(2))
        y = y.view(len(x), len(sources), planes, channels * bands, slices, *x.shape[2:])
        return y.movedim(4, 5).flatten(-2)


@full_precision
def estimates(planes: Tensor, mixture: Mixture, bounded: bool) -> Tensor:
    """Planes (B, S, 3 or 4, C, T, F) -> complex spectra (B, S, C, T, F) of the mixture's lowest F bins.

    A `bounded` added magnitude is at most 1.
    """
    magnitude, cos, sin = (part[:, None, ..., : planes.shape[-1]] for part in mixture[:3])
    mask, x, y = planes[:, :, :3].unbind(2)
    masked = torch.sigmoid(mask) * magnitude
    if planes.shape[2] == 4:
        added = planes[:, :, 3]
        masked = torch.relu(masked + (torch.tanh(added) if bounded else added))
    x, y = torch.tanh(x), torch.tanh(y)
    # Below a length of 1e-10 there is no angle, and the bin is silent. The root of 0 would have no gradient.
    masked = masked / (x.square() + y.square()).clamp(min=1e-20).sqrt()
    return torch.complex(masked * (cos * x - sin * y), masked * (sin * x + cos * y))
