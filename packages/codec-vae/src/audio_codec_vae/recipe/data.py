"""Which recordings a training takes samples from, and how."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Data:
    root: Path = Path("data")
    """A folder with audio at any depth, or a manifest that `scan` wrote."""
    more: tuple[Path, ...] = ()
    """Further folders or manifests; each gives as many samples as the first, however many files it has."""
    held_out: int = 20
    """Every n-th file of each is held out for evaluation; 0: none."""
    samples: int = 65536
    """Length of a training sample, at the model's rate. Shorter files are followed by silence, and those of less than a
    tenth are left out."""
    quiet_db: float = -40.0
    """A stretch whose RMS is below this is passed over, and a file that is nowhere louder is left out; -200: only
    silence is."""
    peak: float = 0.95
    """Each sample is normalised to this peak; 0 leaves its level as it is."""
    gain_db: tuple[float, float] = (0.0, 0.0)
    """Range of a random gain after normalising."""
    flip: bool = True
    """The sign of every other sample is inverted, at random."""
    pitch: float = 0.0
    """Recordings are played higher and faster, or lower and slower, by up to so many semitones."""

    def __post_init__(self) -> None:
        if self.samples < 1 or self.held_out < 0 or self.held_out == 1 or not 0 <= self.peak <= 1:
            raise ValueError("expected samples from 1 on, held_out 0 or from 2 on, and a peak from 0 to 1")
        if self.gain_db[0] > self.gain_db[1]:
            raise ValueError(f"gain_db: expected the lower end first, got {list(self.gain_db)}")
        if not -200 <= self.quiet_db <= 0:
            raise ValueError(f"quiet_db is from -200 to 0, got {self.quiet_db}")
        if not 0 <= self.pitch <= 12:
            raise ValueError(f"pitch is from 0 to 12 semitones, got {self.pitch}")
