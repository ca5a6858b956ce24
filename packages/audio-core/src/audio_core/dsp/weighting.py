"""The A-weighting curve, and a linear-phase filter that follows it."""

import numpy as np
import torch
from torch import Tensor

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
