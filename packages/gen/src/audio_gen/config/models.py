"""The configurations of whole models: what they generate, by which network, from which conditions. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field

from .backbones import DiTConfig
from .checks import at_least
from .conditioners import CodecSource, ConditioningConfig
from .guidance import Guidance, default_guidance
from .sampling import FlowSampling, Objective, VSampling, default_sampling
from .timesteps import DistributionShiftConfig
from .unets import ADPConfig, DanceDiffusionUNetConfig

INPAINT_IDS = ("inpaint_mask", "inpaint_masked_input")
"""What an inpainting model takes beside its input, as stable-audio-tools names it: one channel, and those of latents."""


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig:
    """A diffusion model of audio, or with a codec of its latents: latent diffusion.

    Without conditioners it is `diffusion_uncond` of stable-audio-tools, with them `diffusion_cond`, and with
    `inpaint_mask` and `inpaint_masked_input` among `input_concat_ids` it is `diffusion_cond_inpaint`.
    """

    rate: int = 44100
    """Of the audio."""
    channels: int = 2
    """Of the audio."""
    samples: int = 65536
    """Length of the audio that it has learnt, and the most that it generates."""
    hop: int = 1
    """Samples that one frame of the network's input stands for; 1 without a codec."""
    codec: CodecSource | None = None
    """Whose latents are generated. None: audio itself where `hop` is 1, and else latents that nothing here decodes."""
    scale: float = 1.0
    """Latents are divided by it, so that they have a standard deviation of about 1."""
    objective: Objective = "v"
    backbone: DiTConfig | DanceDiffusionUNetConfig | ADPConfig = field(default_factory=DanceDiffusionUNetConfig)
    conditioning: ConditioningConfig = field(default_factory=ConditioningConfig)
    cross_attention_cond_ids: tuple[str, ...] = ()
    global_cond_ids: tuple[str, ...] = ()
    prepend_cond_ids: tuple[str, ...] = ()
    input_concat_ids: tuple[str, ...] = ()
    distribution_shift: DistributionShiftConfig | None = None
    """For long latents the model learns at higher noise."""
    masks: bool = False
    """Attention sees no padding, of texts or of frames, so that a result may have any length up to `samples`. The
    published models have learnt without: they fill their whole length, and what is beyond the end is cut off."""
    sampling: FlowSampling | VSampling | None = None
    """What `generate` takes by default; None: as stable-audio-tools' page proposes."""
    guidance: Guidance | None = None

    def __post_init__(self) -> None:
        at_least(1, self, "rate", "channels", "samples", "hop")
        if not 0 < self.scale < float("inf"):
            raise ValueError(f"scale must be above 0, got {self.scale}")
        if self.codec is None and self.hop == 1 and self.width != self.channels:
            raise ValueError(
                f"backbone has {self.width} channels, and the audio {self.channels}; for latents give codec or hop"
            )
        used = (*self.cross_attention_cond_ids, *self.global_cond_ids, *self.prepend_cond_ids)
        for key in (*used, *self.input_concat_ids):
            if key not in self.conditioning.conditioners and key not in INPAINT_IDS:
                known = ", ".join(self.conditioning.conditioners) or "none"
                raise ValueError(f"there is no conditioner {key!r}; there are {known}")
        if any(key in INPAINT_IDS for key in used) or 0 < len({*INPAINT_IDS} & {*self.input_concat_ids}) < 2:
            raise ValueError(f"input_concat_ids: inpainting needs {' and '.join(INPAINT_IDS)} there, and nowhere else")
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
            "cond_token_dim": max((width(key) for key in self.cross_attention_cond_ids), default=0),
            "global_cond_dim": sum(width(key) for key in self.global_cond_ids),
            "prepend_cond_dim": max((width(key) for key in self.prepend_cond_ids), default=0),
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

    @property
    def frames(self) -> int:
        """That hold `samples`."""
        return self.frames_for(self.samples)

    def frames_for(self, samples: int) -> int:
        """Frames that hold so many samples, and that the backbone can have."""
        backbone = self.backbone
        multiple = backbone.patch_size if isinstance(backbone, DiTConfig) else backbone.ratio
        return -(-samples // (self.hop * multiple)) * multiple

    @property
    def most(self) -> int:
        """Samples of a result: those that it has learnt, up to the end of their last frame."""
        return -(-self.samples // self.hop) * self.hop

    @property
    def inpaints(self) -> bool:
        return INPAINT_IDS[0] in self.input_concat_ids

    @property
    def default_sampling(self) -> FlowSampling | VSampling:
        return self.sampling or default_sampling(self.objective)

    @property
    def default_guidance(self) -> Guidance:
        tokens = self.cross_attention_cond_ids or self.prepend_cond_ids
        return self.guidance or (default_guidance(self.objective) if tokens else Guidance())
