"""Autoencoders whose decoder is a diffusion model: audio to the code of a codec, and from the code back by sampling.

The encoder is a codec that is held outside and does not learn. Encoders that learn live in audio-codec-vae, which
cannot be imported here: packages meet in codecs by name only.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from audio_core.files import InputError
from torch import Tensor, nn

from ..config.diffusion_autoencoder import CodeDecoderConfig, DiffusionAutoencoderConfig
from ..diffusion import objectives
from ..diffusion.noise import ItemNoise
from ..diffusion.sampling import sample
from . import backbones
from .with_codec import WithCodec


class DiffusionAutoencoder(WithCodec):
    """Codes are (B, W, F), audio (B, C, T) with `hop` samples for each of their frames."""

    Config = DiffusionAutoencoderConfig
    config: DiffusionAutoencoderConfig

    def __init__(self, config: DiffusionAutoencoderConfig):
        super().__init__(config)
        self.decoder = CodeDecoder(config.code_channels, config.decoder) if config.decoder else None
        self.backbone = backbones.build(config.backbone)
        self.objective = objectives.build("v")

    def forward(self, x: Tensor, t: Tensor, code: Tensor) -> Tensor:
        """v of audio x (B, C, T) with noise, at times t (B,)."""
        return self.backbone(x, t, input_concat_cond=self.condition(code, x.shape[-1]))

    def condition(self, code: Tensor, length: int) -> Tensor:
        """What the network sees of a code: (B, W, length). Behind its end the last frame goes on."""
        decoded = code if self.decoder is None else self.decoder(code)
        frames = -(-length // self.config.hop)
        missing = frames - decoded.shape[2]
        decoded = F.pad(decoded, (0, missing), "replicate") if missing > 0 else decoded[..., :frames]
        return decoded.repeat_interleave(self.config.hop, 2)[..., :length]

    # --- audio and codes -------------------------------------------------------------------------------------

    def encode(self, audio: Tensor) -> Tensor:
        """Audio (B, C, T) of the model's rate and channels -> its code."""
        codec = self.load_codec(audio.device)
        if codec is None:
            raise InputError(
                "codec: this model has none, so it cannot take audio; give codes that were computed before"
            )
        return codec.encode(audio) / self.config.scale

    def decode(self, code: Tensor, samples: int | None = None, seeds: Sequence[int] | None = None) -> Tensor:
        """A code -> audio (B, C, samples), F * hop by default. Each item begins at the noise of its seed."""
        items, _, frames = code.shape
        wanted = frames * self.config.hop if samples is None else samples
        length = self.config.frames_for(wanted)
        fresh = ItemNoise(range(items) if seeds is None else seeds)
        noise = fresh(code.new_empty(items, self.config.channels, length))
        return sample(lambda x, t: self(x, t, code), noise, self.config.sampling, fresh)[..., :wanted]


class CodeDecoder(nn.Module):
    """(B, W, F) -> (B, channels, F)."""

    def __init__(self, inputs: int, config: CodeDecoderConfig):
        super().__init__()
        width, kernel = config.channels, config.kernel_size
        self.layers = nn.ModuleList(
            nn.Conv1d(width if at else inputs, width, kernel, padding=kernel // 2) for at in range(config.depth)
        )

    def forward(self, code: Tensor) -> Tensor:
        for at, layer in enumerate(self.layers):
            code = layer(F.silu(code) if at else code)
        return code
