"""Receptive fields, from what each layer states of its own."""

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from torch import nn


def reach(chain: nn.Module) -> tuple[Fraction, Fraction] | None:
    """Inputs before and after its own that an output of the chain depends on, or None for all of them.

    A layer that depends on neighbours states them as `history` and `delay`, and its outputs per input as `ratio`, as
    the layers of `audio_core.nn.conv` do. All other modules must be chains of layers, or depend on no neighbours.
    """
    history, delay, ratio = Fraction(0), Fraction(0), Fraction(1)
    for layer in _layers(chain):
        if layer.history is None:
            return None
        history += layer.history / ratio
        delay += layer.delay / ratio
        ratio *= getattr(layer, "ratio", 1)
    return history, delay


def _layers(module: nn.Module) -> Iterator[Any]:
    if hasattr(module, "history"):
        yield module
    else:
        for child in module.children():
            yield from _layers(child)


def encoder_field(chain: nn.Module, ratio: int) -> int | None:
    """Samples to either side, beyond the `ratio` samples of its frame, that a latent depends on."""
    sides = reach(chain)
    return None if sides is None else max(0, math.ceil(sides[0]), math.ceil(sides[1]) - ratio + 1)


def decoder_field(chain: nn.Module, ratio: int) -> int | None:
    """Latents to either side of a frame that its samples depend on."""
    sides = reach(chain)
    return None if sides is None else max(0, math.floor(sides[0]), math.floor(sides[1] + Fraction(ratio - 1, ratio)))
