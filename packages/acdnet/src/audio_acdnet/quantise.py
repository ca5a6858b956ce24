"""The network in integers: 8-bit weights and activations, 32-bit sums, as a microcontroller computes it.

A real value is scale * (integer - zero). Weights have a scale for every output channel and no zero; activations come out
of a ReLU, so their zero is -128 and all 256 levels are used. Every integer operation here is exact and does what the C
export does: the two agree bit by bit.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from . import layout
from .layout import ACDNetConfig
from .model import ACDNet, Folded, convolutions, folded

InputType = Literal["int8", "int16"]
_LOW, _HIGH = -128, 127
_SEEN = 20_000  # values of a layer that a batch shows to the calibration


# --- audio to integers -------------------------------------------------------------------------------------


def affine(audio: np.ndarray, scale: float, zero: int, kind: InputType = "int8") -> np.ndarray:
    """What a quantised model expects: round(audio / scale) + zero, limited to the type."""
    limits = np.iinfo(kind)
    return np.clip(np.rint(audio / np.float32(scale)) + zero, limits.min, limits.max).astype(kind)


def by_peak(audio: np.ndarray, kind: Literal["int8", "uint8", "int16"] = "int8") -> np.ndarray:
    """The integers that the authors' deployment feeds, each crop (first axis) scaled by its own peak.

    A model knows one scale, so this changes the level of every crop: 71.25 % right instead of 88.75 %. To compare only.
    """
    if kind == "int16":
        audio, steps, least, shift = audio.astype(np.float64), 65535, 1e-11, -0.5
    else:
        steps, least, shift = 255, 1e-9, 127.5 if kind == "uint8" else -0.5
    peaks = np.abs(audio).max(axis=tuple(range(1, audio.ndim)), keepdims=True)
    return np.rint(audio / (2 * peaks / steps + least) + shift).astype(kind)


# --- the model ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class IntegerLayer:
    """A convolution with its ReLU and the max-pool behind it, or the output layer.

    output = clip(((sum * multiplier + 2**(shift - 1)) >> shift) + output_zero), in 64 bits, where
    sum = bias + sum of weight * (input - input_zero) in 32 bits; outside of the picture input is input_zero.
    """

    name: str
    weight: np.ndarray
    """int8 (O, I, height, width)."""
    bias: np.ndarray
    """int32 (O,)."""
    multiplier: np.ndarray
    """int32 (O,), from 2**30 to 2**31 - 1, or 0 where a channel is always 0."""
    shift: np.ndarray
    """int32 (O,), from 1 to 62."""
    stride: int
    """Along the width; 1 along the height."""
    padding: int
    """Rows and columns on every side."""
    pool: tuple[int, int]
    """Of the max-pool, (1, 1) where there is none."""
    input_scale: float
    input_zero: int
    output_scale: float
    output_zero: int

    @property
    def output_limits(self) -> tuple[int, int]:
        """int8 for convolutions, int16 for the logits."""
        return (_LOW, _HIGH) if self.output_zero else (-32768, 32767)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Integers (B, I, H, W) -> (B, O, H', W')."""
        # Doubles hold all sums below 2**53 exactly, and PyTorch convolves them quickly.
        x = torch.from_numpy(values.astype(np.float64) - self.input_zero)
        weight, bias = (torch.from_numpy(part.astype(np.float64)) for part in (self.weight, self.bias))
        sums = nn.functional.conv2d(x, weight, bias, (1, self.stride), self.padding)
        if self.pool != (1, 1):  # multipliers are positive: the pool may come first, where it is exact as well
            sums = nn.functional.max_pool2d(sums, self.pool)
        return self.requantised(sums.to(torch.int64).numpy())

    def requantised(self, sums: np.ndarray) -> np.ndarray:
        """Sums (B, O, H, W) in the integers of the output."""
        column = (slice(None), None, None)
        shift = self.shift.astype(np.int64)[column]
        scaled = (sums * self.multiplier.astype(np.int64)[column] + (np.int64(1) << (shift - 1))) >> shift
        low, high = self.output_limits
        return np.clip(scaled + self.output_zero, low, high).astype(np.int8 if self.output_zero else np.int16)


