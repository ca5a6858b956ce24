"""The configurations of whole models: what they generate, by which network, from which conditions. No torch."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar

from audio_core.checks import within

from .backbones import DiTConfig
from .conditioners import CodecSource, ConditioningConfig
from .guidance import Guidance, default_guidance
from .language import CodeSampling, LanguageModelConfig
from .sampling import FlowSampling, Objective, VSampling, default_sampling
from .timesteps import DistributionShiftConfig
from .unets import ADPConfig, DanceDiffusionUNetConfig

INPAINT_IDS = ("inpaint_mask", "inpaint_masked_input")
"""What an inpainting model takes beside its input: one channel, and those of latents."""


@dataclass(frozen=True, kw_only=True)
class AudioConfig(ABC):
    """What all models have: the audio that they stand for, its codec, and what describes it."""

    rate: int = 44100
    """Of the audio."""
    channels: int = 2
    """Of the audio."""
    samples: int = 65536
    """Length of the audio that it has learnt, and the most that it generates at once."""
    hop: int = 1
    """Samples that one frame of the network's input stands for; 1 without a codec."""
    codec: CodecSource | None = None
    """Whose latents or codes are generated. None: audio itself where `hop` is 1, and else what nothing here decodes."""
    conditioning: ConditioningConfig = field(default_factory=ConditioningConfig)
    cross_attention_cond_ids: tuple[str, ...] = ()
    prepend_cond_ids: tuple[str, ...] = ()
    masks: bool = False
    """Attention sees no padding, of texts or of frames, so that a result may have any length up to `samples`. The
    published models have learnt without: they fill their whole length, and what is beyond the end is cut off."""

    def __post_init__(self) -> None:
        within(self, 1, "rate", "channels", "samples", "hop")
        for key in (*self.cross_attention_cond_ids, *self.prepend_cond_ids):
            self._expect_conditioner(key)

    def _expect_conditioner(self, key: str) -> None:
        if key not in self.conditioning.conditioners:
            known = ", ".join(self.conditioning.conditioners) or "none"
            raise ValueError(f"there is no conditioner {key!r}; there are {known}")

    def _widest(self, keys: tuple[str, ...]) -> int:
        """Of the tokens of these conditioners; 0: none."""
        return max((self.conditioning.output_dim(key) for key in keys), default=0)

    @property
    @abstractmethod
    def width(self) -> int:
        """Channels, or codebooks, of what the codec makes of audio."""

    @property
    def frames(self) -> int:
        """That hold `samples`."""
        return self.frames_for(self.samples)

    @abstractmethod
    def frames_for(self, samples: int) -> int:
        """Frames that hold so many samples, and that the network can have."""

    @property
    def codec_user(self) -> Any:
        """What states the codec, and the sizes that it must have."""
        return self

    def with_codec(self, codec: CodecSource) -> Any:
        """The same model with this codec."""
        return dataclasses.replace(self, codec=codec)

    @property
    def guides(self) -> bool:
        """Whether there are tokens that guidance can leave out."""
        return bool(self.cross_attention_cond_ids or self.prepend_cond_ids)

    @property
    def most(self) -> int:
        """Samples of a result: those that it has learnt, up to the end of their last frame."""
        return -(-self.samples // self.hop) * self.hop


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig(AudioConfig):
    """A diffusion model of audio, or with a codec of its latents: latent diffusion.

    Without conditioners it is `diffusion_uncond` of stable-audio-tools, with them `diffusion_cond`, and with
    `inpaint_mask` and `inpaint_masked_input` among `input_concat_ids` it is `diffusion_cond_inpaint`.
    """

    scale: float = 1.0
    """Latents are divided by it, so that they have a standard deviation of about 1."""
    objective: Objective = "v"
    backbone: DiTConfig | DanceDiffusionUNetConfig | ADPConfig = field(default_factory=DanceDiffusionUNetConfig)
    global_cond_ids: tuple[str, ...] = ()
    input_concat_ids: tuple[str, ...] = ()
    distribution_shift: DistributionShiftConfig | None = None
    """For long latents the model learns at higher noise."""
    sampling: FlowSampling | VSampling | None = None
    """What `generate` takes by default; None: as stable-audio-tools' page proposes."""
    guidance: Guidance | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.scale < float("inf"):
            raise ValueError(f"scale must be above 0, got {self.scale}")
        if self.codec is None and self.hop == 1 and self.width != self.channels:
            raise ValueError(
                f"backbone has {self.width} channels, and the audio {self.channels}; for latents give codec or hop"
            )
        for key in self.global_cond_ids:
            self._expect_conditioner(key)
        for key in {*self.input_concat_ids} - {*INPAINT_IDS}:
            self._expect_conditioner(key)
        if len({*INPAINT_IDS} & {*self.input_concat_ids}) == 1:
            raise ValueError(f"input_concat_ids: inpainting needs both {' and '.join(INPAINT_IDS)}")
        if self.masks and not isinstance(self.backbone, DiTConfig):
            raise ValueError("masks: only the transformer has them")
        self._check_widths()
        matching = VSampling if self.objective == "v" else FlowSampling
        if self.sampling is not None and not isinstance(self.sampling, matching):
            raise ValueError(f"sampling: objective {self.objective} needs {matching.__name__}")

    def _check_widths(self) -> None:
        if not isinstance(self.backbone, DiTConfig):
            return
        width = self.conditioning.output_dim
        beside = {"inpaint_mask": 1, "inpaint_masked_input": self.width}
        sizes = {
            "cond_token_dim": self._widest(self.cross_attention_cond_ids),
            "global_cond_dim": sum(width(key) for key in self.global_cond_ids),
            "prepend_cond_dim": self._widest(self.prepend_cond_ids),
            "input_concat_dim": sum(beside.get(key) or width(key) for key in self.input_concat_ids),
        }
        for name, wanted in sizes.items():
            if getattr(self.backbone, name) != wanted:
                raise ValueError(f"backbone.{name}: conditions make {wanted}, got {getattr(self.backbone, name)}")

    @property
    def width(self) -> int:
        """Channels of what is generated."""
        backbone = self.backbone
        return backbone.in_channels if isinstance(backbone, ADPConfig) else backbone.io_channels

    def frames_for(self, samples: int) -> int:
        """Frames that hold so many samples, and that the backbone can have."""
        backbone = self.backbone
        multiple = backbone.patch_size if isinstance(backbone, DiTConfig) else backbone.ratio
        return -(-samples // (self.hop * multiple)) * multiple

    @property
    def inpaints(self) -> bool:
        return INPAINT_IDS[0] in self.input_concat_ids

    @property
    def default_sampling(self) -> FlowSampling | VSampling:
        return self.sampling or default_sampling(self.objective)

    @property
    def default_guidance(self) -> Guidance:
        return self.guidance or (default_guidance(self.objective) if self.guides else Guidance())


@dataclass(frozen=True, kw_only=True)
class LMConfig(AudioConfig):
    """A language model of a codec's codes: `lm` of stable-audio-tools."""

    hop: int = 320
    lm: LanguageModelConfig = field(default_factory=LanguageModelConfig)
    sampling: CodeSampling = field(default_factory=CodeSampling)
    """What `generate` takes by default."""

    def __post_init__(self) -> None:
        super().__post_init__()
        sizes = {
            "cross_attn_cond_dim": self._widest(self.cross_attention_cond_ids),
            "prepend_cond_dim": self._widest(self.prepend_cond_ids),
        }
        for name, wanted in sizes.items():
            if getattr(self.lm, name) != wanted:
                raise ValueError(f"lm.{name}: conditions make {wanted}, got {getattr(self.lm, name)}")

    scale: ClassVar[float] = 1.0

    @property
    def width(self) -> int:
        """Codebooks."""
        return self.lm.codebooks

    def frames_for(self, samples: int) -> int:
        """Frames that hold so many samples."""
        return -(-samples // self.hop)
