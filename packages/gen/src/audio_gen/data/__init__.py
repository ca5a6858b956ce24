"""Items that a training takes: latents, codes or audio, with what describes each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from audio_core.data.combine import Mixture
from torch import Tensor

from ..config.conditioners import CodecSource


class Model(Protocol):
    """What data depend on of a model's settings."""

    @property
    def rate(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def hop(self) -> int: ...
    @property
    def frames(self) -> int: ...
    @property
    def codec(self) -> CodecSource | None: ...


class Sample(NamedTuple):
    """One item of a training."""

    index: int
    """From which the draws of a step follow, so that they depend on neither batch nor process."""
    values: Tensor  # latents (C, T) or codes (K, T), or audio (C, T * hop)
    real: Tensor  # (T,), true in frames where the item is and false behind its end
    facts: Mapping[str, Any]


class Batch(NamedTuple):
    index: Tensor  # (B,)
    values: Tensor  # (B, C, T), or audio (B, C, T * hop)
    real: Tensor  # (B, T)
    facts: list[Mapping[str, Any]]


def collate(samples: Sequence[Sample]) -> Batch:
    index, values, real, facts = zip(*samples, strict=True)
    return Batch(torch.tensor(index), torch.stack(values), torch.stack(real), list(facts))


class InTurn:
    """Endless samples of several folders in turn, each with the index that it has among all."""

    def __init__(self, sources: Sequence[Any]):
        self.mixture = Mixture(sources)

    def __getitem__(self, index: int) -> Sample:
        return self.mixture[index]._replace(index=index)

    def name(self, index: int) -> str:
        return self.mixture.name(index)

    collate = staticmethod(collate)
