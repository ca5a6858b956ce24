"""LoRA and DoRA on the linear layers of a model.

An adapted layer stays what it is, with its parameters under their names. Its child `adapters` holds what is added, and
a hook adds it to the layer's output: `down` (R, I), `up` (O, R) and with DoRA `magnitude` (O,) of each adapter.
Several adapters of one layer each change the weight W that it came with, so their order does not matter:

    W + Σ strength · change       LoRA: change = scale · up · down
                                  DoRA: change = magnitude · V / |V| - W with V = W + scale · up · down, by rows

A row is what makes one output, as in the code of DoRA's authors. A row of zeros has no direction and stays zero.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from fnmatch import fnmatchcase
from typing import Any

import torch
import torch.nn.functional as F
from audio_core.files import InputError
from audio_core.weights import shortened
from torch import Tensor, nn

from ..config.adapters import ATTENTION_AND_FEED_FORWARD, AdapterConfig


class Factors(nn.Module):
    """What one adapter adds to one layer."""

    def __init__(self, name: str, config: AdapterConfig, tensors: Mapping[str, Tensor], strength: float = 1.0):
        super().__init__()
        self.name, self.config, self.strength = name, config, strength
        self.down, self.up = nn.Parameter(tensors["down"]), nn.Parameter(tensors["up"])
        self.magnitude = nn.Parameter(tensors["magnitude"]) if config.method == "dora" else None
        self._kept: tuple[Any, Tensor] | None = None

    def forward(self, layer: nn.Linear, x: Tensor, y: Tensor) -> Tensor:
        """x (..., I) and the layer's output y (..., O) -> what is added to y."""
        low = F.linear(F.dropout(x, self.config.dropout, self.training), self.down)
        update = F.linear(low * (self.strength * self.config.scale), self.up)
        if self.magnitude is None:
            return update
        gain = self._gain(layer.weight)
        without_bias = y if layer.bias is None else y - layer.bias
        return self.strength * (gain - 1) * without_bias + gain * update

    @torch.no_grad()
    def change(self, weight: Tensor) -> Tensor:
        """What is added to the weight (O, I), in float32 or more."""
        wide = torch.promote_types(weight.dtype, torch.float32)
        update = self.config.scale * self.up.to(wide) @ self.down.to(wide)
        if self.magnitude is not None:
            gain = self._gain(weight)[:, None]
            update = (gain - 1) * weight.to(wide) + gain * update
        return self.strength * update

    def _gain(self, weight: Tensor) -> Tensor:
        """(O,): magnitude / |V|. As the paper proposes, no gradients pass through the length."""
        assert self.magnitude is not None
        return self.magnitude / self._lengths(weight)

    def _lengths(self, weight: Tensor) -> Tensor:
        """(O,). Inference keeps them until a tensor changes: for a single position they cost more than the layer."""
        parts = weight, self.up, self.down
        changes = torch.is_grad_enabled() or self.training or torch.compiler.is_compiling()
        if changes or any(part.is_inference() for part in parts):  # those count no changes
            return lengths(*parts, self.config.scale)
        state = [(part._version, part.data_ptr(), part.dtype) for part in parts]
        if self._kept is None or self._kept[0] != state:
            self._kept = state, lengths(*parts, self.config.scale)
        return self._kept[1]


@torch.no_grad()
def lengths(weight: Tensor, up: Tensor, down: Tensor, scale: float) -> Tensor:
    """The lengths (O,) of the rows of weight + scale · up · down, without that matrix: |w|² + 2 w·u + |u|²."""
    device = weight.device.type
    # The device "meta", on which models are counted, has no autocast.
    with torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else nullcontext():
        wide = torch.promote_types(weight.dtype, torch.float32)
        up, down = scale * up.to(wide), down.to(wide)
        crossed = 2 * F.linear(weight.to(wide), down) + F.linear(up, down @ down.mT)  # (O, R)
        squares = torch.linalg.vector_norm(weight, dim=1, dtype=wide).square() + (up * crossed).sum(1)
        return squares.clamp_min(torch.finfo(wide).tiny).sqrt()


class Adapters(nn.ModuleList):
    """The factors of all adapters of one layer, and the hook that adds what they compute."""

    def __init__(self, layer: nn.Linear):
        super().__init__()
        self.hook = layer.register_forward_hook(_with_updates)


def _with_updates(layer: nn.Linear, args: tuple[Any, ...], y: Tensor) -> Tensor:
    total = y
    for factors in layer.adapters:
        if factors.strength:  # at 0 the output is the layer's own, to the bit
            total = total + factors(layer, args[0], y)
    return total.to(y.dtype)


def attach(model: nn.Module, config: AdapterConfig, name: str = "adapter") -> list[str]:
    """Add a new adapter, which changes no output yet, and make it all that learns. Gives the names of its layers."""
    layers = matching(model, config)
    expect_new(model, name)
    tensors = {at: _initial(layer, config) for at, layer in layers.items()}
    model.requires_grad_(False)
    add(layers, name, config, tensors)
    for factors in factors_of(model, name).values():
        factors.requires_grad_(True)
    return [*layers]


