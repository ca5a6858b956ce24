"""Checkpoints of the original program -> our models, and back to its names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

_MIXER = {  # the leaves of one direction of a Mamba block
    "norm": "norm.weight",
    "A_log": "mixer.A_log",
    "D": "mixer.D",
    "conv_weight": "mixer.conv1d.weight",
    "conv_bias": "mixer.conv1d.bias",
    **{f"{layer}.weight": f"mixer.{layer}.weight" for layer in ("in_proj", "x_proj", "dt_proj", "out_proj")},
    "dt_proj.bias": "mixer.dt_proj.bias",
}
_UNIT = {"conv.weight": "0.weight", "conv.bias": "0.bias", "norm.weight": "1.weight", "norm.bias": "1.bias"}
_UNIT |= {"prelu.weight": "2.weight"}


def names(blocks: int) -> dict[str, list[str]]:
    """Each name in the state of our model -> the original's names of the same numbers.

    They are several where the original has two layers in place of one.
    """
    pairs = dict(_dense("encoder", "dense_encoder"))
    for ours, theirs in (("first", "dense_conv_1"), ("down", "dense_conv_2")):
        pairs |= {f"encoder.{ours}.{leaf}": f"dense_encoder.{theirs}.{name}" for leaf, name in _UNIT.items()}
    for at in range(blocks):
        pairs |= _block(f"blocks.{at}", f"TSMamba.{at}")
    pairs |= _dense("magnitude_decoder", "mask_decoder")
    for at, layer in enumerate(("up", "mix.conv", "mix.norm", "mix.prelu", "last")):
        leaves = ("weight",) if layer == "mix.prelu" else ("weight", "bias")
        pairs |= {f"magnitude_decoder.{layer}.{leaf}": f"mask_decoder.mask_conv.{at}.{leaf}" for leaf in leaves}
    pairs["magnitude_decoder.slope"] = "mask_decoder.lsigmoid.slope"
    pairs |= _dense("phase_decoder", "phase_decoder")
    pairs |= {f"phase_decoder.up.{leaf}": f"phase_decoder.phase_conv.{name}" for leaf, name in _UNIT.items()}
    several = {ours: [theirs] for ours, theirs in pairs.items()}
    for leaf in ("weight", "bias"):
        several[f"phase_decoder.last.{leaf}"] = [f"phase_decoder.phase_conv_{part}.{leaf}" for part in "ri"]
    return several


def _dense(ours: str, theirs: str) -> dict[str, str]:
    layers = [(f"{ours}.dense.units.{at}", f"{theirs}.dense_block.dense_block.{at}") for at in range(4)]
    return {f"{unit}.{leaf}": f"{layer}.{name}" for unit, layer in layers for leaf, name in _UNIT.items()}


def _block(ours: str, theirs: str) -> dict[str, str]:
    pairs = {}
    for axis, mamba, linear in (("time", "time_mamba", "tlinear"), ("frequency", "freq_mamba", "flinear")):
        for at, direction in enumerate(("forward_blocks", "backward_blocks")):
            layers = f"{ours}.{axis}.mixers.{at}", f"{theirs}.{mamba}.{direction}.0"
            pairs |= {f"{layers[0]}.{leaf}": f"{layers[1]}.{name}" for leaf, name in _MIXER.items()}
        pairs |= {f"{ours}.{axis}.project.{leaf}": f"{theirs}.{linear}.{leaf}" for leaf in ("weight", "bias")}
    return pairs


def renamed(state: Mapping[str, Tensor], pairs: Mapping[str, list[str]]) -> Iterator[tuple[str, Tensor]]:
    """The original's tensors under our names, in our layout."""
    for ours, theirs in pairs.items():
        tensor = torch.cat([state[name] for name in theirs])
        if ours.endswith(".project.weight"):  # of a transposed convolution over one step, (in, out, 1)
            tensor = tensor[..., 0].T
        if ours.endswith((".conv_weight", ".slope")):  # (inner, 1, taps) and (bins, 1)
            tensor = tensor.squeeze(1)
        yield ours, tensor


def discriminator_names() -> dict[str, list[str]]:
    """The same for the discriminator, with the vectors of the spectral norm."""
    normed = {"original": "weight_orig", "0.u": "weight_u", "0.v": "weight_v"}
    pairs = {"slope": "layers.18.slope", "prelu.weight": "layers.16.weight"}
    for at in range(4):
        pairs |= {f"convs.{at}.1.{leaf}": f"layers.{3 * at + 1}.{leaf}" for leaf in ("weight", "bias")}
        pairs[f"convs.{at}.2.weight"] = f"layers.{3 * at + 2}.weight"
    layers = {**{f"convs.{at}.0": 3 * at for at in range(4)}, "hidden": 14, "last": 17}
    for ours, theirs in layers.items():
        pairs |= {f"{ours}.parametrizations.weight.{leaf}": f"layers.{theirs}.{name}" for leaf, name in normed.items()}
    pairs |= {f"{ours}.bias": f"layers.{layers[ours]}.bias" for ours in ("hidden", "last")}
    return {ours: [theirs] for ours, theirs in pairs.items()}
