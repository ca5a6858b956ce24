"""All settings of a training. Importing it needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

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
    valid_seconds: float = 0.0
    """Validation takes so much from the middle of each file; 0: whole files."""
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
        for name in ("made_share", "band_limit", "silence", "clean"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share from 0 to 1, got {getattr(self, name)}")
        if self.silence + self.clean > 1:
            raise ValueError("silence and clean are shares of the same samples, and add up to more than 1")
        if not self.valid_snr_db:
            raise ValueError("valid_snr_db: expected at least one ratio")
