"""The learning task: the sources of a mixture out of their sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from audio_core import chunk
from audio_core.train.player import Metrics, Player
from torch import Tensor
from torch.nn.functional import one_hot, pad

from .config import ConditionalUNetConfig
from .loss import loss
from .measures import segmental_sdr, track_sdr
from .models.separator import SpectrogramSeparator
from .recipe import Recipe

Batch = Mapping[str, Tensor]  # (B, C, T) of each source

SEGMENT_SECONDS = 30  # evaluations cut longer songs, as the original does


class Pair(NamedTuple):
    """What a model gets, and what it is to give."""

    inputs: tuple[Tensor, ...]  # the mixture (B, C, T); and the condition (B, S), where one is needed
    target: Tensor  # (B, S, C, T)


def mixture_and_targets(batch: Batch, inputs: Sequence[str], targets: Sequence[str]) -> Pair:
    """The sum of all input sources, and the targets in their order."""
    return Pair((mixture(batch, inputs),), torch.stack([batch[source] for source in targets], 1))


def one_target_each(batch: Batch, inputs: Sequence[str], targets: Sequence[str]) -> Pair:
    """Item n of the batch has the target n mod S alone, which its condition names."""
    mixed = mixture(batch, inputs)
    target_index = torch.arange(len(mixed), device=mixed.device) % len(targets)  # (B,)
    stacked = torch.stack([batch[source] for source in targets], 1)
    target = stacked[torch.arange(len(mixed), device=mixed.device), target_index]
    return Pair((mixed, one_hot(target_index, len(targets)).to(mixed)), target[:, None])


def mixture(batch: Batch, inputs: Sequence[str]) -> Tensor:
    return torch.stack([batch[source] for source in inputs]).sum(0)


class Separation:
    """One player, the separation model."""

    def __init__(self, model: Player, recipe: Recipe):
        self.model, self.recipe = model, recipe
        self.players: Mapping[str, Player] = {"model": model}
        self.pair = one_target_each if isinstance(recipe.model, ConditionalUNetConfig) else mixture_and_targets

    def step(self, batch: Batch, at: int) -> Metrics:
        recipe = self.recipe
        inputs, target = self.pair(batch, recipe.data.inputs, recipe.model.sources)
        value = loss(recipe.loss, self.model(*inputs), target)
        self.model.update(value)
        return {"loss": value.detach()}

    def evaluate(self, batch: Batch) -> Metrics:
        """For each source the SDR in dB, the median over whole seconds as in museval, but for those that are silent."""
        sources, rate = self.recipe.model.sources, self.recipe.model.rate
        estimates = self.separate(mixture(batch, self.recipe.data.inputs))
        values = {}
        for source in sources:
            values[f"sdr_{source}"] = track_sdr(segmental_sdr(estimates[source], batch[source], rate)).nanmean()
            values[f"l1_{source}"] = (estimates[source] - batch[source]).abs().mean()
        values["sdr"] = torch.stack([values[f"sdr_{source}"] for source in sources]).mean()
        return values

    def separate(self, mixed: Tensor) -> dict[str, Tensor]:
        """(B, C, T) of any length -> each source, (B, C, T)."""
        model = self.release()

        def separate(segment: Tensor) -> dict[str, Tensor]:
            samples = segment.shape[-1]
            outputs = model.separate(pad(segment, (0, max(0, model.shortest - samples))))
            return {source: output[..., :samples] for source, output in outputs.items()}

        return chunk.process(separate, mixed, SEGMENT_SECONDS * self.recipe.model.rate)

    def release(self) -> SpectrogramSeparator:
        """The model with averaged weights, where there are such."""
        return self.model.average.net if self.model.average else self.model.raw
