"""The network: ACDNet and Micro-ACDNet, raw audio to logits, in one class; the configuration makes the difference."""

from __future__ import annotations

import copy
from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor, nn

from . import PACKAGE
from .config import FIRST_KERNELS, POOL_AFTER, ACDNetConfig, accepted, pools


class ACDNet(nn.Module):
    """Twelve convolutions, each with batch normalisation and ReLU, and a linear layer.

    `hearing` is the paper's spectral feature extraction block (SFEB): two convolutions along time and a max-pool, which
    give a column of filters every 10 ms. `seeing` is its temporal feature extraction block (TFEB): ten convolutions on
    these columns as a picture. Modules are numbered as in the paper, conv1 to conv12, with norm and relu alike.
    """

    Config = ACDNetConfig

    def __init__(self, config: ACDNetConfig):
        super().__init__()
        self.config = config
        self.accepted = accepted(config)
        self.hearing = _hearing(config)
        self.seeing = _seeing(config)
        self.output = nn.Linear(config.channels[-1], len(config.labels))
        initialise(self)

    def forward(self, audio: Tensor) -> Tensor:
        """Audio (B, 1, T) at the model's rate, within -1 to 1, to logits (B, classes)."""
        self.check(audio)
        picture = self.hearing(audio)[:, None]  # (B, c2, frames) -> (B, 1, c2, frames)
        return self.output(self.seeing(picture).flatten(1))  # (B, c12, 1, 1) -> (B, classes)

    def probabilities(self, audio: Tensor) -> Tensor:
        """Audio (B, 1, T) to probabilities (B, classes)."""
        return self(audio).softmax(-1)

    def check(self, audio: Tensor) -> None:
        """A ValueError that names what is wrong with the shape of `audio`."""
        shortest, longest = self.accepted
        if audio.ndim != 3 or audio.shape[1] != 1:
            raise ValueError(f"expected audio of shape (B, 1, T), got {tuple(audio.shape)}")
        if audio.shape[2] < shortest or (longest is not None and audio.shape[2] > longest):
            allowed = f"{shortest} to {longest}" if longest else f"{shortest} or more"
            raise ValueError(
                f"{audio.shape[2]} samples; a model made for {self.config.samples} takes {allowed}: cut crops"
            )


def _hearing(config: ACDNetConfig) -> nn.Sequential:
    """SFEB: (B, 1, T) -> (B, c2, frames)."""
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    wide = 1
    for at, (kernel, stride) in enumerate(FIRST_KERNELS, 1):
        out = config.channels[at - 1]
        parts[f"conv{at}"] = nn.Conv1d(wide, out, kernel, stride, bias=False)
        parts[f"norm{at}"] = nn.BatchNorm1d(out, config.eps)
        parts[f"relu{at}"] = nn.ReLU()
        wide = out
    parts["pool"] = nn.MaxPool1d(pools(config).first)
    return nn.Sequential(parts)


def _seeing(config: ACDNetConfig) -> nn.Sequential:
    """TFEB: (B, 1, c2, frames) -> (B, c12, 1, 1). A pool of a single point is left out."""
    plan = pools(config)
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    wide = 1
    for at, out in enumerate(config.channels[2:], 3):
        if at == 12:
            parts["dropout"] = nn.Dropout(0.2)
        kernel, padding = (1, 0) if at == 12 else (3, 1)
        parts[f"conv{at}"] = nn.Conv2d(wide, out, kernel, padding=padding, bias=False)
        parts[f"norm{at}"] = nn.BatchNorm2d(out, config.eps)
        parts[f"relu{at}"] = nn.ReLU()
        pool = POOL_AFTER.get(f"conv{at}")
        if pool and plan.maxima[int(pool[-1]) - 1] != (1, 1):
            parts[pool] = nn.MaxPool2d(plan.maxima[int(pool[-1]) - 1])
        wide = out
    if plan.average is None:
        parts["average"] = nn.AdaptiveAvgPool2d(1)
    elif plan.average != (1, 1):
        parts["average"] = nn.AvgPool2d(plan.average)
    return nn.Sequential(parts)


def convolutions(model: nn.Module) -> dict[str, nn.Conv1d | nn.Conv2d]:
    """conv1 to conv12 by their names."""
    parts = {name.rpartition(".")[2]: part for name, part in model.named_modules()}
    return {name: part for name, part in parts.items() if isinstance(part, nn.Conv1d | nn.Conv2d)}


