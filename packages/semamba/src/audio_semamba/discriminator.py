"""The metric discriminator: it estimates the PESQ of an enhanced spectrogram, scaled to 0 to 1 (MetricGAN)."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from audio_core.dsp.precision import full_precision
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from . import PACKAGE
from .config import DiscriminatorConfig


class SpectralNorm(nn.Module):
    """weight / sigma, its largest singular value, which a power iteration of one step each training pass follows.

    PyTorch's own updates its two vectors in the other order, which gives other numbers than the original.
    """

    u: Tensor  # (outputs,)
    v: Tensor  # (inputs of an output,)

    def __init__(self, weight: Tensor):
        super().__init__()
        matrix = weight.detach().flatten(1)
        self.register_buffer("u", F.normalize(torch.empty_like(matrix[:, 0]).normal_(), dim=0, eps=1e-12))
        self.register_buffer("v", F.normalize(torch.empty_like(matrix[0]).normal_(), dim=0, eps=1e-12))

    @full_precision
    def forward(self, weight: Tensor) -> Tensor:
        matrix = weight.flatten(1)
        if self.training:
            with torch.no_grad():
                self.v.copy_(F.normalize(matrix.T @ self.u, dim=0, eps=1e-12))
                self.u.copy_(F.normalize(matrix @ self.v, dim=0, eps=1e-12))
        # Copies, since the next pass changes the vectors before the gradients of this one are computed.
        return weight / (self.u.clone() @ matrix @ self.v.clone())


class MetricDiscriminator(nn.Module):
    """Compressed magnitudes of the reference and of the estimate, (B, F, T) each, of at least 16 frames -> (B,).

    A pair of equal ones should get 1, any other (PESQ - 1) / 3.5.
    """

    Config = DiscriminatorConfig

    def __init__(self, config: DiscriminatorConfig):
        super().__init__()
        self.config, width = config, config.width
        channels = [2, *(width * 2**at for at in range(4))]
        self.convs = nn.Sequential(*map(_stage, channels[:-1], channels[1:]))
        self.hidden = _normed(nn.Linear(8 * width, 4 * width))
        self.dropout = nn.Dropout(0.3)
        self.prelu = nn.PReLU(4 * width)
        self.last = _normed(nn.Linear(4 * width, 1))
        self.slope = nn.Parameter(torch.ones(1))

    def forward(self, reference: Tensor, estimate: Tensor) -> Tensor:
        return torch.sigmoid(self.slope * self.logits(self.features(reference, estimate)).float())

    def features(self, reference: Tensor, estimate: Tensor) -> Tensor:
        """(B, 8 * width, F / 16, T / 16)"""
        return self.convs(torch.stack([reference, estimate], 1))

    def logits(self, features: Tensor) -> Tensor:
        pooled = features.amax((2, 3))
        return self.last(self.prelu(self.dropout(self.hidden(pooled))))[:, 0]


def _stage(inputs: int, outputs: int) -> nn.Sequential:
    conv = _normed(nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False))
    return nn.Sequential(conv, nn.InstanceNorm2d(outputs, affine=True), nn.PReLU(outputs))


def _normed(layer: nn.Module) -> nn.Module:
    register_parametrization(layer, "weight", SpectralNorm(layer.weight))
    return layer


def load(path: str | Path, device: str = "cpu") -> MetricDiscriminator:
    """The discriminator of a bundle, such as `convert` writes of an original's."""
    return PACKAGE.load(path, [MetricDiscriminator], device)
