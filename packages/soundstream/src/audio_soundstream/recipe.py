"""All settings of a training; the defaults repair what the original's does wrong. Importing it needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from audio_core.train.optimize import AdamW, Cosine, Staircase
from audio_core.train.plan import Plan

from .config import SoundStreamConfig, TinyStreamConfig


@dataclass(frozen=True)
class Data:
    root: Path = Path("data")
    """A folder with audio at any depth, or a manifest that `scan` wrote."""
    more: tuple[Path, ...] = ()
    """Further folders or manifests; each gives as many samples as the first, however many files it has."""
    held_out: int = 20
    """Every n-th file of each is held out for evaluation; 0: none."""
    seconds: float = 2.0
    """Length of a sample; shorter files are padded with silence."""
    peak: float = 0.95
    """Each sample is normalised to this peak; 0 leaves its level as it is."""
    gain_db: tuple[float, float] = (-24.0, 0.0)
    """Range of a random gain after normalising."""

    def __post_init__(self) -> None:
        if self.seconds <= 0 or self.held_out < 0 or self.held_out == 1 or not 0 <= self.peak <= 1:
            raise ValueError("expected seconds above 0, held_out 0 or from 2 on, and a peak from 0 to 1")
        if self.gain_db[0] > self.gain_db[1]:
            raise ValueError(f"gain_db: expected the lower end first, got {list(self.gain_db)}")


@dataclass(frozen=True)
class Discriminators:
    wave: int = 4
    """Width of the multi-scale discriminator on waveforms; 16 is the original's, 0 leaves it out."""
    stft: int = 8
    """Width of the discriminator on spectrograms of 1024 samples; 32 is the original's, 0 leaves it out."""
    swapped: bool = False
    """The latter has time and frequency confused, as in the original."""
    begin: int = 5000
    """The step with which they begin to learn, and their losses to count."""
    from_start: bool = False
    """Their losses count from the first step on, before they have learnt anything, as in the original."""


@dataclass(frozen=True)
class Weights:
    """Weights of the parts of the generator's loss; 0 leaves a part out."""

    mel: float = 1.0
    """Multi-resolution distance of log mel spectrograms, with seven windows."""
    power: float = 0.0
    """The original's distance of power mel spectrograms and of their logarithms."""
    wave: float = 30.0
    """Power of the error of the samples, relative to the power of the audio."""
    adversarial: float = 1.0
    """Hinge loss of the generator."""
    features: float = 2.0
    """Feature matching in the discriminators."""
    commitment: float = 0.25
    """Distance of the latents to their entries in the codebooks."""
    balanced: bool = False
    """The weights are shares of the gradient, whatever the size of the losses; the commitment keeps its weight."""


@dataclass(frozen=True, kw_only=True)
class Recipe(Plan):
    """A codec and its discriminators."""

    data: Data = field(default_factory=Data)
    model: SoundStreamConfig | TinyStreamConfig = field(default_factory=SoundStreamConfig)
    discriminators: Discriminators = field(default_factory=Discriminators)
    weights: Weights = field(default_factory=Weights)
    relative_features: bool = True
    """Feature matching is relative to the mean of the real features."""
    dropout: float = 0.5
    """Share of the samples that are reconstructed from a random number of layers."""
    optimizer: AdamW = field(default_factory=lambda: AdamW(3e-4, (0.8, 0.99)))
    discriminator_optimizer: AdamW = field(default_factory=lambda: AdamW(3e-4, (0.8, 0.99)))
    schedule: Staircase | Cosine = field(default_factory=lambda: Staircase(every=1, factor=0.999996))
    """Of both learning rates, warm-up included, in updates from the first one of each network."""
    clip: float = 1.0
    """Largest norm of either gradient; 0: no limit."""
    average: float = 0.0
    """Decay of averaged weights, which are then tested and released; 0: the last weights are. Averaged codebooks fit
    only where the learning rate is low at the end, as on a Cosine."""

    steps: int = 100_000
    batch: int = 8
    seed: int = 42
    evaluate_every: int = 5000
    save_every: int = 5000

    FIRST: ClassVar[tuple[str, ...]] = (
        *("data.root", "data.more", "data.held_out", "data.seconds", "steps", "batch", "optimizer", "schedule"),
        *("discriminators.begin", "evaluate_every", "save_every", "workers"),
    )
    FREE: ClassVar[frozenset[str]] = Plan.FREE | {"data.root", "data.more"}

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.dropout <= 1 or not 0 <= self.average < 1:
            raise ValueError(f"dropout and average are from 0 to 1, got {self.dropout} and {self.average}")
        if not (self.weights.mel or self.weights.power or self.weights.wave):
            raise ValueError("weights: one of mel, power and wave must be above 0")
