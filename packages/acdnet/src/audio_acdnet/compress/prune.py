"""Smaller networks from large ones: weights set to zero, and channels ranked and taken out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .. import cost
from ..config import CONVOLUTIONS, ACDNetConfig
from ..model import ACDNet, convolutions

LEAST = {"conv2": 32}
"""Channels that the authors' pruning leaves at least: below 32 the picture is too flat for five halvings."""


class Channel(NamedTuple):
    """One channel of a convolution and how much it matters, relative to the others of its layer."""

    layer: str
    channel: int
    value: float


# --- weights -----------------------------------------------------------------------------------------------


def weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """What `sparsify` looks at: every weight with more than one axis, so neither normalisations nor biases."""
    named = model.named_parameters()
    return {name: weight for name, weight in named if name.endswith(".weight") and weight.ndim > 1}


@torch.no_grad()
def sparsify(model: nn.Module, sparsity: float) -> int:
    """Keep the int(N * (1 - sparsity)) largest of all N weights, whatever their layer, and set the rest to zero.

    Returns how many were kept. Nothing remembers which: to train a sparse network, call it after every update.
    """
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsity {sparsity}: expected at least 0 and below 1")
    tensors = list(weights(model).values())
    sizes = torch.cat([tensor.abs().flatten() for tensor in tensors])
    kept = int(len(sizes) * (1 - sparsity))
    mask = torch.zeros_like(sizes, dtype=torch.bool)
    mask[sizes.topk(kept, sorted=False).indices] = True
    for tensor, part in zip(tensors, mask.split([tensor.numel() for tensor in tensors]), strict=True):
        tensor.mul_(part.reshape(tensor.shape))
    return kept


def density(model: nn.Module) -> dict[str, int]:
    """How many weights of each tensor are not zero."""
    return {name: int(weight.count_nonzero()) for name, weight in weights(model).items()}


# --- ranking channels --------------------------------------------------------------------------------------


def by_taylor(
    model: ACDNet,
    batches: Iterable[tuple[Tensor, Tensor]],
    loss: Callable[[Tensor, Tensor], Tensor],
    layers: Iterable[str] = CONVOLUTIONS,
) -> list[Channel]:
    """Channels by how much the loss would change without them, to first order, least first.

    That is |sum over batches of mean(output of the convolution * its gradient)|, the mean over items and places.
    `batches` are (audio, targets), `loss` takes (logits, targets). The model stays in the mode it is in, and its
    gradients are left as they were.
    """
    chosen = {name: part for name, part in convolutions(model).items() if name in set(layers)}
    sums: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        return lambda _, __, out: outputs.__setitem__(name, out)

    hooks = [part.register_forward_hook(keep(name)) for name, part in chosen.items()]
    try:
        for audio, targets in batches:
            with torch.enable_grad():
                value = loss(model(audio), targets)
            gradients = torch.autograd.grad(value, [outputs[name] for name in chosen])
            for name, gradient in zip(chosen, gradients, strict=True):
                product = outputs[name].detach() * gradient  # (B, C, T) or (B, C, H, W)
                product = product if product.device.type == "mps" else product.double()  # MPS has no float64
                mean = product.transpose(0, 1).flatten(1).mean(1)
                sums[name] = sums.get(name, 0) + mean
    finally:
        for hook in hooks:
            hook.remove()
    if not sums:
        raise ValueError("ranking needs at least one batch")
    return ranked({name: value.abs() for name, value in sums.items()})


def ranked(values: Mapping[str, Tensor]) -> list[Channel]:
    """Channels by their values, those of each layer (channels,) over their L2 norm, least first.

    Ties stand in the order of layers, then of channels.
    """
    rows = []
    for name in CONVOLUTIONS:
        if name in values:
            norm = values[name].norm()
            shares = values[name] / norm if norm > 0 else values[name]  # a dead layer is all zeros, not NaN
            rows += [Channel(name, channel, value) for channel, value in enumerate(shares.tolist())]
    return sorted(rows, key=lambda row: row.value)  # stable


def first_allowed(ranking: Sequence[Channel], config: ACDNetConfig, least: Mapping[str, int] = LEAST) -> Channel | None:
    """The first channel of the ranking whose layer keeps as many as it must; every layer keeps one."""
    counts = dict(zip(CONVOLUTIONS, config.channels, strict=True))
    for row in ranking:
        if counts[row.layer] > least.get(row.layer, 1):
            return row
    return None


def superfluous(
    ranking: Sequence[Channel], config: ACDNetConfig, parameters: int, least: Mapping[str, int] = LEAST
) -> list[tuple[str, int]]:
    """The first channels of the ranking without which the network has at most so many parameters.

    They are as `remove` wants them: the highest number of a layer first, so that none shifts another.
    """
    rest, chosen = list(ranking), []
    while cost.parameters(config) > parameters and (row := first_allowed(rest, config, least)):
        rest.remove(row)
        chosen.append(row)
        counts = zip(CONVOLUTIONS, config.channels, strict=True)
        config = replace(config, channels=tuple(count - (name == row.layer) for name, count in counts))
    return sorted((row[:2] for row in chosen), key=lambda pair: -pair[1])


def smallest(config: ACDNetConfig, least: Mapping[str, int] = LEAST) -> ACDNetConfig:
    """What is left when every channel that may go has gone."""
    channels = zip(CONVOLUTIONS, config.channels, strict=True)
    return replace(config, channels=tuple(min(count, least.get(name, 1)) for name, count in channels))


# --- taking channels out -----------------------------------------------------------------------------------


def remove(model: ACDNet, channels: Iterable[tuple[str, int]]) -> ACDNet:
    """A new model without these channels, taken out one after the other: each shifts the numbers of those behind it.

    The pools are planned anew for the smaller picture.
    """
    kept = {name: list(range(count)) for name, count in zip(CONVOLUTIONS, model.config.channels, strict=True)}
    for layer, channel in channels:
        if layer not in kept or not 0 <= channel < len(kept[layer]) or len(kept[layer]) == 1:
            raise ValueError(f"channel {channel} of {layer} cannot be removed: it has {len(kept.get(layer, []))}")
        del kept[layer][channel]
    smaller = ACDNet(replace(model.config, channels=tuple(len(kept[name]) for name in CONVOLUTIONS)))
    smaller.to(model.output.weight).train(model.training)
    smaller.load_state_dict({name: _without(name, tensor, kept) for name, tensor in model.state_dict().items()})
    return smaller


def _without(name: str, tensor: Tensor, kept: Mapping[str, list[int]]) -> Tensor:
    """The rows and columns of a tensor that belong to kept channels."""
    _, _, owner = name.rpartition(".")[0].rpartition(".")  # conv3, norm3 or output
    if tensor.ndim == 0:
        return tensor  # a count of batches
    if owner == "output":
        return tensor[:, kept["conv12"]] if tensor.ndim == 2 else tensor
    number = int(owner.removeprefix("conv").removeprefix("norm"))
    tensor = tensor[kept[f"conv{number}"]]
    # conv1 takes one channel, and the output of conv2 becomes the height of a picture of one channel.
    return tensor[:, kept[f"conv{number - 1}"]] if tensor.ndim > 1 and number not in (1, 3) else tensor
