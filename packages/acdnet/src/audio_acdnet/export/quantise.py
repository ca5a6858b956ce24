"""The network in integers: 8-bit weights, activations of 8 or 16 bits, 32-bit accumulators, for a microcontroller.

A real value is scale * (integer - zero). Weights have a scale for every output channel and the zero point 0.
Activations come out of a ReLU, so the zero point of 8-bit ones is -128 and all 256 levels are used. Those of 16 bits
have 8192 levels from 0 on: they keep the shape of soft sounds, and the accumulators do not overflow. Every integer
operation here is exact, so that code for a device can agree with it bit by bit.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from audio_core.files import InputError
from torch import Tensor, nn

from .. import cost
from ..config import FIRST_BLOCK, POOL_AFTER, ACDNetConfig, pools
from ..model import ACDNet, Folded, convolutions, folded

InputType = Literal["int8", "int16"]
MapType = Literal["int8", "int16"]
_LIMITS: dict[MapType, tuple[int, int]] = {"int8": (-128, 127), "int16": (0, 8191)}
_SEEN = 20_000  # values of a layer that a batch shows to the calibration


# --- audio to integers -------------------------------------------------------------------------------------


def affine(audio: np.ndarray, scale: float, zero: int, kind: InputType = "int8") -> np.ndarray:
    """What a quantised model expects: round(audio / scale) + zero, limited to the type."""
    limits = np.iinfo(kind)
    return np.clip(np.rint(audio / np.float32(scale)) + zero, limits.min, limits.max).astype(kind)


def by_peak(audio: np.ndarray, kind: Literal["int8", "uint8", "int16"] = "int8") -> np.ndarray:
    """The integers that the authors' deployment feeds, each crop (first axis) scaled by its peak.

    A model has one scale, so this changes the level of every crop: an accuracy of 71.25 % instead of 88.75 %. It serves
    comparisons only.
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
    output_limits: tuple[int, int]

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Integers (B, I, H, W) -> (B, O, H', W')."""
        return self.finished(self.sums(values))

    def finished(self, sums: Tensor) -> np.ndarray:
        """Pooled sums in the integers of the output."""
        if self.pool != (1, 1):  # multipliers are positive: the pool may come first, where it is exact as well
            sums = nn.functional.max_pool2d(sums, self.pool)
        return self.requantised(sums.to(torch.int64).numpy())

    def sums(self, values: np.ndarray) -> Tensor:
        """Integers (B, I, H, W) -> what is summed up, (B, O, H', W') before the pool, as whole numbers in doubles.

        Doubles hold all whole numbers below 2**53 exactly, and PyTorch convolves them quickly.
        """
        x = torch.from_numpy(values.astype(np.float64) - self.input_zero)
        weight, bias = (torch.from_numpy(part.astype(np.float64)) for part in (self.weight, self.bias))
        return nn.functional.conv2d(x, weight, bias, (1, self.stride), self.padding)

    def requantised(self, sums: np.ndarray) -> np.ndarray:
        """Sums (B, O, H, W) in the integers of the output."""
        column = (slice(None), None, None)
        shift: np.ndarray = self.shift.astype(np.int64)[column]
        scaled = (sums * self.multiplier.astype(np.int64)[column] + (np.int64(1) << (shift - 1))) >> shift
        low, high = self.output_limits
        return np.clip(scaled + self.output_zero, low, high).astype(np.int8 if high < 128 else np.int16)


@dataclass(frozen=True)
class IntegerModel:
    """An ACDNet in integers: twelve convolutions and the output layer."""

    config: ACDNetConfig
    input_type: InputType
    map_type: MapType
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
        """Audio (B, 1, T), times the gain of the model's configuration, as the integers that the model takes."""
        return affine(audio, self.input_scale, self.input_zero, self.input_type)

    def integers(self, values: np.ndarray) -> np.ndarray:
        """Integers of audio (B, 1, T) -> int16 logits (B, classes)."""
        if values.ndim != 3 or values.shape[1:] != (1, self.config.samples):
            raise ValueError(f"expected integers of shape (B, 1, {self.config.samples}), got {values.shape}")
        *convolutions, output = self.layers
        maps = values[:, :, None]  # (B, 1, 1, T)
        for layer in convolutions:
            maps = layer(_as_picture(maps) if layer.name == "conv3" else maps)
        return output(_summed(maps, *average_window(self.config)))[:, :, 0, 0]

    def __call__(self, audio: np.ndarray) -> np.ndarray:
        """Audio (B, 1, T) to logits (B, classes), as of the real model."""
        return self.integers(self.quantised(audio)) * np.float32(self.output_scale)


