"""Convolutions over time that state their padding and can be fed piece by piece.

`stream` gives, piece by piece, exactly what `forward` gives at once, padding of both ends included,
whatever the pieces. The layer remembers nothing: the caller hands a state in and gets the next one back.

    state = layer.start(batch=1)
    for chunk in chunks:
        out, state = layer.stream(chunk, state)          # as many samples as are final by now, perhaps none
    out, state = layer.stream(chunk, state, last=True)   # the end of the signal: also what was held back
"""

from fractions import Fraction
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm as add_weight_norm

Padding = Literal["same", "causal"] | int | tuple[int, int]


class State(NamedTuple):
    """Between two pieces of a stream."""

    tail: Tensor  # (B, C, n): inputs still needed; of a transposed layer outputs not yet final, without bias
    skip: int  # samples still to drop: inputs under a stride wider than the kernel; outputs of the left trim


def sides(padding: Padding, total: int) -> tuple[int, int]:
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
        self.pads = sides(padding, self.span - 1)
        if weight_norm:
            add_weight_norm(self)

    @property
    def ratio(self) -> Fraction:
        """Outputs per input."""
        return Fraction(1, self.step)

    @property
    def delay(self) -> Fraction:
        """Inputs beyond its own that an output waits for; negative where padding alone speaks first."""
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
        # A copy: a view would keep the whole piece in memory, where the next one could go.
        return out, State(line[..., used:].clone(), state.skip - dropped + max(used - line.shape[-1], 0))

    def _convolve(self, x: Tensor) -> Tensor:
        return F.conv1d(x, self.weight, self.bias, self.stride, 0, self.dilation, self.groups)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, pads={self.pads}"


class ConvTranspose1d(nn.ConvTranspose1d):
    """(B, C, T) -> (B, C', (T - 1) * stride + span - left - right + output_padding), span as in Conv1d.

    Here padding is what is cut from the full result: "same" and "causal" cut it to T * stride, the latter
    on the right only.
    Samples that `output_padding` adds beyond the last tap hold the bias alone, as in PyTorch.
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
        left, right = sides(padding, self.span - stride)
        if padding == "causal":  # nothing of the past is cut
            left, right = 0, left
        self.trims = left, right - output_padding
        if -self.trims[1] >= max(stride, dilation):
            raise ValueError(f"output_padding must stay below stride or dilation, got {output_padding}")
        if weight_norm:
            add_weight_norm(self)
        # After t inputs, from output t * stride on: what is unfinished, and what the end would still cut off.
        self.overlap = max(self.span - stride, 0)
        self.held = self.trims[1] - (self.span - stride)

    @property
    def ratio(self) -> Fraction:
        """Outputs per input."""
        return Fraction(self.step)

    @property
    def delay(self) -> Fraction:
        """Inputs beyond its own that an output waits for, since what is cut left brings outputs forward."""
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
