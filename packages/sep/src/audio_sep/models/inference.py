"""The form of a model for inference: fewer layers, in the memory format and the precision that processors prefer."""

from __future__ import annotations

import copy

import torch
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


def for_inference(model: SpectrogramSeparator, precision: torch.dtype = torch.float32) -> SpectrogramSeparator:
    """A copy that computes the same with less work, and that can be neither trained nor saved.

    With `precision=torch.bfloat16` the network between spectrograms and masks computes in bfloat16, which is faster
    where the processor has instructions for it.
    """
    shared = {id(values): values for values in (*model.parameters(), *model.buffers())}
    model = copy.deepcopy(model, shared).eval()  # tensors are not copied, as most are replaced below
    for block in [*model.body.modules()]:
        for conv, norm in _FOLDED.get(type(block), ()):
            fused = fuse_conv_bn_eval(
                block.get_submodule(conv),
                block.get_submodule(norm),
                isinstance(block.get_submodule(conv), nn.ConvTranspose2d),
            )
            block.set_submodule(conv, fused)
            block.set_submodule(norm, nn.Identity())
    for layer in model.body.modules():
        for name, values in [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]:
            setattr(layer, name, _replaced(values, precision))
    model.precision = precision
    return model


def _replaced(values: Tensor, precision: torch.dtype) -> Tensor:
    """A copy in channels_last, where there are so many axes."""
    if not values.is_floating_point():
        return values
    memory = torch.channels_last if values.ndim == 4 else torch.preserve_format
    converted = values.detach().to(precision, memory_format=memory)
    return nn.Parameter(converted, False) if isinstance(values, nn.Parameter) else converted
