"""A codec's encoder as a plain list of convolutions, from which C code and integers are written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from audio_core.nn.conv import Conv1d
from audio_core.nn.residual import Residual
from audio_core.nn.stream import Sequential
from torch import nn

from ..model import NeuralCodec

Activation = Literal["none", "relu", "elu", "hardswish"]
_ACTIVATIONS: dict[type[nn.Module], Activation] = {nn.ReLU: "relu", nn.ELU: "elu", nn.Hardswish: "hardswish"}


@dataclass(frozen=True)
class Layer:
    """A convolution, its activation, and the sum with an earlier layer's input."""

    name: str
    weight: np.ndarray
    """float32 (O, I, kernel); I is 1 in a depthwise layer."""
    bias: np.ndarray
    """float32 (O,)."""
    stride: int
    dilation: int
    pads: tuple[int, int]
    depthwise: bool
    """Each output has one input."""
    activation: Activation = "none"
    skip: int | None = None
    """The layer whose input is added, by its place in the list."""

    @property
    def inputs(self) -> int:
        return self.weight.shape[0 if self.depthwise else 1]

    @property
    def outputs(self) -> int:
        return self.weight.shape[0]

    @property
    def kernel(self) -> int:
        return self.weight.shape[2]

    @property
    def span(self) -> int:
        return (self.kernel - 1) * self.dilation + 1


def layers(model: NeuralCodec) -> list[Layer]:
    """From the audio to the latents."""
    chain: list[Layer] = []
    for name, part, inside in _walk(model.encoder, ""):
        if isinstance(part, Conv1d):
            chain.append(_layer(name, part))
        elif isinstance(part, Residual):
            chain[-1] = replace(chain[-1], skip=len(chain) - inside)
        elif type(part) in _ACTIVATIONS and chain and chain[-1].activation == "none" and chain[-1].skip is None:
            chain[-1] = replace(chain[-1], activation=_ACTIVATIONS[type(part)])
        else:
            raise ValueError(f"{name}: no code is made for {part}")
    return chain


def _walk(sequence: Sequential, prefix: str) -> Iterator[tuple[str, nn.Module, int]]:
    """Layers in their order; a Residual comes behind its layers, with how many convolutions it holds."""
    for name, part in sequence.named_children():
        if isinstance(part, Residual):
            yield from _walk(part.layers, f"{prefix}{name}.")
            yield f"{prefix}{name}", part, sum(isinstance(layer, Conv1d) for layer in part.layers.modules())
        elif isinstance(part, Sequential):
            yield from _walk(part, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", part, 0


def _layer(name: str, part: Conv1d) -> Layer:
    weight = part.weight.detach().cpu().float().numpy()
    bias = np.zeros(len(weight), np.float32) if part.bias is None else part.bias.detach().cpu().float().numpy()
    depthwise = part.groups > 1
    if depthwise and not part.groups == part.in_channels == part.out_channels:
        raise ValueError(f"{name}: no code is made for {part.groups} groups of {part.in_channels} inputs")
    return Layer(name, weight, bias, part.step, part.dilation[0], part.pads, depthwise)


def lookahead(layers: Sequence[Layer]) -> int:
    """Samples behind the last of a frame without which it is not done."""
    reach, step = 1, 1  # samples from the first of a frame on, and between two rows
    for layer in layers:
        reach += (layer.span - 1 - layer.pads[0]) * step
        step *= layer.stride
    return max(0, reach - step)
