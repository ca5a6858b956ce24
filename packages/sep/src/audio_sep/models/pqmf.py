"""The pseudo-QMF filter bank (PQMF) of bytesep's models: audio to critically sampled bands, and back."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from audio_core.dsp.precision import full_precision
from torch import Tensor, nn


def matching_synthesis(analysis: np.ndarray) -> np.ndarray:
    """The least-squares synthesis filters without delay for `analysis` (N, taps).

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
    return weights.T.reshape(bands, bands, -1)


class PQMF(nn.Module):
    """(B, C, T) <-> (B, C * 4, frames), channels major, by 4 filters of 64 taps: 103 dB round trip, poor selectivity.

    No net delay: sample n of the synthesis is sample n of the input. Frame t reads the samples 4t - 60 .. 4t + 3, so
    16 frames beyond T / 4 hold the tail of the last samples. Filters are not part of the state dict.
    """

    def __init__(self) -> None:
        super().__init__()
        analysis = np.load(Path(__file__).with_name("pqmf_4x64.npy")) / 4
        self.bands, self.taps = analysis.shape
        kernels = torch.from_numpy(analysis[:, None, ::-1].copy()), torch.from_numpy(matching_synthesis(analysis))
        self.register_buffer("analysis_weight", kernels[0].float(), persistent=False)  # (N, 1, taps)
        self.register_buffer("synthesis_weight", kernels[1].float(), persistent=False)  # (N, N, taps // N)

    @full_precision
    def analysis(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C * N, frames), any T."""
        batch, channels, length = x.shape
        padded = F.pad(x.reshape(batch * channels, 1, length), (self.taps - self.bands, self.taps))
        frames = F.conv1d(padded, self.analysis_weight.to(x), stride=self.bands)
        return frames.reshape(batch, channels * self.bands, -1)

    @full_precision
    def synthesis(self, frames: Tensor, length: int | None = None) -> Tensor:
        """(B, C * N, frames) -> (B, C, length); None gives whole frames, N * (T // N) samples."""
        batch, channels, count = frames.shape
        flat = frames.reshape(-1, self.bands, count)
        ahead = self.taps // self.bands - 1
        padded = F.pad(flat, (0, ahead))
        phases = F.conv1d(padded, self.synthesis_weight.to(frames))  # (B * C, N, frames)
        x = phases.transpose(1, 2).reshape(batch, channels // self.bands, -1)
        return x[..., : x.shape[-1] - self.taps if length is None else length]
