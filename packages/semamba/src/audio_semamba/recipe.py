"""All settings of a training. Importing it needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from audio_core.train.optimize import AdamW, Constant, Cosine
from audio_core.train.plan import Plan

from .config import SPECTRAL, SEMambaConfig

Noise = Literal["coloured", "babble", "hum", "clicks", "music"]


@dataclass(frozen=True)
class Data:
    """Pairs of clean and noisy recordings, or clean ones that noise is mixed with."""

    train: Path = Path("data.jsonl")
    """A manifest that `scan` wrote; or clean speech as a folder, a manifest or a .json list of files."""
    noisy: Path | None = None
    """The noisy partners of `train`, a folder or a .json list; a manifest of pairs names them itself."""
    more: tuple[Path, ...] = ()
    """Further manifests of pairs, or further clean speech."""
    noise: tuple[Path, ...] = ()
    """Folders or manifests of noise to mix with speech that has no noisy partner."""
    made: tuple[Noise, ...] = ()
    """Kinds of noise made in code to mix likewise."""
    made_share: float = 0.5
    """The share of mixed samples that get these, where there are files with noise too."""
    snr_db: tuple[float, float] = (-5.0, 20.0)
    """Range of the signal-to-noise ratio of mixed samples."""

    valid: Path | None = None
    """Speech to validate on, in the forms of `train`."""
    valid_noisy: Path | None = None
    """The noisy partners of `valid`."""
    valid_noise: tuple[Path, ...] = ()
    """Noise to validate with; without it, that of training."""
    valid_snr_db: tuple[float, ...] = (0.0, 5.0, 10.0)
    """Signal-to-noise ratios of validation, in turn."""
    valid_seconds: float = 20.0
    """Validation takes at most so much from the middle of each file; 0: whole files, whatever memory they take."""
    held_out: tuple[str, ...] = ()
    """Beginnings of file names, such as the speakers p226 and p287, that training leaves out and validation takes."""

    seconds: float = 2.0
    """Length of a sample; shorter files are followed by silence."""
    gain_db: tuple[float, float] = (0.0, 0.0)
    """Range of the level of the noisy sample, which is normalised to an RMS of 1 before."""
    band_limit: float = 0.0
    """Share of samples whose clean and noisy side lose what is above a random frequency."""
    band_hz: tuple[float, float] = (2000.0, 7500.0)
    """Range of that frequency."""
    microphone: float = 0.0
    """Share of mixed samples whose clean speech gets another timbre and a soft hiss, which its target keeps."""
    silence: float = 0.0
    """Share of samples with noise alone, whose target is silence."""
    clean: float = 0.0
    """Share of samples without noise, whose target is the input."""
    pcs: Literal["no", "level", "peak"] = "no"
    """Targets with perceptual contrast stretching: they keep their level, or get the peak 1 as in the original."""

    def __post_init__(self) -> None:
        if self.seconds <= 0 or self.valid_seconds < 0:
            raise ValueError(f"seconds must be above 0, got {self.seconds}; valid_seconds from 0 on")
        for name in ("snr_db", "gain_db", "band_hz"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: expected the lower end first, got {[low, high]}")
        if self.band_hz[0] <= 0:
            raise ValueError(f"band_hz: expected frequencies above 0, got {list(self.band_hz)}")
        for name in ("made_share", "band_limit", "microphone", "silence", "clean"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share from 0 to 1, got {getattr(self, name)}")
        if self.silence + self.clean > 1:
            raise ValueError("silence and clean are shares of the same samples, and add up to more than 1")
        if not self.valid_snr_db:
            raise ValueError("valid_snr_db: expected at least one ratio")


@dataclass(frozen=True)
class Weights:
    """Weights of the parts of the generator's loss; 0 leaves a part out."""

    metric: float = 0.05
    """The discriminator's estimate of PESQ; 0 trains without a discriminator."""
    magnitude: float = 0.9
    phase: float = 0.3
    complex: float = 0.1
    """Real and imaginary parts of the compressed spectrogram; twice their mean squared error, as in the original."""
    time: float = 0.2
    consistency: float = 0.1
    """Whether the spectrogram is that of any audio; twice the mean squared error, as in the original."""
    spectral: float = 0.0
    """Distance of compressed magnitudes with a short and a long window; not in the original."""
    oversuppression: float = 0.0
    """What the estimate lacks of clean magnitudes, squared, so that doubtful speech is kept; not in the original."""


