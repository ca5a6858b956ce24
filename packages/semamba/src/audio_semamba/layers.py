"""Layers around the Mamba blocks: SEMamba's dense encoder, its decoders, and the running level of causal models.

Convolutions see (time, frequency) as (height, width): (B, C, T, F). A causal layer pads the past only. Its `stream`
takes the next frames and its state, and gives what `forward` gives for these frames, and the next state.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from audio_core.dsp.precision import full_precision
from torch import Tensor, nn

FLOOR = 1e-8  # of a running level: 80 dB below 1, so that silence is not made loud

Sums = tuple[Tensor, ...]  # of each CausalConv: what past frames add to its next outputs


class CausalConv(nn.Module):
    """A 3 x 3 convolution, dilated over time, that sees the past only.

    Each frame passes one convolution over frequency, with outputs for each of the three taps over time, and these are
    added up where the frames belong together. So nothing is computed twice in a stream.
    """

    def __init__(self, inputs: int, outputs: int, dilation: int):
        super().__init__()
        self.outputs, self.dilation = outputs, dilation
        bound = (9 * inputs) ** -0.5  # that of Conv2d
        self.weight = nn.Parameter(torch.empty(3 * outputs, inputs, 1, 3).uniform_(-bound, bound))  # earliest tap first
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        first, second, third = self._products(x)
        later = [F.pad(tap, (0, 0, d, 0)) for tap, d in ((second, self.dilation), (first, 2 * self.dilation))]
        return third + later[0][:, :, : x.shape[2]] + later[1][:, :, : x.shape[2]] + self.bias.view(-1, 1, 1)

    def start(self, batch: int, bins: int) -> Tensor:
        return self.weight.new_zeros(batch, self.outputs, 2 * self.dilation, bins)

    def stream(self, x: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
        count = x.shape[2]
        first, second, third = self._products(x)
        sums = torch.cat([sums, first], 2)
        sums.narrow(2, self.dilation, count).add_(second)
        return sums[:, :, :count].add_(third).add_(self.bias.view(-1, 1, 1)), sums[:, :, count:]

    def _products(self, x: Tensor) -> tuple[Tensor, ...]:
        """(B, inputs, T, F) -> (B, outputs, T, F) for each tap."""
        return F.conv2d(x, self.weight, None, 1, (0, 1)).chunk(3, 1)


class Unit(nn.Module):
    """A convolution, a norm, and PReLU with a slope for each channel.

    The norm is over all frames and bins of an item. A causal model knows no later frames: its norm has the statistics
    of training, which fit since the running level has brought each frame to one scale.
    """

    def __init__(self, conv: nn.Module, channels: int, causal: bool):
        super().__init__()
        self.conv = conv
        # A group of one channel each is an instance norm, which takes PyTorch four times as long.
        self.norm = nn.BatchNorm2d(channels) if causal else nn.GroupNorm(channels, channels)
        self.prelu = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.prelu(self.norm(self.conv(x)))

    def stream(self, x: Tensor, sums: Tensor) -> tuple[Tensor, Tensor]:
        x, sums = self.conv.stream(x, sums)
        return self.prelu(self.norm(x)), sums


class DenseBlock(nn.Module):
    """Units dilated 1, 2, 4, 8... times over time; each sees the outputs of all before it, the latest first."""

    def __init__(self, channels: int, depth: int, causal: bool):
        super().__init__()

        def conv(inputs: int, dilation: int) -> nn.Module:
            if causal:
                return CausalConv(inputs, channels, dilation)
            return nn.Conv2d(inputs, channels, 3, padding=(dilation, 1), dilation=(dilation, 1))

        self.units = nn.ModuleList(Unit(conv((at + 1) * channels, 2**at), channels, causal) for at in range(depth))

    def forward(self, inputs: Tensor) -> Tensor:
        x = self.units[0](inputs)
        for unit in self.units[1:]:
            inputs = torch.cat([x, inputs], 1)
            x = unit(inputs)
        return x

    def start(self, batch: int, bins: int) -> Sums:
        return tuple(unit.conv.start(batch, bins) for unit in self.units)

    def stream(self, inputs: Tensor, sums: Sums) -> tuple[Tensor, Sums]:
        x, after = self.units[0].stream(inputs, sums[0])
        following = [after]
        for unit, before in zip(self.units[1:], sums[1:], strict=True):
            inputs = torch.cat([x, inputs], 1)
            x, after = unit.stream(inputs, before)
            following.append(after)
        return x, tuple(following)


class Encoder(nn.Module):
    """(B, inputs, T, F) -> (B, C, T, (F - 1) / 2)."""

    def __init__(self, inputs: int, channels: int, dense: int, causal: bool = False):
        super().__init__()
        self.first = Unit(nn.Conv2d(inputs, channels, 1), channels, causal)
        self.dense = DenseBlock(channels, dense, causal)
        self.down = Unit(nn.Conv2d(channels, channels, (1, 3), (1, 2)), channels, causal)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.dense(self.first(x)))

    def stream(self, x: Tensor, sums: Sums) -> tuple[Tensor, Sums]:
        x, sums = self.dense.stream(self.first(x), sums)
        return self.down(x), sums


class MagnitudeDecoder(nn.Module):
    """(B, C, T, bands) -> the mask, (B, 1, T, F) in 0 to `beta`, by a sigmoid with a slope for each bin."""

    def __init__(self, channels: int, dense: int, bins: int, beta: float, causal: bool = False):
        super().__init__()
        self.beta = beta
        self.dense = DenseBlock(channels, dense, causal)
        self.up = nn.ConvTranspose2d(channels, channels, (1, 3), (1, 2))
        self.mix = Unit(nn.Conv2d(channels, 1, 1), 1, causal)
        self.last = nn.Conv2d(1, 1, 1)
        self.slope = nn.Parameter(torch.ones(bins))

    def forward(self, x: Tensor) -> Tensor:
        return self.mask(self.logits(self.dense(x)))

    def stream(self, x: Tensor, sums: Sums) -> tuple[Tensor, Sums]:
        x, sums = self.dense.stream(x, sums)
        return self.mask(self.logits(x)), sums

    def logits(self, x: Tensor) -> Tensor:
        """Of what the dense block gives."""
        return self.last(self.mix(self.up(x)))

    @full_precision
    def mask(self, logits: Tensor) -> Tensor:
        return self.beta * torch.sigmoid(self.slope * logits)


class PhaseDecoder(nn.Module):
    """(B, C, T, bands) -> (B, 2, T, F): real and imaginary part of a number whose angle counts."""

    def __init__(self, channels: int, dense: int, causal: bool = False):
        super().__init__()
        self.dense = DenseBlock(channels, dense, causal)
        self.up = Unit(nn.ConvTranspose2d(channels, channels, (1, 3), (1, 2)), channels, causal)
        self.last = nn.Conv2d(channels, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.up(self.dense(x)))

    def stream(self, x: Tensor, sums: Sums) -> tuple[Tensor, Sums]:
        x, sums = self.dense.stream(x, sums)
        return self.last(self.up(x)), sums


class Level(nn.Module):
    """The gain for compressed magnitudes that brings the running level of a signal to 1.

    The level is the mean power of the frames so far, in which the weight of a frame falls to 1 / e in `frames` frames.
    """

    _piece = 256  # frames that one product sums up

    def __init__(self, frames: float, power_of_one: float, compress: float):
        super().__init__()
        self.power_of_one, self.compress = power_of_one, compress
        age = torch.arange(self._piece)
        self.register_buffer("fading", torch.exp(-(age + 1) / frames), persistent=False)
        weights = torch.exp((age - age[:, None]) / frames).tril()  # (to, from)
        self.register_buffer("weights", weights, persistent=False)

    def start(self, batch: int) -> Tensor:
        return self.fading.new_zeros(batch, 2)

    @full_precision
    @torch.no_grad()
    def forward(self, magnitude: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compressed magnitudes (B, F, T) -> gains (B, 1, T) and the sums of powers and of weights (B, 2)."""
        power = (magnitude ** (2 / self.compress)).mean(1) / self.power_of_one
        sums, state = [], self.start(len(magnitude)) if state is None else state
        for piece in torch.stack([power, torch.ones_like(power)], 1).split(self._piece, -1):  # (B, 2, n)
            count = piece.shape[-1]
            sums.append(F.linear(piece, self.weights[:count, :count]) + state[..., None] * self.fading[:count])
            state = sums[-1][..., -1]
        power, weight = torch.cat(sums, -1).unbind(1)
        level = power / weight + FLOOR
        return level[:, None] ** (-self.compress / 2), state
