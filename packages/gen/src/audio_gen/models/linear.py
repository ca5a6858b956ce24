"""Linear layers that use oneDNN on CPUs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SMALLEST_WEIGHT = 2**20  # each product converts its input, so small ones stay as they are


class Linear(nn.Linear):
    """As PyTorch's. Large products of inference on a CPU go through oneDNN, in place of MKL."""

    def forward(self, x: Tensor) -> Tensor:
        if not self._suits_onednn(x):
            return super().forward(x)
        return F.linear(x.to_mkldnn(), self.weight, self.bias).to_dense()

    def _suits_onednn(self, x: Tensor) -> bool:
        return (
            x.device.type == "cpu"
            and x.dtype == self.weight.dtype == torch.float32
            and self.in_features * self.out_features >= _SMALLEST_WEIGHT
            and torch.backends.mkldnn.is_available()
            and not (torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"))
            and not (torch.compiler.is_compiling() or torch.jit.is_tracing())
        )