@dataclass(frozen=True)
class IntegerModel:
    """An ACDNet in integers: twelve convolutions and the output layer."""

    config: ACDNetConfig
    input_type: InputType
    layers: tuple[IntegerLayer, ...]

    @property
    def input_scale(self) -> float:
        return self.layers[0].input_scale

    @property
    def input_zero(self) -> int:
        return self.layers[0].input_zero

    @property
    def output_scale(self) -> float:
        """A logit is output_scale * its integer."""
        return self.layers[-1].output_scale

    def quantised(self, audio: np.ndarray) -> np.ndarray:
        """Audio (B, 1, T) within -1 to 1 as the integers that the model takes."""
        return affine(audio, self.input_scale, self.input_zero, self.input_type)

    def integers(self, values: np.ndarray) -> np.ndarray:
        """Integers of audio (B, 1, T) -> int16 logits (B, classes)."""
        if values.ndim != 3 or values.shape[1:] != (1, self.config.samples):
            raise ValueError(f"expected integers of shape (B, 1, {self.config.samples}), got {values.shape}")
        *convolutions, output = self.layers
        maps = values[:, :, None]  # (B, 1, 1, T)
        for layer in convolutions:
            if layer.name == "conv3":
                maps = maps.transpose(0, 2, 1, 3)  # (B, c2, 1, frames) -> (B, 1, c2, frames)
            maps = layer(maps)
        height, width = average_window(self.config)
        sums = maps[:, :, :height, :width].sum((2, 3), dtype=np.int32, keepdims=True)
        return output(sums)[:, :, 0, 0]

    def __call__(self, audio: np.ndarray) -> np.ndarray:
        """Audio (B, 1, T) within -1 to 1 to logits (B, classes), as of the model that it was made of."""
        return self.integers(self.quantised(audio)) * np.float32(self.output_scale)


def average_window(config: ACDNetConfig) -> tuple[int, int]:
    """Height and width of what the average pool sees at the configured length."""
    plan = layout.pools(config)
    _, height, width = next(layer.shape for layer in layout.layers(config) if layer.name == "conv12")
    return plan.average or (height, width)


# --- making one --------------------------------------------------------------------------------------------


def quantise(model: ACDNet, crops: Iterable[Tensor], input_type: InputType = "int16") -> IntegerModel:
    """`model` in integers; `crops`, batches of clean audio (B, 1, T) as it will hear it, set the scales.

    16-bit input is the audio as it is recorded, at no cost in memory or time; with 8 bits soft sounds fade.
    """
    quick = folded(copy.deepcopy(model).cpu().float(), pairwise=False)
    limits = _limits(quick, crops)
    plan = layout.pools(model.config)
    source = (1 / 32768 if input_type == "int16" else limits["input"] / 127, 0)
    layers = []
    for name, part in convolutions(quick).items():
        pool = (1, plan.first) if name == "conv2" else (1, 1)
        if name in layout.POOL_AFTER:
            pool = plan.maxima[int(layout.POOL_AFTER[name][-1]) - 1]
        weight = part.weight.double().numpy()
        weight = weight[:, :, None] if weight.ndim == 3 else weight
        target = (limits[name] / (_HIGH - _LOW), _LOW)
        shape = (part.stride[-1], part.padding[-1], pool)
        layers.append(_layer(name, weight, part.bias.double().numpy(), source, target, *shape))
        source = target
    window = math.prod(average_window(model.config))  # the output layer takes sums in place of averages
    source, target = (source[0] / window, source[1] * window), (limits["output"] * 1.5 / 32767, 0)
    weight, bias = quick.output.weight.double().numpy()[:, :, None, None], quick.output.bias.double().numpy()
    layers.append(_layer("output", weight, bias, source, target, 1, 0, (1, 1)))
    return IntegerModel(model.config, input_type, tuple(layers))


