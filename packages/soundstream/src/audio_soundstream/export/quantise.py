"""The encoder and the search in integers: 8-bit weights and codebooks, 16-bit activations, 32-bit accumulators.

A real value is its integer / 2**exponent: one exponent for the values between two layers, one for the weights of every
output channel, one for every entry of a codebook. To rescale is then to shift, rounded half up, as ESP-DL does on an
ESP32-S3. Every operation here is exact, so that code for a device can agree with it bit by bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from audio_core.files import InputError
from torch import Tensor

from ..config import CodecConfig
from ..model import NeuralCodec
from . import chain
from .chain import Layer

POINTS = 257
"""Of a curve: 256 pieces, each straight, over all 16-bit values."""
_ROOM = 2**29  # sums are below 2 * _ROOM, of which biases may take half
_AUDIO = 15  # exponent of recorded samples


@dataclass(frozen=True)
class IntegerLayer:
    """A convolution, its activation, and the sum with an earlier layer's input.

    value = (bias + sum of weight * input) / 2**shift, rounded half up; then limited to 16 bits and through the curve,
    if there is one, or from 0 on where the activation is a ReLU; plus skip / 2**skip_shift; limited to -limit to limit.
    """

    name: str
    weight: np.ndarray
    """int8 (O, I, kernel); I is 1 in a depthwise layer."""
    bias: np.ndarray
    """int32 (O,)."""
    shift: np.ndarray
    """int8 (O,), from 0 to 30."""
    real: Layer
    """The real layer, for everything but the numbers."""
    curve: np.ndarray | None
    """int16 (POINTS,): the activation every 256 values from -32768 on."""
    skip_shift: int
    limit: int

    def __call__(self, values: Tensor, skip: Tensor | None) -> Tensor:
        """Whole numbers as doubles (B, I, T) -> (B, O, T')."""
        real, groups = self.real, values.shape[1] if self.real.depthwise else 1
        weight, bias = torch.from_numpy(self.weight).double(), torch.from_numpy(self.bias).double()
        padded = F.pad(values, real.pads)
        sums = F.conv1d(padded, weight, bias, real.stride, 0, real.dilation, groups).long()
        out = _shifted(sums, torch.from_numpy(self.shift).long()[:, None])
        if self.curve is not None:
            out = self._curved(out.clamp(-32768, 32767))
        elif real.activation == "relu":
            out = out.clamp(min=0)
        if skip is not None:
            out = out + _shifted(skip.long(), torch.tensor(self.skip_shift))
        return out.clamp(-self.limit, self.limit).double()

    def _curved(self, values: Tensor) -> Tensor:
        points = torch.from_numpy(self.curve).long()
        place, rest = values + 32768 >> 8, values + 32768 & 255
        return points[place] + ((points[place + 1] - points[place]) * rest + 128 >> 8)


@dataclass(frozen=True)
class IntegerBook:
    """The entries of a layer of the quantizer, each with its exponent: those for soft sounds are small.

    distance = half - product of entry and latent / 2**(coarsest - shift), rounded half up: half the squared distance,
    without what is the same for all entries, in the units of the largest entries.
    """

    entries: np.ndarray
    """int8 (K, D)."""
    shift: np.ndarray
    """int8 (K,), from 0 on: an entry times 2**shift is in the units of a latent."""
    halves: np.ndarray
    """int32 (K,): half the square of each entry's length."""

    @property
    def coarsest(self) -> int:
        return int(self.shift.max())

    def nearest(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Whole numbers as doubles (B, F, D) -> entries in the same units, and codes (B, F)."""
        entries, shift = torch.from_numpy(self.entries).double(), torch.from_numpy(self.shift).long()
        products = _shifted((latents @ entries.T).long(), self.coarsest - shift)
        chosen = (torch.from_numpy(self.halves).long() - products).argmin(-1)
        return (entries * 2.0 ** shift[:, None])[chosen], chosen


@dataclass(frozen=True)
class IntegerModel:
    """A codec's encoder and quantizer in integers."""

    config: CodecConfig
    fingerprint: bytes
    """Of the codec that its codes are for."""
    layers: tuple[IntegerLayer, ...]
    books: tuple[IntegerBook, ...]

    def latents(self, samples: Tensor) -> Tensor:
        """16-bit samples (B, 1, T) -> whole numbers (B, D, F); silence follows up to a whole frame."""
        padded = F.pad(samples.double(), (0, -samples.shape[-1] % self.config.hop))
        return _through(self.layers, padded, lambda layer, x, skip: layer(x, skip))[-1]

    def codes(self, audio: Tensor, layers: int | None = None) -> Tensor:
        """Audio (B, 1, T) from -1 to 1 -> codes (B, N, F) of the first `layers` if not of all, as of a NeuralCodec."""
        residual, codes = self.latents(recorded(audio)).transpose(1, 2), []
        limit = self.layers[-1].limit
        for book in self.books[:layers]:
            entries, chosen = book.nearest(residual)
            residual = (residual - entries).clamp(-limit, limit)
            codes.append(chosen)
        return torch.stack(codes, 1)


def recorded(audio: Tensor) -> Tensor:
    """Audio from -1 to 1 as 16-bit samples, int16."""
    return (audio * 2**_AUDIO).round().clamp(-32768, 32767).to(torch.int16)


def _shifted(values: Tensor, shift: Tensor) -> Tensor:
    """values / 2**shift, rounded half up."""
    return values + (1 << shift >> 1) >> shift


_L = TypeVar("_L", Layer, IntegerLayer)


def _through(layers: Sequence[_L], x: Tensor, compute: Callable[[_L, Tensor, Tensor | None], Tensor]) -> list[Tensor]:
    """What goes into each layer, and what comes out of the last."""
    values = [x]
    for layer in layers:
        skip = layer.skip if isinstance(layer, Layer) else layer.real.skip
        values.append(compute(layer, values[-1], None if skip is None else values[skip]))
    return values


# --- quantisation --------------------------------------------------------------------------------------------


@torch.inference_mode()
def quantise(model: NeuralCodec, sounds: Iterable[Tensor], bits: int = 16) -> IntegerModel:
    """`model` in integers; `sounds`, audio (B, 1, T) of any number and length, set the exponents.

    Activations have `bits`. With 8, far fewer codes stay the same; that serves comparisons only.
    """
    layers, books = chain.layers(model), model.quantizer.codebooks.detach().cpu().double().numpy()
    if not all(np.isfinite(part).all() for layer in layers for part in (layer.weight, layer.bias)):
        raise InputError("the model holds weights that are not finite")
    before, after = _observed(layers, sounds)
    exponents = [_weight_exponents(layer) for layer in layers]
    whole = [np.rint(layer.weight * 2.0 ** e[:, None, None]) for layer, e in zip(layers, exponents, strict=True)]
    most = [np.abs(weight).sum((1, 2)).max() for weight in whole[1:]]
    most.append(max(np.abs(_entries(book, _book_exponents(book))).sum(1).max() for book in books))
    tops = [2 ** (bits - 1) - 1] * (len(layers) - 1) + [2**15 - 1]  # the search has 16 bits in any case
    limits = [int(min(top, 2 * _ROOM // max(total, 1))) for top, total in zip(tops, most, strict=True)]
    integer_layers: list[IntegerLayer] = []
    input_exponents = [_AUDIO]  # of each layer's input
    for at, layer in enumerate(layers):
        target = _exponent(after[at], limits[at] / 2 if tops[at] > 127 else limits[at])
        if layer.skip is not None:
            target = min(target, input_exponents[layer.skip])
        if at == len(layers) - 1:
            target = min(target, *map(_book_room, books))
        curved = layer.activation in ("elu", "hardswish")
        first = _exponent(before[at], 2**14) if curved else target
        first = min(first, input_exponents[at] + int(exponents[at].min()))
        target = target if curved else first
        integer_layers.append(_layer(layer, exponents[at], input_exponents, first, target, limits[at]))
        input_exponents.append(target)
    integer_books = tuple(_book(book, input_exponents[-1]) for book in books)
    return IntegerModel(model.config, model.fingerprint(), tuple(integer_layers), integer_books)


def _observed(layers: Sequence[Layer], sounds: Iterable[Tensor]) -> tuple[list[float], list[float]]:
    """The largest values of each layer before and behind its activation and skip."""
    before, after = [0.0] * len(layers), [0.0] * len(layers)
    places = {id(layer): at for at, layer in enumerate(layers)}

    def compute(layer: Layer, x: Tensor, skip: Tensor | None) -> Tensor:
        at, groups = places[id(layer)], x.shape[1] if layer.depthwise else 1
        weight, bias = torch.from_numpy(layer.weight), torch.from_numpy(layer.bias)
        out = F.conv1d(F.pad(x, layer.pads), weight, bias, layer.stride, 0, layer.dilation, groups)
        before[at] = max(before[at], float(out.abs().max()))
        out = _activated(layer, out)
        out = out if skip is None else out + skip
        after[at] = max(after[at], float(out.abs().max()))
        return out

    count = 0
    for sound in sounds:
        _through(layers, sound.float(), compute)
        count += 1
    if not count:
        raise ValueError("quantisation needs at least one sound for its calibration")
    if not all(map(math.isfinite, after)):
        raise InputError("the model's values become infinite; its weights are too large")
    return before, after


def _activated(layer: Layer, x: Tensor) -> Tensor:
    return {"none": lambda x: x, "relu": F.relu, "elu": F.elu, "hardswish": F.hardswish}[layer.activation](x)


def _exponent(largest: float, limit: float) -> int:
    """The most that `largest` can be multiplied with, as a power of two, within `limit`."""
    return math.floor(math.log2(limit / largest)) if largest > 1e-20 else 0


def _weight_exponents(layer: Layer) -> np.ndarray:
    """(O,)"""
    return np.array([_exponent(largest, 127) for largest in np.abs(layer.weight).max((1, 2))])


def _layer(
    layer: Layer, exponents: np.ndarray, input_exponents: Sequence[int], first: int, target: int, limit: int
) -> IntegerLayer:
    """Weights of these exponents, made coarser where biases or shifts would not fit; `first` is before a curve."""
    source = input_exponents[-1]
    room = np.array([_exponent(abs(bias), _ROOM) if bias else 64 for bias in layer.bias])
    exponents = np.minimum(np.minimum(exponents, room - source), first - source + 30)
    weight = np.rint(layer.weight * 2.0 ** exponents[:, None, None]).astype(np.int8)
    bias = np.rint(layer.bias * 2.0 ** (source + exponents)).astype(np.int32)
    shift = (source + exponents - first).astype(np.int8)
    curve = None
    if layer.activation in ("elu", "hardswish"):
        places = torch.arange(-32768, 32769, 256, dtype=torch.float64) / 2.0**first
        curve = (_activated(layer, places) * 2.0**target).round().clamp(-32768, 32767).to(torch.int16).numpy()
    skip_shift = 0 if layer.skip is None else input_exponents[layer.skip] - target
    if shift.min() < 0 or shift.max() > 30 or not 0 <= skip_shift <= 30:
        raise InputError(f"{layer.name}: its weights and biases differ too much in size for integers")
    return IntegerLayer(layer.name, weight, bias, shift, layer, curve, skip_shift, limit)


def _book_exponents(book: np.ndarray) -> np.ndarray:
    """(K,); of an entry without length the largest."""
    exponents = np.array([_exponent(largest, 127) if largest > 1e-20 else 99 for largest in np.abs(book).max(1)])
    return np.where(exponents < 99, exponents, exponents[exponents < 99].max(initial=0))


def _entries(book: np.ndarray, exponents: np.ndarray) -> np.ndarray:
    return np.rint(book * 2.0 ** exponents[:, None])


def _book_room(book: np.ndarray) -> int:
    """The largest exponent of latents with which half the squares of entries fit."""
    exponents = _book_exponents(book)
    halves = (_entries(book, exponents) ** 2).sum(1) / 2
    pairs = [(2 * e - int(exponents.min()), half) for e, half in zip(exponents, halves, strict=True) if half]
    return min((e + _exponent(half, _ROOM) for e, half in pairs), default=99)


def _book(book: np.ndarray, target: int) -> IntegerBook:
    """`target` is the exponent of latents."""
    exponents = np.minimum(_book_exponents(book), target)
    entries = _entries(book, exponents)
    halves = (entries**2).sum(1) * 2.0 ** (target + exponents.min() - 2 * exponents - 1)
    shift = (target - exponents).astype(np.int8)
    return IntegerBook(entries.astype(np.int8), shift, np.floor(halves + 0.5).astype(np.int32))