@torch.no_grad()
def initialise(model: ACDNet) -> None:
    """Fresh weights for training from nothing, drawn from torch's generator.

    Convolutions are normal with deviation sqrt(2 / inputs), the output layer with sqrt(1 / inputs); its bias is uniform
    within +-sqrt(1 / inputs). Normalisations start as the identity.
    """
    for convolution in convolutions(model).values():
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
    nn.init.kaiming_normal_(model.output.weight, nonlinearity="sigmoid")
    limit = model.output.in_features**-0.5
    nn.init.uniform_(model.output.bias, -limit, limit)


def load(path: str | Path = "default", device: str = "cpu") -> ACDNet:
    """The model of a bundle, a folder or a Hub id, or one that comes with the package: `default` or `quiet`."""
    model = PACKAGE.load(path, [ACDNet], device)
    assert isinstance(model, ACDNet)
    return model


# --- inference ---------------------------------------------------------------------------------------------


def clip_probabilities(model: nn.Module, crops: Tensor) -> Tensor:
    """Mean of the probabilities of a clip's crops: (B, crops, T) -> (B, K)."""
    logits = model(crops.flatten(0, 1)[:, None])
    return logits.softmax(-1).unflatten(0, crops.shape[:2]).mean(1)


class Folded(nn.Module):
    """An ACDNet for inference alone: the normalisations are inside the convolutions, each ReLU comes after its pool.

    Equal to the model it comes from up to rounding, and faster. It cannot be trained or saved as a bundle.
    """

    def __init__(self, model: ACDNet, pairwise: bool):
        super().__init__()
        self.config, self.check = model.config, model.check
        self.hearing = _folded(model.hearing, pairwise)
        self.seeing = _folded(model.seeing, pairwise)
        self.output = copy.deepcopy(model.output)
        self.eval().requires_grad_(False)

    def forward(self, audio: Tensor) -> Tensor:
        """As of ACDNet."""
        self.check(audio)
        return self.output(self.seeing(self.hearing(audio)[:, None]).flatten(1))

    def probabilities(self, audio: Tensor) -> Tensor:
        """As of ACDNet."""
        return self(audio).softmax(-1)


class PairwiseMax(nn.Module):
    """A max-pool of kernel 2 or 1 along height and width, (B, C, H, W): on a CPU quicker than PyTorch's own."""

    def __init__(self, kernel: tuple[int, int]):
        super().__init__()
        self.kernel = kernel

    def forward(self, x: Tensor) -> Tensor:
        for axis, size in zip((2, 3), self.kernel, strict=True):
            if size == 2:
                pairs = x.narrow(axis, 0, x.shape[axis] // 2 * 2).unflatten(axis, (-1, 2))
                x = torch.maximum(pairs.select(axis + 1, 0), pairs.select(axis + 1, 1))
        return x


def folded(model: ACDNet, pairwise: bool = True) -> Folded:
    """`model` as it is in evaluation, for inference; later changes of `model` do not reach it.

    Without `pairwise` its pools are PyTorch's, which exporters know.
    """
    return Folded(model, pairwise)


def _folded(block: nn.Sequential, pairwise: bool) -> nn.Sequential:
    """Convolutions with the normalisation inside, pools, and ReLU where it has least to do.

    The greatest value of ReLU is ReLU of the greatest value, so max-pools go first: exactly equal, and cheaper.
    """
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    named = dict(block.named_children())
    for name, part in named.items():
        if isinstance(part, nn.Conv1d | nn.Conv2d):
            parts[name] = fold(part, named[name.replace("conv", "norm")])
        elif isinstance(part, nn.MaxPool1d | nn.MaxPool2d):
            relu, after = parts.popitem()
            parts[name] = PairwiseMax(part.kernel_size) if pairwise and isinstance(part, nn.MaxPool2d) else part
            parts[relu] = after
        elif isinstance(part, nn.ReLU):
            parts[name] = nn.ReLU(inplace=True)
        elif isinstance(part, nn.AvgPool2d | nn.AdaptiveAvgPool2d):
            parts[name] = part
    return nn.Sequential(parts)


@torch.no_grad()
def fold(convolution: nn.Conv1d | nn.Conv2d, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> nn.Conv1d | nn.Conv2d:
    """A convolution with bias that does what `convolution` and then `norm`, in evaluation, do."""
    scale = norm.weight.double() * (norm.running_var.double() + norm.eps).rsqrt()
    weight = convolution.weight.double() * scale.reshape(-1, *[1] * (convolution.weight.ndim - 1))
    bias = norm.bias.double() - norm.running_mean.double() * scale
    folded = copy.deepcopy(convolution)
    folded.weight = nn.Parameter(weight.to(convolution.weight.dtype))
    folded.bias = nn.Parameter(bias.to(convolution.weight.dtype))
    return folded
