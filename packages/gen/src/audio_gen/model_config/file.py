"""What every model_config.json of stable-audio-tools states, whatever its model is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from audio_core.files import InputError

from .codecs import Codec, Pretransform, codec_facts


@dataclass(frozen=True, kw_only=True)
class File:
    model_type: str
    sample_size: int
    sample_rate: int
    audio_channels: int | None = None
    model: dict[str, Any]
    training: dict[str, Any] | None = None

    def audio(self, pretransform: Pretransform | None) -> tuple[dict[str, Any], Codec | None, list[str]]:
        """Rate, length, channels and hop of a model of ours, the codec's sizes, and remarks."""
        plain: dict[str, Any] = {"rate": self.sample_rate, "samples": self.sample_size}
        if pretransform is None:
            return {**plain, "channels": self.audio_channels or 2}, None, []
        codec = codec_facts(pretransform, "model.pretransform")
        if self.audio_channels not in (None, codec.channels):
            raise InputError(f"audio_channels: is {self.audio_channels}, and the pretransform has {codec.channels}")
        remarks = []
        if pretransform.enable_grad:
            remarks.append("model.pretransform.enable_grad: is left out; a codec does not learn here")
        return {**plain, "channels": codec.channels, "hop": codec.hop}, codec, remarks