class Emulated(nn.Module):
    """An integer model in the place of a real one: audio (B, 1, T) to logits (B, classes), to be evaluated."""

    def __init__(self, model: IntegerModel):
        super().__init__()
        self.model, self.config = model, model.config

    def forward(self, audio: Tensor) -> Tensor:
        return torch.from_numpy(self.model(audio.numpy()))


def average_window(config: ACDNetConfig) -> tuple[int, int]:
    """Height and width of what the average pool sees at the configured length."""
    plan = pools(config)
    _, height, width = next(layer.shape for layer in cost.layers(config) if layer.name == "conv12")
    return plan.average or (height, width)


# --- quantisation --------------------------------------------------------------------------------------------


class _Integers(NamedTuple):
    """What integers stand for, scale * (integer - zero), and where they end."""

    scale: float
    zero: int
    low: int
    high: int


def quantise(
    model: ACDNet, crops: Iterable[Tensor], input_type: InputType = "int16", map_type: MapType = "int8"
) -> IntegerModel:
    """`model` in integers; `crops`, batches of clean audio (B, 1, T) at its level, set the scales.

    16-bit input is the audio as it is recorded, at no cost in memory or time; with 8 bits soft sounds fade.
    Each bias is moved so that the layer's mean output stays what it is in real numbers although all before it is
    rounded: the rounding of twelve layers adds up otherwise.
    """
    low, high = _LIMITS[map_type]
    if not all(tensor.isfinite().all() for tensor in model.state_dict().values()):
        raise InputError("the model holds weights that are not finite")
    quick, batches = folded(copy.deepcopy(model).cpu().float(), pairwise=False), list(crops)
    limits, means = _observed(quick, batches, high - low)
    plan, limit = pools(model.config), np.iinfo(input_type).max
    source = _Integers(
        model.config.gain / 32768 if input_type == "int16" else limits["input"] / 127, 0, -limit - 1, limit
    )
    maps = [affine(batch.numpy(), source.scale, 0, input_type)[:, :, None] for batch in batches]  # (B, 1, 1, T)
    layers = []
    for name, part in [*convolutions(quick).items(), ("output", quick.output)]:
        weight, stride, padding, pool = part.weight.double().numpy(), 1, 0, (1, 1)
        target = _Integers(limits[name] / (high - low), low, low, high)
        if name == "output":  # it takes sums in place of averages
            height, width = average_window(model.config)
            weight, maps = weight[:, :, None, None], [_summed(values, height, width) for values in maps]
            area = height * width
            source = _Integers(source.scale / area, source.zero * area, source.low * area, source.high * area)
            target = _Integers(limits[name] * 1.5 / 32767, 0, -32768, 32767)
        elif name in FIRST_BLOCK:
            weight, stride = weight[:, :, None], part.stride[0]
            pool = (1, plan.first) if name == "conv2" else pool
        else:
            maps = [_as_picture(values) for values in maps] if name == "conv3" else maps
            padding = part.padding[0]
            pool = plan.maxima[int(POOL_AFTER[name][-1]) - 1] if name in POOL_AFTER else pool
        layer = _layer(name, weight, part.bias.double().numpy(), source, target, stride, padding, pool)
        sums = [layer.sums(values) for values in maps]
        corrected, moved = _corrected(layer, sums, means[name])
        _check_sums(corrected, source)
        layers.append(corrected)
        maps, source = [corrected.finished(each + moved[:, None, None]) for each in sums], target
    return IntegerModel(model.config, input_type, map_type, tuple(layers))


def _as_picture(values: np.ndarray) -> np.ndarray:
    return values.transpose(0, 2, 1, 3)  # (B, c2, 1, frames) -> (B, 1, c2, frames)


