"""Files whose samples tell their own place, for the tests of data."""

import numpy as np

RATE = 8000


def ramp(frames: int, channels: int = 1, base: int = 0) -> np.ndarray:
    """Sample i is (base + i) / 32768: sixteen bits that tell their own place. Channels differ in sign."""
    line = ((base + np.arange(frames)) % 32768 / 32768).astype(np.float32)
    return np.stack([line * (-1) ** at for at in range(channels)])
