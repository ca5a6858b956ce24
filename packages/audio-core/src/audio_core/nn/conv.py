"""Convolutions over time with explicit padding, which can also process a stream piece by piece.

The outputs of `stream` join to exactly the output of `forward`, padding of both ends included, for pieces of any
length. The layer itself keeps no state: `stream` takes a state and returns the next one.

    state = layer.start(batch=1)
    for chunk in chunks:
        out, state = layer.stream(chunk, state)          # as many samples as are final by now, perhaps none
    out, state = layer.stream(chunk, state, last=True)   # the end of the signal: all remaining samples
"""

from fractions import Fraction
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm as add_weight_norm

Padding = Literal["same", "causal"] | int | tuple[int, int]


class State(NamedTuple):
    """What a layer keeps between two pieces of a stream."""

    tail: Tensor  # (B, C, n): inputs still needed; in a transposed layer outputs that are not final, without bias
    skip: int  # samples still to drop: inputs where the stride exceeds the kernel; in a transposed layer left outputs


def split_padding(padding: Padding, total: int) -> tuple[int, int]:
    """Samples (left, right): "same" splits `total` with the odd one right, "causal" has it all left."""
    if padding == "same":
        return max(total, 0) // 2, total - max(total, 0) // 2
    if padding == "causal":
        return total, 0
    if isinstance(padding, str):
        raise ValueError(f'padding is "same", "causal", a number or (left, right), got {padding!r}')
    left, right = (padding, padding) if isinstance(padding, int) else padding
    if left < 0 or right < 0:
        raise ValueError(f"padding is not negative, got {(left, right)}")
    return left, right


class Conv1d(nn.Conv1d):
    """(B, C, T) -> (B, C', (T + left + right - span) // stride + 1), span = (kernel - 1) * dilation + 1.

    "same" and "causal" pad span - 1 zeros, so T becomes ceil(T / stride).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        dilation: int = 1,
        padding: Padding = "same",
        groups: int = 1,
        bias: bool = True,
        weight_norm: bool = False,
    ):
        super().__init__(inputs, outputs, kernel, stride, 0, dilation, groups, bias)
        self.span, self.step = (kernel - 1) * dilation + 1, stride
        self.pads = split_padding(padding, self.span - 1)
        if weight_norm:
            add_weight_norm(self)

    @property
    def ratio(self) -> Fraction:
        """Outputs per input."""
        return Fraction(1, self.step)

    @property
    def delay(self) -> Fraction:
        """The look-ahead: inputs after its own that an output waits for; negative where the first outputs need none."""
        return Fraction(self.span - 1 - self.pads[0])

    @property
    def history(self) -> Fraction:
        """Inputs before its own that an output depends on."""
        return Fraction(self.pads[0])

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] + sum(self.pads) < self.span:
            raise ValueError(f"needs at least {self.span - sum(self.pads)} samples, got {x.shape[-1]}: {self}")
        left, right = self.pads
        if left == right:  # the convolution pads without a copy
            return F.conv1d(x, self.weight, self.bias, self.stride, left, self.dilation, self.groups)
        return self._convolve(F.pad(x, self.pads))

    def start(self, batch: int = 1) -> State:
        return State(self.weight.new_zeros(batch, self.in_channels, self.pads[0]), 0)

    def stream(self, chunk: Tensor, state: State, last: bool = False) -> tuple[Tensor, State]:
        line = torch.cat([state.tail, chunk], -1) if state.tail.shape[-1] else chunk
        if last and self.pads[1]:
            line = F.pad(line, (0, self.pads[1]))
        dropped = min(state.skip, line.shape[-1])
        line = line[..., dropped:]
        count = max((line.shape[-1] - self.span) // self.step + 1, 0)
        used = count * self.step
        if count:
            out = self._convolve(line[..., : used - self.step + self.span])
        else:
            out = line.new_zeros(line.shape[0], self.out_channels, 0)
        # A copy, since a view would keep the memory of the whole piece.
        return out, State(line[..., used:].clone(), state.skip - dropped + max(used - line.shape[-1], 0))

    def _convolve(self, x: Tensor) -> Tensor:
        return F.conv1d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, pads={self.pads}"


class ConvTranspose1d(nn.ConvTranspose1d):
    """(B, C, T) -> (B, C', (T - 1) * stride + span - left - right + output_padding), span as in Conv1d.

    Here padding is the number of samples cut from the full result. "same" and "causal" cut it to T * stride, "causal"
    on the right only. Samples that `output_padding` adds beyond the last tap hold the bias alone, as in PyTorch.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int = 1,
        dilation: int = 1,
        padding: Padding = "same",
        output_padding: int = 0,
        groups: int = 1,
        bias: bool = True,
        weight_norm: bool = False,
    ):
        super().__init__(inputs, outputs, kernel, stride, 0, 0, groups, bias, dilation)
        self.span, self.step = (kernel - 1) * dilation + 1, stride
        left, right = split_padding(padding, self.span - stride)
        if padding == "causal":  # nothing is cut on the left
            left, right = 0, left
        self.trims = left, right - output_padding
        if -self.trims[1] >= max(stride, dilation):
            raise ValueError(f"output_padding must stay below stride or dilation, got {output_padding}")
        if weight_norm:
            add_weight_norm(self)
        # After t inputs, outputs from t * stride on: how many are not final, and how many of these the end cuts off.
        self.overlap = max(self.span - stride, 0)
        self.held = self.trims[1] - (self.span - stride)

    @property
    def ratio(self) -> Fraction:
        """Outputs per input."""
        return Fraction(self.step)

    @property
    def delay(self) -> Fraction:
        """The look-ahead: inputs after its own that an output waits for. Cutting on the left moves outputs forward."""
        return Fraction(self.trims[0] + max(self.held, 0), self.step)

    @property
    def history(self) -> Fraction:
        """Inputs before its own that an output depends on."""
        return Fraction(self.span - 1 - self.trims[0], self.step)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.trims
        full = self._convolve(x, self.bias, max(-right, 0))
        if full.shape[-1] <= left + max(right, 0):
            raise ValueError(f"{x.shape[-1]} samples in leave none after cutting {self.trims}: {self}")
        return full[..., left : full.shape[-1] - max(right, 0)]

    def start(self, batch: int = 1) -> State:
        return State(self.weight.new_zeros(batch, self.out_channels, self.overlap), self.trims[0])

    def stream(self, chunk: Tensor, state: State, last: bool = False) -> tuple[Tensor, State]:
        line = F.pad(state.tail, (0, chunk.shape[-1] * self.step))
        if chunk.shape[-1]:
            full = self._convolve(chunk, None, max(self.step - self.span, 0))
            line = line + F.pad(full, (line.shape[-1] - full.shape[-1], 0))
        final = line.shape[-1] - self.overlap - (self.held if last else max(self.held, 0))
        final = max(final, 0)
        out, tail = F.pad(line, (0, max(final - line.shape[-1], 0)))[..., :final], line[..., final:]
        dropped = min(state.skip, final)
        out = out[..., dropped:]
        return out if self.bias is None else out + self.bias[:, None], State(tail.clone(), state.skip - dropped)

    def _convolve(self, x: Tensor, bias: Tensor | None, extra: int) -> Tensor:
        return F.conv_transpose1d(x, self.weight, bias, self.stride, 0, extra, self.groups, self.dilation)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, trims={self.trims}"
