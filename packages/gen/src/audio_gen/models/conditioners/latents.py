"""Conditioners of audio, which a codec takes to latents: channels over time (B, D, F).

Audio has the codec's sampling rate. A codec is no part of the conditioner: its weights are those of its own bundle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from audio_core import codec as codecs
from audio_core.codec import Codec
from audio_core.files import InputError
from torch import Tensor, nn

from ...config.conditioners import CodecSource, PretransformConfig, SourceMixConfig
from .base import Condition, Conditioner, held_outside, projected


class LatentConditioner(Conditioner):
    """A conditioner with a codec, which is loaded with the first audio unless it is the model's own."""

    codec: Codec | None

    def __init__(self, source: CodecSource | None, width: int, codec: Codec | None):
        super().__init__()
        self.source, self.width = source, width
        held_outside(self, "codec", codec if source is None else None)

    def _encode(self, items: Sequence[Tensor], device: torch.device) -> Tensor:
        """Audio (C, T) of each item -> latents (B, width, F)."""
        codec = self._codec()
        if isinstance(codec, nn.Module):
            codec.to(device)
        audio = stacked([with_channels(item, codec.channels) for item in items]).to(device)
        with torch.no_grad():
            return codec.encode(audio)

    def _codec(self) -> Codec:
        if self.codec is None and self.source is not None:
            codec = codecs.find(self.source.name)(self.source.path)
            if self.source.fingerprint and codec.fingerprint().hex() != self.source.fingerprint:
                raise InputError(
                    f"codec {self.source.name} {self.source.path}: is not the one that the model learnt with"
                )
            held_outside(self, "codec", codec.eval().requires_grad_(False) if isinstance(codec, nn.Module) else codec)
        if self.codec is None:
            raise InputError("audio needs a codec; name one, or give the model one")
        if self.codec.width != self.width:
            raise InputError(f"encoded_channels: is {self.width}, and the codec's latents have {self.codec.width}")
        return self.codec


class PretransformConditioner(LatentConditioner):
    def __init__(self, config: PretransformConfig, output_dim: int, codec: Codec | None):
        super().__init__(config.codec, config.encoded_channels, codec)
        width = config.encoded_channels
        self.proj_out = nn.Identity() if width == output_dim else nn.Linear(width, output_dim)

    def read(self, value: Any) -> Tensor:
        return _signal(value, "audio (C, T)")

    def embed(self, items: Sequence[Tensor], device: torch.device) -> Condition:
        latents = self._encode(items, device).transpose(1, 2)
        return _over_time(projected(self.proj_out, latents).transpose(1, 2))


class SourceMixConditioner(LatentConditioner):
    def __init__(self, config: SourceMixConfig, output_dim: int, codec: Codec | None):
        super().__init__(config.codec, config.encoded_channels, codec)
        self.config = config
        self.source_heads = nn.ModuleList(nn.Conv1d(self.width, output_dim, 1) for _ in config.source_keys)
        if config.allow_null_source:
            self.null_source = nn.Parameter(torch.randn(output_dim, 1))

    def read(self, value: Any) -> dict[str, Tensor]:
        if not isinstance(value, Mapping):
            raise InputError(f"expected sources by their keys, got {value!r:.60}")
        kind = "latents (W, F)" if self.config.pre_encoded else "audio (C, T)"
        sources = {key: _signal(value[key], f"{kind} of {key}") for key in self.config.source_keys if key in value}
        if not sources and not self.config.allow_null_source:
            raise InputError(f"has none of the sources {', '.join(self.config.source_keys)}")
        return sources

    def embed(self, items: Sequence[dict[str, Tensor]], device: torch.device) -> Condition:
        mixed = stacked([self._mixed(sources, device) for sources in items])
        # Of sources that no item has the gradient is zero and not missing, for which several processes would wait.
        return _over_time(mixed + 0 * sum(parameter.sum() for parameter in self.parameters()))

    def _mixed(self, sources: dict[str, Tensor], device: torch.device) -> Tensor:
        """(D, F) of one item."""
        parts = []
        for key, head in zip(self.config.source_keys, self.source_heads, strict=True):
            if key in sources:
                latents = sources[key].to(device)
                if not self.config.pre_encoded:
                    latents = self._encode([latents], device)[0]
                parts.append(head(latents.to(head.weight.dtype)))
        return torch.stack(parts).sum(0) if parts else self.null_source.repeat(1, self.config.source_length or 1)


def with_channels(audio: Tensor, channels: int) -> Tensor:
    """(C, T) as the originals convert it: to one by the mean, to two by repeating one or leaving out the others."""
    if channels == 1:
        return audio.mean(0, keepdim=True)
    if channels == 2:
        return audio.expand(2, -1) if len(audio) == 1 else audio[:2]
    return audio


def _signal(value: Any, kind: str) -> Tensor:
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        value = torch.from_numpy(value)
    if isinstance(value, Tensor) and value.ndim == 3 and len(value) == 1:
        value = value[0]
    if not isinstance(value, Tensor) or value.ndim != 2 or not value.is_floating_point() or not value.numel():
        shape = tuple(value.shape) if isinstance(value, Tensor) else f"{value!r:.60}"
        raise InputError(f"expected {kind}, got {shape}")
    return value


def stacked(items: Sequence[Tensor]) -> Tensor:
    shapes = sorted({tuple(item.shape) for item in items})
    if len(shapes) > 1:
        raise InputError(f"the items of a batch have the shapes {' and '.join(map(str, shapes[:3]))}; make them equal")
    return torch.stack([*items])


def _over_time(value: Tensor) -> Condition:
    return Condition(value, torch.ones(len(value), value.shape[2], dtype=torch.bool, device=value.device))
