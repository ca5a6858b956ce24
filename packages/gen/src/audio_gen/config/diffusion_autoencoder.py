"""The configuration of autoencoders whose decoder is a diffusion model, without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from audio_core.checks import within

from .backbones import DiTConfig
from .models import AudioConfig
from .sampling import VSampling
from .unets import ADPConfig, DanceDiffusionUNetConfig


@dataclass(frozen=True, kw_only=True)
class CodeDecoderConfig:
    """Convolutions at the rate of the code, before it is stretched to that of the audio."""

    channels: int = 128
    """Of what it gives, and within."""
    depth: int = 2
    kernel_size: int = 3

    def __post_init__(self) -> None:
        within(self, 1, "channels", "depth", "kernel_size")
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {self.kernel_size}")


@dataclass(frozen=True, kw_only=True)
class PartConfig:
    """Of an encoder: what a model_config.json of stable-audio-tools states of it."""

    type: str
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """An encoder with its bottleneck, which an installed package builds."""

    name: str
    """Under which the package offers it, such as codec-vae."""
    parts: Mapping[str, PartConfig]
    """`encoder`, and where there is one `bottleneck`."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Of the bottleneck's losses, such as `kl`; others have the package's own."""


@dataclass(frozen=True, kw_only=True)
class DiffusionAutoencoderConfig(AudioConfig):
    """`diffusion_autoencoder` of stable-audio-tools: from a code a diffusion model makes the audio (v objective).

    Its code is what an encoder of its own makes of audio, which learns together with the diffusion; or what an
    installed codec makes of it, which does not learn; or it was computed before. Not possible here is a second codec,
    in whose latents the original can diffuse in place of audio.
    """

    hop: int = 2048
    """Samples that one frame of the code stands for."""
    code_channels: int = 64
    scale: float = 1.0
    """The codec's latents are divided by it."""
    encoder: EncoderConfig | None = None
    """A part of the model, in place of a codec."""
    decoder: CodeDecoderConfig | None = None
    """What a code passes first; None: it is taken as it is."""
    backbone: DiTConfig | DanceDiffusionUNetConfig | ADPConfig = field(
        default_factory=lambda: DanceDiffusionUNetConfig(cond_dim=64)
    )
    """Takes the code, stretched to the length of the audio, beside its input."""
    sampling: VSampling = field(default_factory=lambda: VSampling(sampler="v-ddim"))

    def __post_init__(self) -> None:
        super().__post_init__()
        within(self, 1, "code_channels")
        if self.conditioning.conditioners or self.masks:
            raise ValueError("conditioning, masks: are for other models; the code is the only condition")
        if not 0 < self.scale < float("inf"):
            raise ValueError(f"scale must be above 0, got {self.scale}")
        if self.encoder and (self.codec or self.scale != 1):
            raise ValueError("encoder: learns with the model, so there is neither codec nor scale; leave these out")
        backbone, wanted = self.backbone, self.decoder.channels if self.decoder else self.code_channels
        if isinstance(backbone, ADPConfig):
            audio, beside = backbone.in_channels, sum(backbone.context_channels)
            others = backbone.context_features or backbone.context_embedding_features
        elif isinstance(backbone, DiTConfig):
            audio, beside = backbone.io_channels, backbone.input_concat_dim
            others = backbone.cond_token_dim or backbone.global_cond_dim or backbone.prepend_cond_dim
        else:
            audio, beside, others = backbone.io_channels, backbone.cond_dim, 0
        if audio != self.channels:
            raise ValueError(f"backbone has {audio} channels, and the audio {self.channels}")
        if beside != wanted:
            raise ValueError(f"backbone takes {beside} channels beside its input, and the code has {wanted}")
        if others:
            raise ValueError("backbone has further conditions; the code is the only one")

    @property
    def width(self) -> int:
        """Channels of the code."""
        return self.code_channels

    def frames_for(self, samples: int) -> int:
        """A length from `samples` on that the backbone can have."""
        backbone, least = self.backbone, 1
        multiple = backbone.patch_size if isinstance(backbone, DiTConfig) else backbone.ratio
        if isinstance(backbone, DanceDiffusionUNetConfig) and not backbone.learned_resample:
            least = 3  # frames of the innermost level
        return max(least, -(-samples // multiple)) * multiple