def add(
    layers: Mapping[str, nn.Linear],
    name: str,
    config: AdapterConfig,
    tensors: Mapping[str, Mapping[str, Tensor]],
    strength: float = 1.0,
) -> None:
    """The adapter with these tensors of each layer; it does not learn."""
    for at, layer in layers.items():
        wide = torch.promote_types(layer.weight.dtype, torch.float32)  # a gain of 1 must be 1 in half precision too
        on_layer = {
            key: tensor.to(layer.weight.device, wide if key == "magnitude" else layer.weight.dtype)
            for key, tensor in tensors[at].items()
        }
        factors = Factors(name, config, on_layer, strength).requires_grad_(False).train(layer.training)
        if not hasattr(layer, "adapters"):
            layer.adapters = Adapters(layer)
        layer.adapters.append(factors)


def _initial(layer: nn.Linear, config: AdapterConfig) -> dict[str, Tensor]:
    """An update of zero: `down` as the weights of a new linear layer, `up` zeros."""
    tensors = {name: layer.weight.new_zeros(shape) for name, shape in shapes(layer, config).items()}
    nn.init.kaiming_uniform_(tensors["down"], math.sqrt(5))
    if "magnitude" in tensors:
        tensors["magnitude"] = lengths(layer.weight, tensors["up"], tensors["down"], config.scale)
    return tensors


def shapes(layer: nn.Linear, config: AdapterConfig) -> dict[str, tuple[int, ...]]:
    """Of an adapter's tensors for a layer."""
    sizes: dict[str, tuple[int, ...]] = {
        "down": (config.rank, layer.in_features),
        "up": (layer.out_features, config.rank),
    }
    return sizes | ({"magnitude": (layer.out_features,)} if config.method == "dora" else {})


def matching(model: nn.Module, config: AdapterConfig) -> dict[str, nn.Linear]:
    """The linear layers that the patterns match. Of the usual patterns one is enough, since networks differ."""
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    layers = {name: module for name, module in linear.items() if any(fnmatchcase(name, p) for p in config.layers)}
    usual = config.layers == ATTENTION_AND_FEED_FORWARD and layers
    for pattern in () if usual else config.layers:
        if not any(fnmatchcase(name, pattern) for name in linear):
            of = f"of {type(model).__name__}, which has {_near(pattern, linear)}"
            raise InputError(f"layers: {pattern!r} matches no linear layer {of}")
    return layers


def _near(pattern: str, names: Iterable[str]) -> str:
    """The most similar names, with * for the numbers of blocks."""
    general = {re.sub(r"\d+", "*", name): None for name in names}
    near = difflib.get_close_matches(pattern, general, 3, 0.0)
    return ", ".join(near) or "none"


# --- attached adapters -----------------------------------------------------------------------------------------


def adapted(model: nn.Module) -> dict[str, nn.Linear]:
    """The layers with adapters, by their names."""
    modules = model.named_modules()
    return {name: module for name, module in modules if isinstance(getattr(module, "adapters", None), Adapters)}


def factors_of(model: nn.Module, name: str) -> dict[str, Factors]:
    """Of one adapter, by the names of the layers that it changes."""
    every = ((at, factors) for at, layer in adapted(model).items() for factors in layer.adapters)
    return {at: factors for at, factors in every if factors.name == name}


def adapter_names(model: nn.Module) -> list[str]:
    """Of the attached adapters."""
    return [*{factors.name: None for layer in adapted(model).values() for factors in layer.adapters}]


def expect_new(model: nn.Module, name: str) -> None:
    if name in adapter_names(model):
        raise InputError(f"adapter {name!r}: the model has one of this name; choose another name")


def expect_adapter(model: nn.Module, name: str) -> None:
    names = adapter_names(model)
    if name not in names:
        known = f"attached: {shortened(names)}" if names else "none is attached"
        raise InputError(f"adapter {name!r}: the model has no such adapter ({known})")


def expect_strength(value: float) -> None:
    if not math.isfinite(value):
        raise InputError(f"strength: expected a number, got {value}")


def set_strength(model: nn.Module, name: str, value: float) -> None:
    """How much of an adapter's change counts: 0 nothing, 1 all of it. Others exaggerate it, or turn it around."""
    expect_adapter(model, name)
    expect_strength(value)
    for factors in factors_of(model, name).values():
        factors.strength = value


@torch.no_grad()
def merge(model: nn.Module) -> None:
    """Fold all adapters into the weights, at their strengths. The model is a plain one afterwards, and still frozen."""
    layers = adapted(model).values()
    if not layers:
        raise InputError("merge: the model has no adapter")
    for layer in layers:
        weight = layer.weight.detach()
        changes = [factors.change(weight) for factors in layer.adapters if factors.strength]
        layer.adapters.hook.remove()
        del layer.adapters
        if changes:
            layer.weight.copy_(weight + sum(changes))
