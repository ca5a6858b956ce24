"""What tests share: signals, stored parity cases and comparisons that say what is wrong."""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


def tone(frequency: float = 440.0, seconds: float = 1.0, rate: int = 16000, channels: int = 1) -> Tensor:
    """A sine of amplitude 0.5 as (C, T); each further channel runs a quarter turn ahead."""
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    turns = frequency * time + 0.25 * torch.arange(channels, dtype=torch.float64)[:, None]
    return (0.5 * torch.sin(2 * torch.pi * turns)).float()


def noise(seed: int = 0, seconds: float = 1.0, rate: int = 16000, channels: int = 1) -> Tensor:
    """White noise of standard deviation 0.1 as (C, T): the same for the same seed, whatever ran before."""
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(channels, round(seconds * rate), generator=generator)


def close(actual: Tensor, expected: Tensor, relative: float = 1e-5) -> None:
    """Assert max|actual - expected| <= relative * max|expected|."""
    assert actual.shape == expected.shape, f"shape {tuple(actual.shape)}, expected {tuple(expected.shape)}"
    if not expected.numel():
        return
    wide = torch.complex128 if expected.is_complex() else torch.float64
    actual, expected = (value.detach().cpu().to(wide) for value in (actual, expected))
    difference = (actual - expected).abs()
    peak = float(expected.abs().max())
    worst = int(difference.argmax())  # NaN counts as the largest
    place = tuple(int(i) for i in np.unravel_index(worst, expected.shape))
    assert float(difference.max()) <= relative * peak, (
        f"at {place}: {actual.flatten()[worst].item():.8g}, expected {expected.flatten()[worst].item():.8g}; "
        f"off by {float(difference.max()):.3g}, allowed {relative:.1e} of the peak {peak:.4g}"
    )


def filled(name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """The values that stand for the parameter `name`, drawn from its name alone."""
    if not dtype.startswith("float"):
        return np.zeros(shape, dtype)
    leaf = name.rpartition(".")[2]
    fan_in = int(np.prod(shape[1:]))
    draw = np.random.RandomState(zlib.crc32(name.encode()))  # the stored cases were drawn so
    if leaf == "running_var":
        return draw.uniform(0.5, 1.5, shape).astype(dtype)
    if leaf == "A_log":
        return draw.uniform(0.0, 2.5, shape).astype(dtype)
    normal = draw.standard_normal(shape)
    if len(shape) > 1 and fan_in > 1:
        return (normal / np.sqrt(fan_in)).astype(dtype)
    is_gain = leaf in ("weight", "original0") or leaf.endswith("_g")
    return (0.1 * normal + is_gain).astype(dtype)


@dataclass(frozen=True)
class Case:
    """What an original computed at one configuration: `stem`.json says how, `stem`.npz holds in and out."""

    config: dict[str, Any]
    keys: list[list[Any]]
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    notes: str = ""

    @classmethod
    def load(cls, stem: str | Path) -> "Case":
        meta = json.loads(Path(f"{stem}.json").read_text(encoding="utf-8"))
        arrays: dict[str, dict[str, Any]] = {"in": {}, "out": {}}
        with np.load(f"{stem}.npz") as stored:
            for key in stored.files:
                side, _, name = key.partition(".")
                value = stored[key]  # text stays an array, numbers become tensors
                arrays[side][name] = value if value.dtype.kind in "US" else torch.from_numpy(np.array(value))
        return cls(meta["config"], meta["keys"], arrays["in"], arrays["out"], meta.get("notes", ""))

    def state(self) -> dict[str, Tensor]:
        """Weights under the original's names; an input called `state.<name>` replaces the filled value."""
        weights = {name: torch.from_numpy(filled(name, tuple(shape), dtype)) for name, shape, dtype in self.keys}
        given = {name[6:]: value for name, value in self.inputs.items() if name.startswith("state.")}
        return weights | given

    def tolerance(self, output: str, floor: float = 1e-5) -> float:
        """Relative to the peak: ten times the original's own float32 rounding, where the case states it."""
        return max(floor, 10 * self.config.get("float32_noise", {}).get(output, 0.0))
