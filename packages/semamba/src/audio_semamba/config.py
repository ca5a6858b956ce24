"""The configurations of SEMamba and of its discriminator, and the options of enhancement, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from audio_core.files import InputError

SPECTRAL = (256, 1024)
"""Windows of the spectral loss, in samples, the longest last."""


@dataclass(frozen=True)
class SEMambaConfig:
    """The defaults are those of the published model."""

    rate: int = 16000
    n_fft: int = 400
    """A multiple of 4: the encoder halves the bins, and the decoders double them again."""
    hop: int = 100
    window: int = 400
    compress: float = 0.3
    """The power to which magnitudes are raised."""
    channels: int = 64
    dense: int = 4
    """Convolutions in each dense block: the first is dilated once over time, each further one twice as much."""
    blocks: int = 4
    """TF-Mamba blocks, each with a scan over time and one over frequency."""
    state: int = 16
    """Values in the state of a scan, for each of its channels."""
    conv: int = 4
    """Taps of the convolution before a scan."""
    expand: int = 4
    """Channels in a scan for each channel outside."""
    eps: float = 1e-5
    """Of the RMSNorm before a scan."""
    beta: float = 2.0
    """The largest value of the mask."""
    phase: Literal["absolute", "correction"] = "absolute"
    """`absolute`, as in the original: the network sees the noisy phase as an angle and estimates the clean one.
    `correction`: it sees real and imaginary part and estimates by how much to rotate them, which small models learn
    far faster."""
    causal: bool = False
    """No look-ahead beyond the frame: one direction over time, norms with statistics of training, a running level."""

    def __post_init__(self) -> None:
        for name in ("rate", "hop", "channels", "dense", "blocks", "state", "conv", "expand"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.n_fft < 8 or self.n_fft % 4:
            raise ValueError(f"n_fft must be a multiple of 4 from 8 on, got {self.n_fft}")
        if not self.hop <= self.window <= self.n_fft:
            raise ValueError(f"hop <= window <= n_fft is expected, got {self.hop}, {self.window}, {self.n_fft}")
        if self.causal and 2 * self.hop > self.n_fft:
            raise ValueError(f"hop: a causal model needs one of at most n_fft / 2, got {self.hop} of {self.n_fft}")
        if not 0 < self.compress <= 1:
            raise ValueError(f"compress must lie above 0 and up to 1, got {self.compress}")
        if self.eps <= 0 or self.beta <= 0:
            raise ValueError(f"eps and beta must be above 0, got {self.eps} and {self.beta}")

    @property
    def bins(self) -> int:
        return self.n_fft // 2 + 1

    @property
    def latency_ms(self) -> float:
        """Of a causal model: the time from a sample to the last one that its output depends on, one window."""
        return 1000 * self.n_fft / self.rate

    @property
    def bands(self) -> int:
        """Bins after the encoder has halved them."""
        return (self.bins - 1) // 2


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The default is that of the published discriminator."""

    width: int = 16
    """Channels of the first layer; each of the next three doubles them."""

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width must be at least 1, got {self.width}")


@dataclass(frozen=True)
class Options:
    """What is done besides the model's work."""

    pcs: bool = False
    """Perceptual contrast stretching, which raises PESQ and sounds sharper. The level is kept."""
    mix: float = 1.0
    """The share of the enhanced audio in the result; the rest is the input."""
    atten_limit: float | None = None
    """Noise is softened by so many decibels at most."""

    def __post_init__(self) -> None:
        if not 0 <= self.mix <= 1:
            raise InputError(f"mix: expected a share from 0 to 1, got {self.mix:g}")
        if self.atten_limit is not None and not 0 <= self.atten_limit < float("inf"):
            raise InputError(f"atten_limit: expected decibels from 0 on, got {self.atten_limit:g}")

    @property
    def share(self) -> float:
        """Of the enhanced audio in the result."""
        kept = 0.0 if self.atten_limit is None else 10 ** (-self.atten_limit / 20)
        return self.mix * (1 - kept)
