"""All settings of a training. Importing it needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from audio_core.train.optimize import Adam, AdamW, Constant, Cosine, Staircase
from audio_core.train.plan import Plan

from .config import ConditionalUNetConfig, ModelConfig, ResUNet143SubbandTimeConfig

Loss = Literal["l1_wav", "l1_wav_l1_sp", "l1_wav_l1_compressed_sp"]
N_FFT = 2048
"""Of the losses with spectra."""


@dataclass(frozen=True)
class Augment:
    """What happens to the segments of a source, in this order, before they are mixed with the other sources."""

    mix: int = 1
    """How many segments are drawn and summed to one sample of the source (mix-audio)."""
    pitch: float = 0.0
    """Largest change in semitones, up or down; the speed changes too."""
    gain_db: tuple[float, float] = (0.0, 0.0)
    """Range of a random gain."""
    swap: bool = False
    """A random order of the channels."""
    polarity: bool = False
    """A random sign of each channel."""

    def __post_init__(self) -> None:
        if self.mix < 1 or not 0 <= self.pitch <= 24:
            raise ValueError(f"mix is 1 or more and pitch from 0 to 24, got {self.mix} and {self.pitch}")
        if self.gain_db[0] > self.gain_db[1]:
            raise ValueError(f"gain_db: expected the lower end first, got {list(self.gain_db)}")


@dataclass(frozen=True)
class Data:
    """Recordings of the sources, which are added up to mixtures."""

    inputs: tuple[str, ...] = ("vocals", "accompaniment")
    """The sources whose sum is the mixture."""
    packs: Path | None = None
    """A folder of packs that `pack` or the original program wrote, or of songs: a folder each, a file for each stem."""
    sources: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Where a source comes from in place of `packs`: folders of recordings, manifests, packs. `songs:bass+drums` takes
    the stems bass and drums of each song in the folder songs, and adds them up. A place given twice counts twice."""
    augment: dict[str, Augment] = field(default_factory=dict)
    remix: bool = True
    """Each source from a place of its own; otherwise all from the same place of the same song."""
    seconds: float = 3.0
    """Length of a sample; shorter recordings are followed by silence."""
    sampling: Literal["random", "bytesep"] = "random"
    """Places: random, with all parts of the recordings equally often; or the sequence of the original program."""

    held_out: tuple[str, ...] = ()
    """Beginnings of the names of songs that training leaves out and validation takes."""
    valid: Path | None = None
    """Packs or songs to validate on, in the forms of `packs`."""
    valid_sources: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """The same in the form of `sources`. Where these share no songs, their recordings are mixed one to one."""
    valid_db: tuple[float, ...] = (0.0,)
    """Levels of the first source of the model over all others in such mixtures, in turn."""
    valid_seconds: float = 30.0
    """Validation takes so much from the middle of each song; 0: whole songs."""

    def __post_init__(self) -> None:
        if self.seconds <= 0 or self.valid_seconds < 0:
            raise ValueError(f"seconds must be above 0, got {self.seconds}; valid_seconds from 0 on")
        if len(self.inputs) < 2 or len({*self.inputs}) != len(self.inputs):
            raise ValueError(f"inputs: expected two or more different sources, got {', '.join(self.inputs) or 'none'}")
        for name in ("sources", "augment", "valid_sources"):
            unknown = [source for source in getattr(self, name) if source not in self.inputs]
            if unknown:
                raise ValueError(f"{name}: {unknown[0]} is none of the inputs {', '.join(self.inputs)}")
        if not self.valid_db:
            raise ValueError("valid_db: expected at least one level")
        if not self.remix:
            steps = [self.augment.get(source, Augment()) for source in self.inputs]
            if any(step.pitch for step in steps) or len({step.mix for step in steps}) > 1:
                raise ValueError(
                    "remix=false: sources from the same place need the same mix, and pitch would part them"
                )


@dataclass(frozen=True, kw_only=True)
class WarmStaircase(Staircase):
    """The original's: a linear warm-up from 0, so that the first update changes nothing, and then a staircase."""

    warmup: int = 1000
    every: int = 15_000
    factor: float = 0.9

    def __call__(self, update: int) -> float:
        return update / self.warmup if self.warmup and update <= self.warmup else self.after(update)


@dataclass(frozen=True, kw_only=True)
class Recipe(Plan):
    """The original's training; its batch of 16 is over all processes, ours is that of each."""

    data: Data = field(default_factory=Data)
    model: ModelConfig = field(default_factory=ResUNet143SubbandTimeConfig)
    pretrained: str = ""
    """A bundle to begin with, of a model with the same settings."""
    loss: Loss = "l1_wav"
    optimizer: Adam | AdamW = field(default_factory=lambda: Adam(1e-3, amsgrad=True))
    schedule: WarmStaircase | Cosine | Constant = field(default_factory=WarmStaircase)
    clip: float = 0.0
    """Largest norm of the gradient; 0: no limit."""
    average: float = 0.0
    """Decay of averaged weights, which are then tested and released; 0: the last weights are."""

    steps: int = 500_000
    batch: int = 16
    seed: int = 1234
    workers: int = 4
    evaluate_every: int = 10_000
    save_every: int = 10_000

    FIRST: ClassVar[tuple[str, ...]] = (
        *("data.packs", "data.sources", "data.inputs", "data.held_out", "data.valid", "data.valid_sources"),
        *("data.augment", "data.seconds", "model.sources", "steps", "batch", "optimizer", "schedule", "evaluate_every"),
    )
    FREE: ClassVar[frozenset[str]] = Plan.FREE | {"data.packs", "data.valid"}

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.average < 1 or self.clip < 0:
            raise ValueError(f"average is from 0 to below 1 and clip from 0 on, got {self.average} and {self.clip}")
        missing = [source for source in self.model.sources if source not in self.data.inputs]
        if missing:
            raise ValueError(f"model.sources: {missing[0]} is none of data.inputs, {', '.join(self.data.inputs)}")
        samples, least = round(self.data.seconds * self.model.rate), self.least
        if samples < least:
            raise ValueError(f"data.seconds: the spectra need {least} samples, {self.data.seconds} s have {samples}")
        count = len(self.model.sources)
        if isinstance(self.model, ConditionalUNetConfig) and self.batch % count:
            raise ValueError(f"batch must be a multiple of {count}, so that it holds each source equally often")

    @property
    def least(self) -> int:
        """Samples that the model and the loss need."""
        return max(self.model.shortest, N_FFT // 2 + 1 if self.loss != "l1_wav" else 0)
