"""The form of a model for inference: fewer layers, and convolutions in the way that this machine computes fastest."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .blocks import NormedConv, ResidualBlock, SeparableChain
from .separator import SpectrogramSeparator

# Norms that directly follow a convolution, which takes their factors into its weights. All others act on sums.
_FOLDED = {
    NormedConv: [("conv", "norm")],
    ResidualBlock: [("conv1", "norm2")],
    SeparableChain: [("convs.0", "norms.1"), ("convs.1", "norms.2")],
}
_FEWEST_CHANNELS = 32  # for Winograd's algorithm to be faster
_FEWEST_BINS = 16
_MOST_THREADS = 2


def folded(model: SpectrogramSeparator) -> SpectrogramSeparator:
    """A copy that computes the same with fewer layers, and that can be neither trained nor saved."""
    shared = {id(values): values for values in (*model.parameters(), *model.buffers())}
    model = copy.deepcopy(model, shared).eval()  # with the same tensors, as most are replaced below
    for block in [*model.body.modules()]:
        for conv, norm in _FOLDED.get(type(block), ()):
            layer, transposed = block.get_submodule(conv), isinstance(block.get_submodule(conv), nn.ConvTranspose2d)
            block.set_submodule(conv, fuse_conv_bn_eval(layer, block.get_submodule(norm), transposed))
            block.set_submodule(norm, nn.Identity())
    return model


def for_inference(model: SpectrogramSeparator, precision: torch.dtype = torch.float32) -> SpectrogramSeparator:
    """A folded copy for this machine and its present number of threads.

    With `precision=torch.bfloat16` the network between spectrograms and masks computes in bfloat16, which is faster
    where the processor has instructions for it.
    """
    model = folded(model)
    on_cpu = model.planes.weight.device.type == "cpu"
    names = [name for name, layer in model.body.named_modules() if _suits_winograd(layer)]
    memory = torch.channels_last
    if names and on_cpu and precision == torch.float32 and _has_winograd():
        memory = torch.contiguous_format
        for name in names:
            model.body.set_submodule(name, WinogradConv(model.body.get_submodule(name)))
    for layer in model.body.modules():
        for name, values in [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]:
            setattr(layer, name, _replaced(values, precision, memory))
    model.precision = precision
    return model


class WinogradConv(nn.Module):
    """A 3 x 3 convolution by Winograd's algorithm, which needs a fifth of the multiplications.

    Its errors are ten times those of others, about 1e-5 of the largest output. On one thread it takes 40 % of the
    time for 128 channels; more threads do not help it.
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] < _FEWEST_BINS:  # it computes tiles of 6 x 6
            return F.conv2d(x, self.weight, self.bias, padding=1)
        return torch._nnpack_spatial_convolution(x.contiguous(), self.weight, self.bias, padding=1)


def _suits_winograd(layer: nn.Module) -> bool:
    if not isinstance(layer, nn.Conv2d) or layer.kernel_size != (3, 3) or layer.groups > 1:
        return False
    return min(layer.in_channels, layer.out_channels) >= _FEWEST_CHANNELS


def _has_winograd() -> bool:
    """Whether PyTorch has NNPACK here, and so few threads that it is the fastest."""
    available = getattr(torch, "_nnpack_available", None)
    return torch.get_num_threads() <= _MOST_THREADS and available is not None and available()


def _replaced(values: Tensor, precision: torch.dtype, memory: torch.memory_format) -> Tensor:
    if not values.is_floating_point():
        return values
    converted = values.detach().to(precision, memory_format=memory if values.ndim == 4 else torch.preserve_format)
    return nn.Parameter(converted, False) if isinstance(values, nn.Parameter) else converted