@dataclass(frozen=True)
class Discriminator:
    width: int = 16
    """Channels of the first layer."""
    begin: int = 0
    """The step with which it begins to learn, and its loss to count."""
    pretrained: str = ""
    """A bundle or an original checkpoint of a discriminator to begin with."""
    workers: int = 2
    """Processes that compute the PESQ it learns from."""


@dataclass(frozen=True, kw_only=True)
class Exponential(Constant):
    """The learning rate is multiplied by `factor` after each epoch."""

    factor: float = 0.99
    epoch: int = 0
    """Updates in an epoch; 0: as many as the training data have."""

    def after(self, update: int) -> float:
        return self.factor ** (update // max(1, self.epoch))


@dataclass(frozen=True, kw_only=True)
class Recipe(Plan):
    """The original's training; its batch of 4 is over all processes, ours is that of each."""

    data: Data = field(default_factory=Data)
    model: SEMambaConfig = field(default_factory=SEMambaConfig)
    pretrained: str = ""
    """A bundle whose weights the generator begins with, as for fine-tuning; `model` must be as there."""
    weights: Weights = field(default_factory=Weights)
    discriminator: Discriminator = field(default_factory=Discriminator)
    optimizer: AdamW = field(default_factory=lambda: AdamW(5e-4, (0.8, 0.99)))
    """It shrinks all weights, those of the scan included, as the original's does."""
    discriminator_optimizer: AdamW = field(default_factory=lambda: AdamW(5e-4, (0.8, 0.99)))
    schedule: Exponential | Cosine | Constant = field(default_factory=Exponential)
    """Of both learning rates, in updates from the first one of each network."""
    clip: float = 0.0
    """Largest norm of the generator's gradient; 0: no limit."""
    average: float = 0.0
    """Decay of averaged weights, which are then tested and released; 0: the last weights are."""
    checkpointing: bool = False
    """Each block computes its inside again for the gradients: less memory, a third more work."""

    epochs: float | None = 200
    batch: int = 4
    seed: int = 1234
    evaluate_every: int = 1000
    save_every: int = 1000

    FIRST: ClassVar[tuple[str, ...]] = (
        *("data.train", "data.noisy", "data.noise", "data.made", "data.snr_db", "data.held_out", "data.valid"),
        *("data.seconds", "epochs", "steps", "batch", "optimizer", "schedule", "weights.metric", "evaluate_every"),
    )
    FREE: ClassVar[frozenset[str]] = Plan.FREE | {
        *("data.train", "data.noisy", "data.more", "data.noise", "data.valid", "data.valid_noisy", "data.valid_noise"),
        *("discriminator.workers", "checkpointing"),
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.average < 1 or self.clip < 0:
            raise ValueError(f"average is from 0 to below 1 and clip from 0 on, got {self.average} and {self.clip}")
        ends = isinstance(self.schedule, Cosine) and not self.schedule.final and self.schedule.total
        if ends and (self.steps or 0) > ends:
            raise ValueError(
                f"schedule.total: the rate is 0 after {ends} of {self.steps} steps; give as many as `steps`"
            )
        if self.discriminator.begin < 0 or self.discriminator.workers < 1 or self.discriminator.width < 1:
            raise ValueError("discriminator: begin must be 0 or more, workers and width 1 or more")
        samples, bins = round(self.data.seconds * self.model.rate), self.model.n_fft // 2 + 1
        least = max(bins, SPECTRAL[-1] // 2 + 1 if self.weights.spectral else 0)
        if samples < least:
            raise ValueError(f"data.seconds: the spectra need {least} samples, {self.data.seconds} s have {samples}")
        frames = 1 + samples // self.model.hop
        if self.weights.metric and (frames // 16) * (bins // 16) < 2:
            enough = "16 frames and 16 bins, and 32 of one of them"
            raise ValueError(f"weights.metric: the discriminator needs {enough}; samples have {frames} and {bins}")
