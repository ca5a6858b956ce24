"""The config.json of an AutoencoderOobleck of diffusers, which is stable-audio-tools' under other names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from audio_core.files import InputError
from audio_core.train.stated import build

from ..config import AutoencoderConfig
from .stated import ModelConfig

CLASS = "AutoencoderOobleck"


@dataclass(frozen=True)
class File:
    encoder_hidden_size: int = 128
    downsampling_ratios: tuple[int, ...] = (2, 4, 4, 8, 8)
    channel_multiples: tuple[int, ...] = (1, 2, 4, 8, 16)
    decoder_channels: int = 128
    decoder_input_channels: int = 64
    audio_channels: int = 2
    sampling_rate: int = 44100


def understood(data: Mapping[str, Any]) -> ModelConfig:
    if data["_class_name"] != CLASS:
        raise InputError(f"_class_name: is {data['_class_name']!r:.60}, and of diffusers' models {CLASS} is read")
    file = build(File, {key: value for key, value in data.items() if not key.startswith("_")})
    if file.encoder_hidden_size != 2 * file.decoder_input_channels:  # its encoder gives as many as it begins with
        raise InputError(
            f"decoder_input_channels: is {file.decoder_input_channels}, and a mean and a deviation of as many channels "
            f"do not make encoder_hidden_size {file.encoder_hidden_size}"
        )
    shape = {"c_mults": file.channel_multiples, "strides": file.downsampling_ratios, "use_snake": True}
    encoder = {"in_channels": file.audio_channels, "channels": file.encoder_hidden_size, **shape}
    decoder = {"out_channels": file.audio_channels, "channels": file.decoder_channels, **shape}
    data = {
        "rate": file.sampling_rate,
        "channels": file.audio_channels,
        "encoder": {"kind": "OobleckEncoder", "latent_dim": file.encoder_hidden_size, **encoder},
        "decoder": {
            "kind": "OobleckDecoder",
            "latent_dim": file.decoder_input_channels,
            "final_tanh": False,
            **decoder,
        },
        "bottleneck": {"kind": "VAE"},
    }
    return ModelConfig(build(AutoencoderConfig, data), "diffusers")
