"""Conditioners of features that were computed before: by CLAP, T5 or any other encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from audio_core.files import InputError
from torch import Tensor

from ...config.conditioners import CLAPAudioConfig, CLAPTextConfig, PrecomputedConfig
from . import stored
from .base import Condition, Conditioner, held_outside, projected, projection
from .stored import Features


class FeatureConditioner(Conditioner):
    """Features (N, width) of an item, given as such or found by their text in a file.

    Zeros fill them to `length`, or to the longest of a batch. With `zeroed` what does not count is zero.
    """

    texts: Any

    def __init__(
        self,
        width: int,
        output_dim: int,
        project_out: bool,
        length: int | None = None,
        file: str | None = None,
        zeroed: bool = True,
        kind: str = "features",
    ):
        super().__init__()
        self.width, self.length, self.file, self.zeroed, self.kind = width, length, file, zeroed, kind
        self.proj_out = projection(width, output_dim, project_out)
        held_outside(self, "texts", None)  # of the file, once they are needed

    def read(self, value: Any) -> Any:
        features = self._of_text(value) if isinstance(value, str) else _features(value)
        if features.values.shape[1] != self.width or not len(features.values):
            raise InputError(f"expected {self.kind} (N, {self.width}), got {tuple(features.values.shape)}")
        if self.length is not None and len(features.values) > self.length:
            raise InputError(f"expected at most {self.length} {self.kind}, got {len(features.values)}")
        return features

    def embed(self, items: Sequence[Any], device: torch.device) -> Condition:
        values, mask = _batch(items, self.length, device)
        tokens = projected(self.proj_out, values)
        return Condition(tokens * mask[..., None] if self.zeroed else tokens, mask)

    def _of_text(self, text: str) -> Features:
        if self.file is None:
            raise InputError(f"expected {self.kind} and got the text {text!r:.60}; name a file that holds its features")
        if self.texts is None:
            self.texts = stored.load(self.file)
        if text not in self.texts:
            raise InputError(f"{self.file} lacks the text {text!r:.60}; add its {self.kind}")
        return self.texts[text]


def precomputed(config: PrecomputedConfig, output_dim: int) -> FeatureConditioner:
    return FeatureConditioner(config.width, output_dim, config.project_out, config.length, config.file)


def clap_text(config: CLAPTextConfig, output_dim: int) -> FeatureConditioner:
    """The hidden states of padding differ from zero, and models have learnt with them."""
    layer = f"hidden states of layer {config.feature_layer_ix}" if config.use_text_features else "embeddings"
    length, kind = None if config.use_text_features else 1, f"{layer} of CLAP's text encoder"
    return FeatureConditioner(
        config.width, output_dim, config.project_out, length, config.file, zeroed=False, kind=kind
    )


def clap_audio(config: CLAPAudioConfig, output_dim: int) -> FeatureConditioner:
    kind = "embeddings of CLAP's audio encoder"
    return FeatureConditioner(config.width, output_dim, config.project_out, 1, kind=kind)


def _features(value: Any) -> Features:
    """From an array (N, W) or (W,), or a mapping of `values` and `mask`."""
    mask = None
    if isinstance(value, Features):
        value = value._asdict()
    if isinstance(value, Mapping):
        if set(value) - {"values", "mask"} or "values" not in value:
            raise InputError(f"expected values and mask, got {', '.join(map(str, value)) or 'nothing'}")
        value, mask = value["values"], value.get("mask")
    values = _tensor(value)
    values = values[None] if values.ndim == 1 else values
    if values.ndim != 2 or not values.is_floating_point() or not values.isfinite().all():
        raise InputError(f"expected finite numbers (N, W), got {values.dtype} {tuple(values.shape)}")
    mask = torch.ones(len(values), dtype=torch.bool) if mask is None else _tensor(mask).bool()
    if mask.shape != values.shape[:1]:
        raise InputError(f"expected a mask ({len(values)},), got {tuple(mask.shape)}")
    return Features(values, mask)


def _tensor(value: Any) -> Tensor:
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        value = torch.from_numpy(value)
    if not isinstance(value, Tensor):
        raise InputError(f"expected an array, got {value!r:.60}")
    return value


def _batch(items: Sequence[Features], length: int | None, device: torch.device) -> tuple[Tensor, Tensor]:
    """Values (B, N, W) and mask (B, N), with zeros where an item is shorter."""
    size = max(len(item.values) for item in items) if length is None else length
    values = [F.pad(item.values.to(device), (0, 0, 0, size - len(item.values))) for item in items]
    masks = [F.pad(item.mask.to(device), (0, size - len(item.mask))) for item in items]
    return torch.stack(values), torch.stack(masks)