def _summed(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """What the average pool sees, not yet divided: (B, C, 1, 1)."""
    return values[:, :, :height, :width].sum((2, 3), dtype=np.int32, keepdims=True)


@torch.inference_mode()
def _observed(quick: Folded, batches: Sequence[Tensor], steps: int) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Of each layer, how large its values may become, and the mean of each channel before the ReLU.

    The first is taken behind ReLU and pool, where the mean square of the error is least: to cut a few large values is
    cheaper than coarse steps for all. With many steps there is room for louder sounds than those of the calibration.
    """
    if not batches:
        raise ValueError("quantisation needs at least one batch of crops for its calibration")
    values: dict[str, list[Tensor]] = {}
    means: dict[str, list[Tensor]] = {}

    def watch(name: str, into: dict[str, list[Tensor]], look: Callable[[Tensor], Tensor]) -> Any:
        return lambda _, __, out: into.setdefault(name, []).append(look(out) if out.ndim > 2 else out.double().mean(0))

    for name, part in quick.named_modules():
        place = name.rpartition(".")[2]
        if place.startswith("relu"):
            part.register_forward_hook(watch(place.replace("relu", "conv"), values, _thinned))
        elif place.startswith("conv") or place == "output":
            part.register_forward_hook(watch(place, means, lambda out: out.double().transpose(0, 1).flatten(1).mean(1)))
    largest = {"input": 1e-6, "output": 1e-6}
    for batch in batches:
        for name, tensor in (("input", batch), ("output", quick(batch))):
            largest[name] = max(largest[name], float(tensor.abs().max()))
    shares = torch.tensor([len(batch) for batch in batches], dtype=torch.float64)
    weighted = {
        name: (torch.stack(batch_means, 1) @ (shares / shares.sum())).numpy() for name, batch_means in means.items()
    }
    if not all(np.isfinite(mean).all() for mean in weighted.values()):
        raise InputError("the model's values become infinite; its weights are too large")
    return largest | {name: _best_limit(torch.cat(parts), steps) for name, parts in values.items()}, weighted


def _thinned(out: Tensor) -> Tensor:
    """Some values of a layer and the largest; the step is odd, so that no period of a row is followed."""
    flat = out.flatten()
    return torch.cat([flat[:: max(1, len(flat) // _SEEN) | 1], flat.max()[None]])


def _best_limit(values: Tensor, steps: int) -> float:
    """The upper end of so many steps from 0 whose levels lie closest to `values`."""
    largest = max(float(values.max()), 1e-6)
    if steps > 1000:
        return 1.5 * largest
    limits = [largest * percent / 100 for percent in range(10, 101, 2)]

    def error(limit: float) -> float:
        step = limit / steps
        levels = (values / step).round().clamp(0, steps)
        return float((levels * step - values).square().mean())

    return min(limits, key=error)


def _layer(
    name: str,
    weight: np.ndarray,
    bias: np.ndarray,
    source: _Integers,
    target: _Integers,
    stride: int,
    padding: int,
    pool: tuple[int, int],
) -> IntegerLayer:
    """Real weights (O, I, height, width) in integers, between those that come in and those that go out."""
    largest = np.abs(weight).max((1, 2, 3))
    # A channel that is almost only bias gets coarse weights, so that its bias fits in 32 bits.
    scales = np.maximum(np.maximum(largest / 127, np.abs(bias) / source.scale / 2**30), 1e-30)
    integers = np.rint(weight / scales[:, None, None, None]).astype(np.int8)
    offsets = np.rint(bias / (source.scale * scales))
    multiplier, shift = _fixed_point(source.scale * scales / target.scale)
    numbers = integers, offsets.astype(np.int32), multiplier, shift
    scaling = source.scale, source.zero, target.scale, target.zero
    return IntegerLayer(name, *numbers, stride, padding, pool, *scaling, (target.low, target.high))


def _corrected(layer: IntegerLayer, sums: Sequence[Tensor], target: np.ndarray) -> tuple[IntegerLayer, Tensor]:
    """The layer with biases that give each channel of its real sums the mean `target`, and the change of the biases."""
    mean = sum(each.mean((2, 3)).sum(0).numpy() for each in sums) / sum(map(len, sums))
    unit = layer.multiplier / 2.0**layer.shift * layer.output_scale  # a sum of 1 in real numbers
    away = np.divide(target, unit, out=mean.copy(), where=unit > 0) - mean
    limit = 2**30  # as `_layer` leaves it
    bias = np.clip(np.rint(layer.bias + away), -limit, limit).astype(np.int32)
    return replace(layer, bias=bias), torch.from_numpy(bias - layer.bias.astype(np.float64))


def _check_sums(layer: IntegerLayer, source: _Integers) -> None:
    """Whatever comes in, the sums fit."""
    span = max(source.high - source.zero, source.zero - source.low)
    worst = np.abs(layer.weight.astype(np.int64)).sum((1, 2, 3)) * span + np.abs(layer.bias.astype(np.int64))
    if worst.max() >= 2**31:
        raise InputError(f"{layer.name}: its sums may need more than 32 bits; 8-bit maps (c) may do with fewer")


def _fixed_point(factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Factors as multiplier / 2**shift, the multiplier of 31 bits; what is too small for 62 bits of shift is 0."""
    mantissa, exponent = np.frexp(factors)  # mantissa from 0.5 to below 1
    multiplier = np.rint(mantissa * 2**31).astype(np.int64)
    exponent = exponent + (multiplier == 2**31)
    multiplier = np.where(multiplier == 2**31, 2**30, multiplier)
    shift = 31 - exponent
    multiplier, shift = np.where(shift > 62, 0, multiplier), np.clip(shift, 1, 62)
    return multiplier.astype(np.int32), shift.astype(np.int32)
