"""What models of latents or codes share: the codec, which is installed beside them and loaded when it is wanted."""

from __future__ import annotations

from typing import Any

import torch
from audio_core import codec as codecs
from audio_core.codec import Codec
from audio_core.files import InputError
from torch import nn

from ..config import AudioConfig, LMConfig
from .conditioners.base import held_outside
from .conditioners.latents import LatentConditioner


class WithCodec(nn.Module):
    """The codec is no part of the module: it neither learns nor is stored."""

    codec: Codec | None

    def __init__(self, config: AudioConfig):
        super().__init__()
        self.config = config
        held_outside(self, "codec", None)

    def load_codec(self, device: torch.device | None = None) -> Codec | None:
        """The codec; None where the model has none."""
        source = self.config.codec_user.codec
        if self.codec is None and source is not None:
            held_outside(self, "codec", open_codec(self.config))
            for module in self.modules():  # conditioners of audio that take the model's own codec
                if isinstance(module, LatentConditioner) and module.source is None:
                    held_outside(module, "codec", self.codec)
        if device is not None and isinstance(self.codec, nn.Module):
            self.codec.to(device)
        return self.codec


def open_codec(config: AudioConfig) -> Codec:
    """The codec of a model, which must be the one that it has learnt with."""
    config = config.codec_user
    source = config.codec
    assert source
    codec = codecs.find(source.name)(source.path)
    if isinstance(codec, nn.Module):
        codec.eval().requires_grad_(False)
    name = f"codec {source.name} {source.path}"
    expect_sizes(name, codec, sample_rate=config.rate, channels=config.channels, hop=config.hop)
    if isinstance(config, LMConfig):
        sizes = codec.codebooks[: config.lm.codebooks]
        if len(sizes) < config.lm.codebooks or {*sizes} != {config.lm.codebook_size}:
            needed = f"{config.lm.codebooks} of {config.lm.codebook_size} codes"
            raise InputError(f"{name}: has codebooks of {[*codec.codebooks]} codes, and the model needs {needed}")
    elif codec.width != config.width:
        raise InputError(f"{name}: has a width of {codec.width}, and the model needs {config.width}")
    if source.fingerprint and codec.fingerprint().hex() != source.fingerprint:
        found = codec.fingerprint().hex()
        raise InputError(
            f"{name}: is another codec ({found}) than the model has learnt with ({source.fingerprint}), and would "
            "make noise of what it generates; give the right one"
        )
    return codec


def expect_sizes(name: str, part: Any, **sizes: int) -> None:
    """Refuse a codec or an encoder whose sizes are not those that a model needs."""
    for attribute, needed in sizes.items():
        if (actual := getattr(part, attribute)) != needed:
            raise InputError(f"{name}: has a {attribute} of {actual}, and the model needs {needed}")