@torch.inference_mode()
def _limits(quick: Folded, crops: Iterable[Tensor]) -> dict[str, float]:
    """How large the values of the input, of each convolution behind its ReLU and pool, and of the logits may become.

    For a convolution that is where the mean square of the error is least: to cut a few large values is cheaper than
    coarse steps for all. The largest values themselves would cost 5 dB of the logits.
    """
    seen: dict[str, list[Tensor]] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def look(_: nn.Module, __: tuple[Tensor, ...], out: Tensor) -> None:
            values = out.flatten()
            thinned = values[:: max(1, len(values) // _SEEN) | 1]  # odd, so that no period of a row is followed
            seen.setdefault(name, []).append(torch.cat([thinned, values.max()[None]]))

        return look

    for name, part in quick.named_modules():
        place = name.rpartition(".")[2]
        if place.startswith("relu"):
            part.register_forward_hook(watch(place.replace("relu", "conv")))
    largest = {"input": 1e-6, "output": 1e-6}
    for batch in crops:
        for name, values in (("input", batch), ("output", quick(batch))):
            largest[name] = max(largest[name], float(values.abs().max()))
    if not seen:
        raise ValueError("quantisation needs at least one batch of crops to see how large values become")
    return largest | {name: _best_limit(torch.cat(values)) for name, values in seen.items()}


def _best_limit(values: Tensor) -> float:
    """The upper end of 256 levels from 0 that lie closest to `values`."""
    largest = max(float(values.max()), 1e-6)
    limits = [largest * percent / 100 for percent in range(10, 101, 2)]

    def error(limit: float) -> float:
        step = limit / (_HIGH - _LOW)
        levels = (values / step).round().clamp(0, _HIGH - _LOW)
        return float((levels * step - values).square().mean())

    return min(limits, key=error)


def _layer(
    name: str,
    weight: np.ndarray,
    bias: np.ndarray,
    source: tuple[float, int],
    target: tuple[float, int],
    stride: int,
    padding: int,
    pool: tuple[int, int],
) -> IntegerLayer:
    """Real weights (O, I, height, width) in integers, between two (scale, zero)."""
    largest = np.abs(weight).max((1, 2, 3))
    # A channel that is almost only bias gets coarse weights, so that its bias fits in 32 bits.
    scales = np.maximum(np.maximum(largest / 127, np.abs(bias) / source[0] / 2**30), 1e-30)
    integers = np.rint(weight / scales[:, None, None, None]).astype(np.int8)
    offsets = np.rint(bias / (source[0] * scales)).astype(np.int64)
    span = 2**15 if source[1] == 0 else -2 * source[1]  # the largest |input - zero|
    worst = np.abs(integers.astype(np.int64)).sum((1, 2, 3)) * span + np.abs(offsets)
    if worst.max() >= 2**31:
        raise ValueError(f"{name}: its sums may need more than 32 bits; the layer has too many weights")
    multiplier, shift = _fixed_point(source[0] * scales / target[0])
    return IntegerLayer(
        name, integers, offsets.astype(np.int32), multiplier, shift, stride, padding, pool, *source, *target
    )


def _fixed_point(factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Factors as multiplier / 2**shift, the multiplier of 31 bits; what is too small for 62 bits of shift is 0."""
    mantissa, exponent = np.frexp(factors)  # mantissa from 0.5 to below 1
    multiplier = np.rint(mantissa * 2**31).astype(np.int64)
    exponent = exponent + (multiplier == 2**31)
    multiplier = np.where(multiplier == 2**31, 2**30, multiplier)
    shift = 31 - exponent
    multiplier, shift = np.where(shift > 62, 0, multiplier), np.clip(shift, 1, 62)
    return multiplier.astype(np.int32), shift.astype(np.int32)
