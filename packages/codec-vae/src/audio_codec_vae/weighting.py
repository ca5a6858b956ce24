"""What the ear hears of each frequency: the A-weighting, as a filter, and the K-weighting."""

from __future__ import annotations

import math

import numpy as np
import torch
from audio_core.dsp.precision import full_precision
from torch import Tensor

# --- A-weighting -----------------------------------------------------------------------------------------

CORNERS = (20.598997, 107.65265, 737.86223, 12194.217)  # Hz, IEC 61672
GAIN_DB = 1.9997  # makes 1 kHz come out at 0 dB


def a_weighting(frequency: np.ndarray) -> np.ndarray:
    """The amplitude gain of the analog A-weighting at each frequency in Hz."""
    square = np.asarray(frequency, dtype=np.float64) ** 2
    f1, f2, f3, f4 = (corner**2 for corner in CORNERS)
    falling = (square + f1) * np.sqrt((square + f2) * (square + f3)) * (square + f4)
    return 10 ** (GAIN_DB / 20) * f4 * square**2 / falling


def a_weighting_taps(rate: int, taps: int = 101, points: int = 512) -> Tensor:
    """A symmetric filter (taps,) with the gain of the bilinear transform of the A-weighting, as in auraloss.

    The gain is computed at `points` frequencies below Nyquist. Within each pair (0, 1), (2, 3), … of these it is
    interpolated linearly; between two pairs the error does not count. The squared error of the cosine series is
    integrated with three Gauss nodes for each pair, which is exact far below float32, and minimised.
    """
    grid = np.arange(points) / points  # in parts of the Nyquist rate
    gain = a_weighting(rate / np.pi * np.tan(np.pi / 2 * grid))  # the bilinear transform bends the frequency axis
    node, weight = np.polynomial.legendre.leggauss(3)
    share = (node + 1) / 2
    frequency = (grid[0::2, None] * (1 - share) + grid[1::2, None] * share).ravel()
    target = (gain[0::2, None] * (1 - share) + gain[1::2, None] * share).ravel()
    importance = np.sqrt(np.tile(weight, points // 2))
    half = taps // 2
    series = np.cos(np.pi * frequency[:, None] * np.arange(half + 1)) * ([1.0] + [2.0] * half)
    side = np.linalg.lstsq(series * importance[:, None], target * importance, rcond=None)[0]
    return torch.from_numpy(np.concatenate([side[:0:-1], side])).float()


# --- K-weighting -----------------------------------------------------------------------------------------

# Of ITU-R BS.1770: a shelf that lifts what is above 1.7 kHz by 4 dB, and a high-pass; corners in Hz, as of the analog
# filters from which the standard's are made at 48 kHz.
SHELF, SHELF_Q, LIFT, BEND = 1688.801998, 0.70717524, 10 ** (3.99984385 / 20), 0.49966678
HIGH_PASS, HIGH_PASS_Q = 38.13555007, 0.50032704
PASSED = 1.0049949  # the gain of the standard's high-pass far above its corner


def k_weighting(frequency: Tensor) -> Tensor:
    """The amplitude gain of the analog K-weighting at each frequency in Hz."""
    shelf, high = 1j * frequency.double() / SHELF, 1j * frequency.double() / HIGH_PASS
    lifted = (LIFT * shelf**2 + LIFT**BEND * shelf / SHELF_Q + 1) / (shelf**2 + shelf / SHELF_Q + 1)
    return (PASSED * lifted * high**2 / (high**2 + high / HIGH_PASS_Q + 1)).abs()


@full_precision
def k_weighted(x: Tensor, rate: int) -> Tensor:
    """(..., T) with the gain of the K-weighting at each frequency and its phase unchanged, as if amid silence."""
    size = x.shape[-1] + rate // 10  # its answer to a click is 60 dB down after this time
    grid = torch.arange(size // 2 + 1, device=x.device, dtype=torch.float64) / size
    gain = k_weighting(rate / math.pi * (math.pi * grid).tan())  # the bilinear transform bends the frequency axis
    return torch.fft.irfft(torch.fft.rfft(x, size) * gain.to(x.dtype), size)[..., : x.shape[-1]]
