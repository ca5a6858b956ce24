"""Pseudo-QMF filter banks (PQMF): audio to N critically sampled bands, and back."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .precision import full_precision


def matching_synthesis(analysis: np.ndarray) -> tuple[np.ndarray, float]:
    """The least-squares synthesis filters without delay for `analysis` (N, taps), and their squared error.

    With J = taps / N, output sample Nt + p is a weighted sum of the frames t .. t + J - 1 of all bands,
    which depend on 2 taps - N input samples. For each phase p the weights should give input sample Nt + p: N
    least-squares problems with one matrix. Weights are (N phases, N bands, J), a convolution over frames.
    """
    bands, taps = analysis.shape
    span = 2 * taps - bands
    response = np.zeros((span, bands, taps // bands))  # input sample, band, frame
    for frame in range(taps // bands):
        response[bands * frame : bands * frame + taps, :, frame] = analysis.T[::-1]
    matrix = response.reshape(span, -1)
    target = np.eye(span)[:, taps - bands : taps]
    weights = np.linalg.lstsq(matrix, target, rcond=None)[0]
    return weights.T.reshape(bands, bands, -1), float(((matrix @ weights - target) ** 2).sum())


def modulated(bands: int, taps: int, beta: float, cutoff: float) -> np.ndarray:
    """A Kaiser-windowed sinc modulated to the centre of each band: (bands, taps); cutoff 1 is Nyquist."""
    time = np.arange(taps) - (taps - 1) / 2
    prototype = cutoff * np.sinc(cutoff * time) * np.kaiser(taps, beta)
    band = np.arange(bands)[:, None]
    return 2 * prototype * np.cos((band + 0.5) * np.pi / bands * time + (-1.0) ** band * np.pi / 4)


def half_power_cutoff(bands: int, taps: int, beta: float) -> float:
    """The cutoff at which neighbouring bands meet at -3 dB, by bisection."""
    time = np.arange(taps) - (taps - 1) / 2
    low, high = 0.25 / bands, 1.0 / bands
    for _ in range(40):
        middle = (low + high) / 2
        prototype = np.sinc(middle * time) * np.kaiser(taps, beta)
        gain = (prototype * np.cos(np.pi * time / (2 * bands))).sum() / prototype.sum()
        low, high = (middle, high) if gain < 0.5**0.5 else (low, middle)
    return low


class PQMF(nn.Module):
    """(B, C, T) <-> (B, C * N, frames), channels major, for an analysis bank (N, taps), taps divisible by N.

    No net delay: sample n of the synthesis is sample n of the input. Frame t reads the samples
    Nt + N - taps .. Nt + N - 1, so taps // N frames beyond T / N hold the tail of the last samples.
    `tails=False` (taps divisible by 2N) gives exactly ceil(T / N) frames, each centred on its samples, but then the
    first and last `taps` samples are not exact. Filters are not part of the state dict.
    """

    def __init__(self, analysis: np.ndarray, tails: bool = True):
        super().__init__()
        self.bands, self.taps = analysis.shape
        self.tails = tails
        if self.taps % (self.bands if tails else 2 * self.bands):
            raise ValueError(f"{self.taps} taps do not divide into {self.bands} bands")
        synthesis, _ = matching_synthesis(analysis)
        kernels = torch.from_numpy(analysis[:, None, ::-1].copy()), torch.from_numpy(synthesis)
        self.register_buffer("analysis_weight", kernels[0].float(), persistent=False)  # (N, 1, taps)
        self.register_buffer("synthesis_weight", kernels[1].float(), persistent=False)  # (N, N, taps // N)

    @classmethod
    def bytesep(cls) -> "PQMF":
        """The 4 bands of 64 taps of bytesep's models: 103 dB round trip, poor selectivity."""
        return cls(np.load(Path(__file__).with_name("pqmf_4x64.npy")) / 4)

    @classmethod
    def design(cls, bands: int, taps: int | None = None, beta: float = 10.0, tails: bool = True) -> "PQMF":
        """Cosine-modulated filters, matching synthesis; 16 taps a band: 78 dB round trip, 100 dB stop band.

        `beta` is the Kaiser window's: a larger one gives a deeper stop band and needs more taps.
        """
        taps = 16 * bands if taps is None else taps
        start = half_power_cutoff(bands, taps, beta)  # the best cutoff lies up to 1 % below
        banks = [modulated(bands, taps, beta, start * part) for part in np.linspace(0.99, 1.0, 6)]
        return cls(min(banks, key=lambda bank: matching_synthesis(bank)[1]), tails)

    @full_precision
    def analysis(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C * N, frames), any T."""
        batch, channels, length = x.shape
        right = self.taps if self.tails else -length % self.bands + self.taps // 2
        left = self.taps - self.bands if self.tails else self.taps // 2 - self.bands
        padded = F.pad(x.reshape(batch * channels, 1, length), (left, right))
        frames = F.conv1d(padded, self.analysis_weight.to(x), stride=self.bands)
        return frames.reshape(batch, channels * self.bands, -1)

    @full_precision
    def synthesis(self, frames: Tensor, length: int | None = None) -> Tensor:
        """(B, C * N, frames) -> (B, C, length); None gives whole frames, N * (T // N) samples with tails."""
        batch, channels, count = frames.shape
        flat = frames.reshape(-1, self.bands, count)
        ahead = self.taps // self.bands - 1
        half = 0 if self.tails else self.taps // self.bands // 2
        padded = F.pad(flat, (half, ahead - half))
        phases = F.conv1d(padded, self.synthesis_weight.to(frames))  # (B * C, N, frames)
        x = phases.transpose(1, 2).reshape(batch, channels // self.bands, -1)
        whole = x.shape[-1] - (self.taps if self.tails else 0)
        return x[..., : whole if length is None else length]
