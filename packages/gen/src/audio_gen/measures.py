"""How alike two sets of items are, by features of their latents."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_SMALLEST = 1e-6  # deviations below it are those of a feature that does not vary


def features(latents: Tensor) -> Tensor:
    """Latents (W, F) -> the mean and the standard deviation of each channel over time, (2 W,) in float64."""
    latents = latents.double()
    return torch.cat([latents.mean(1), latents.std(1, correction=0)])


class Scale:
    """Features in units of their spread over a reference (N, D), so that all channels weigh the same."""

    def __init__(self, reference: Tensor):
        self.mean, self.deviation = reference.mean(0), reference.std(0, correction=0)
        self.deviation = self.deviation.where(self.deviation > _SMALLEST, torch.ones_like(self.deviation))

    def __call__(self, values: Tensor) -> Tensor:
        return (values - self.mean) / self.deviation


def frechet(mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor) -> float:
    """The squared Fréchet distance between two normal distributions of D features."""
    values, vectors = torch.linalg.eigh(covariance)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    # The product of both covariances has the eigenvalues of this symmetric matrix.
    shared = torch.linalg.eigvalsh(root @ other_covariance @ root).clamp(min=0).sqrt().sum()
    spread = covariance.trace() + other_covariance.trace() - 2 * shared
    return max(0.0, float((mean - other_mean).square().sum() + spread))


def frechet_distance(one: Tensor, other: Tensor) -> float:
    """Between two sets of features (N, D) and (M, D), in their units, squared and over D.

    What it tells: whether level and spread of the channels are as in the other set, on average and from item to item,
    and how they go together. What it cannot tell: anything of the order in time, since an item with its frames shuffled
    has the same features; whether an item fits its prompt; or how it sounds. It is no FAD of published tables, whose
    features are those of a network which has learnt to hear.

    A covariance of few items is noisy, and a distance is the larger the fewer there are. So correlations are shrunk
    towards none, by D / (D + N) of the smaller set in both, and numbers compare only between sets of the same sizes.
    """
    count, width = min(len(one), len(other)), one.shape[1]
    shrinkage = width / (width + count)
    moments = [
        (each.mean(0), _shrunk(each.T.cov(correction=0).reshape(width, width), shrinkage)) for each in (one, other)
    ]
    return frechet(*moments[0], *moments[1]) / width


def _shrunk(covariance: Tensor, share: float) -> Tensor:
    return (1 - share) * covariance + share * covariance.diag().diag()


def nearest_classes(values: Tensor, reference: Tensor, labels: Sequence[str]) -> list[str]:
    """For each of `values` (N, D) the class whose centroid is nearest, of the `reference` (M, D) with `labels`."""
    names = sorted({*labels})
    centroids = [reference[[label == name for label in labels]].mean(0) for name in names]
    return [names[at] for at in torch.cdist(values, torch.stack(centroids)).argmin(1).tolist()]
