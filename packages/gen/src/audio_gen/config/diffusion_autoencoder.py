"""The configuration of autoencoders whose decoder is a diffusion model, without torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from audio_core.checks import within

from .backbones import DiTConfig
from .conditioners import CodecSource
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

    def __post_init__(self) -> None:
        for name, weight in self.weights.items():
            if not 0 <= weight < float("inf"):
                raise ValueError(f"weights.{name} must be at least 0, got {weight}")


@dataclass(frozen=True, kw_only=True)
class LatentsConfig:
    """Latents of a codec, in which an autoencoder diffuses. The codec does not learn."""

    codec: CodecSource | None = None
    """None: latents that nothing here makes of audio, or audio of them."""
    hop: int
    """Samples that one frame stands for."""
    channels: int
    scale: float = 1.0
    """Latents are divided by it, so that they have a standard deviation of about 1."""
    reconstruction: float = 0.0
    """Weight of the distance between the spectrograms of audio and of what the codec makes of the estimate. It needs
    audio to learn from."""

    def __post_init__(self) -> None:
        within(self, 1, "hop", "channels")
        within(self, 0, "reconstruction")
        if not 0 < self.scale < float("inf"):
            raise ValueError(f"scale must be above 0, got {self.scale}")


class Signal(NamedTuple):
    """What a diffusion autoencoder encodes and generates: audio, or latents."""

    rate: int
    channels: int  # of audio
    hop: int  # samples for each frame
    width: int  # channels of a frame
    frames: int
    codec: CodecSource | None
    scale: float


@dataclass(frozen=True, kw_only=True)
class DiffusionAutoencoderConfig(AudioConfig):
    """`diffusion_autoencoder` of stable-audio-tools: from a code a diffusion model makes the audio (v objective).

    Its code is what an encoder of its own makes of audio, which learns together with the diffusion; or what an
    installed codec makes of it, which does not learn; or it was computed before. With an encoder of its own it may
    diffuse in the latents of a codec, in place of audio.
    """

    hop: int = 2048
    """Samples that one frame of the code stands for; in latents, their frames."""
    code_channels: int = 64
    scale: float = 1.0
    """The codec's latents are divided by it."""
    encoder: EncoderConfig | None = None
    """A part of the model, in place of a codec."""
    latents: LatentsConfig | None = None
    """In which it diffuses; None: audio."""
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
        if self.latents and not self.encoder:
            raise ValueError("latents: only an encoder of its own makes a code of them; give encoder")
        backbone, wanted = self.backbone, self.decoder.channels if self.decoder else self.code_channels
        if isinstance(backbone, ADPConfig):
            audio, beside = backbone.in_channels, sum(backbone.context_channels)
            others = backbone.context_features or backbone.context_embedding_features
        elif isinstance(backbone, DiTConfig):
            audio, beside = backbone.io_channels, backbone.input_concat_dim
            others = backbone.cond_token_dim or backbone.global_cond_dim or backbone.prepend_cond_dim
        else:
            audio, beside, others = backbone.io_channels, backbone.cond_dim, 0
        if audio != self.signal.width:
            kind = "latents" if self.latents else "audio"
            raise ValueError(f"backbone has {audio} channels, and the {kind} {self.signal.width}")
        if beside != wanted:
            raise ValueError(f"backbone takes {beside} channels beside its input, and the code has {wanted}")
        if others:
            raise ValueError("backbone has further conditions; the code is the only one")

    @property
    def width(self) -> int:
        """Channels of the code."""
        return self.code_channels

    @property
    def signal(self) -> Signal:
        """What it encodes and generates."""
        inner = self.latents
        if inner is None:
            return Signal(self.rate, self.channels, 1, self.channels, self.frames, None, 1.0)
        return Signal(self.rate, self.channels, inner.hop, inner.channels, self.frames, inner.codec, inner.scale)

    @property
    def codec_user(self) -> Any:
        return self.signal if self.latents else self

    def with_codec(self, codec: CodecSource) -> Any:
        if self.latents is None:
            return super().with_codec(codec)
        return dataclasses.replace(self, latents=dataclasses.replace(self.latents, codec=codec))

    @property
    def frame_samples(self) -> int:
        """Samples that one frame of the code stands for."""
        return self.hop * (self.latents.hop if self.latents else 1)

    @property
    def most(self) -> int:
        return -(-self.samples // self.frame_samples) * self.frame_samples

    def frames_for(self, samples: int) -> int:
        """Samples, or frames of latents, that hold so many samples, and that the backbone can have."""
        backbone, least = self.backbone, 1
        multiple = backbone.patch_size if isinstance(backbone, DiTConfig) else backbone.ratio
        if isinstance(backbone, DanceDiffusionUNetConfig) and not backbone.learned_resample:
            least = 3  # frames of the innermost level
        inner = multiple * (self.latents.hop if self.latents else 1)
        return max(least, -(-samples // inner)) * multiple
