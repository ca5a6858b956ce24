"""The names of tensors in the original programs -> ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..config import (
    AutoencoderConfig,
    DACDecoderConfig,
    DACEncoderConfig,
    FSQConfig,
    LearningEncoderConfig,
    RVQConfig,
    SEANetDecoderConfig,
    SEANetEncoderConfig,
    TAAEDecoderConfig,
    TAAEEncoderConfig,
)

Renaming = tuple[tuple[str, str], ...]  # patterns and what takes their place, in this order

# What is computed and not learnt: filters of anti-aliasing, angles of rotary embeddings, the levels of scalar
# quantizers; and a part of LyraCodec that no audio passes.
CONSTANT = re.compile(
    r".*\.(?:upsample\.filter|downsample\.lowpass\.filter|inv_freq)"
    r"|bottleneck\.quantizer\.(?:_levels|_basis|half_l|implicit_codebook|zero)"
    r"|singer_identity_(?:encoder|projection)\..*"
)
# What may hold integers: constants, and whether a codebook has begun to learn.
INTEGERS = rf"{CONSTANT.pattern}|.*\._codebook\.initted"
# The shift of a layer norm, which stays 0.
SHIFT = re.compile(r".*norm\.beta")

_LYRA: Renaming = (
    (r"^(encoder|decoder)_", r"\1."),
    (r"^distribution_conv\.", "encoder.distribution_conv."),
    (r"\.log_(alpha|beta)$", r".\1"),
)
_DESCRIPT: Renaming = ((r"^(encoder|decoder)\.", r"\1.\1."), (r"^quantizer\.", "bottleneck.quantizer."))
_DAC: Renaming = ((r"^(encoder|decoder)\.\1\.(?:block|model)\.", r"\1.layers."), (r"\.block\.", ".layers."))
_SEANET: Renaming = ((r"\.(conv|convtr)\.\1\.", "."),)
_TAAE: Renaming = ((r"\.ff\.ff\.0\.", ".ff.0."), (r"\.ff\.ff\.2\.", ".ff.1."))
_NETWORKS: dict[type, Renaming] = {
    DACEncoderConfig: _DAC,
    DACDecoderConfig: _DAC,
    SEANetEncoderConfig: _SEANET,
    SEANetDecoderConfig: _SEANET,
    TAAEEncoderConfig: _TAAE,
    TAAEDecoderConfig: _TAAE,
    FSQConfig: ((r"^bottleneck\.quantizer\.", "bottleneck."),),
}


def our_name(name: str, program: str, config: AutoencoderConfig | LearningEncoderConfig) -> str:
    """Our name for a tensor of a program, whose autoencoder has this configuration."""
    if program == "LyraCodec":
        return renamed(name, _LYRA)
    if program == "diffusers":
        return _of_diffusers(name, len(config.encoder.strides))  # type: ignore[union-attr]
    if program == "descript-audio-codec":
        name = renamed(name, _DESCRIPT)
    part = getattr(config, name.partition(".")[0], None)
    return renamed(name, _NETWORKS.get(type(part), ()))


def renamed(name: str, renaming: Renaming) -> str:
    for pattern, text in renaming:
        name = re.sub(pattern, text, name)
    return name


_LAYERS = {"snake1": 0, "conv1": 1, "snake2": 2, "conv2": 3}  # of a residual unit
_BLOCKS = {
    "encoder": {"res_unit1": 0, "res_unit2": 1, "res_unit3": 2, "snake1": 3, "conv1": 4},
    "decoder": {"snake1": 0, "conv_t1": 1, "res_unit1": 2, "res_unit2": 3, "res_unit3": 4},
}


def _of_diffusers(name: str, blocks: int) -> str:
    """diffusers gives names to what stable-audio-tools numbers."""
    side, *path = name.split(".")
    try:
        if path[0] == "block":
            _, at, part, *leaf = path
            numbers = [int(at) + 1, _BLOCKS[side][part]]
            if part.startswith("res_unit"):
                layer, *leaf = leaf
                numbers.append(_LAYERS[layer])
        else:
            part, *leaf = path
            numbers = [{"conv1": 0, "snake1": blocks + 1, "conv2": blocks + 2}[part]]
    except (KeyError, ValueError, IndexError):
        return name  # which no model has
    return ".".join([side, *(f"layers.{number}" for number in numbers), *leaf])


# --- numbers in another form -------------------------------------------------------------------------------

_BOOK = re.compile(r"bottleneck\.quantizer\.layers\.(\d+)\._codebook\.(embed|embed_avg|cluster_size|initted)")
_BUFFERS = {"embed": "codebooks", "embed_avg": "sums", "cluster_size": "counts", "initted": "started"}


def joined(state: Mapping[str, Tensor], bottleneck: Any) -> dict[str, Tensor]:
    """The codebooks of a quantizer in one tensor, where the original has one for each layer."""
    if not isinstance(bottleneck, RVQConfig):
        return {**state}
    books: dict[str, dict[int, Tensor]] = {}
    joined_state = {}
    for name, tensor in state.items():
        match = _BOOK.fullmatch(name)
        if match:
            books.setdefault(match[2], {})[int(match[1])] = tensor
        else:
            joined_state[name] = tensor
    for kind, layers in books.items():
        parts = [layers[at].reshape(layers[at].shape[1:]) for at in range(len(layers))]  # of one head each
        stacked = torch.stack(parts)
        joined_state[f"bottleneck.quantizer.{_BUFFERS[kind]}"] = stacked.bool() if kind == "initted" else stacked
    return joined_state
