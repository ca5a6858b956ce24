"""Mamba over time and over frequency: the layers between SEMamba's encoder and its decoders.

`Mixer` is one direction of a scan, `MambaBlock` the scans of one axis with their projections, `TFBlock` both axes.
Shapes are (rows, L, channels), where a row is all that a scan runs through.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from audio_core.dsp.precision import full_precision
from torch import Tensor, nn

from . import scan
from .scan import causal_conv_silu, causal_conv_silu_stateful, selective_scan, selective_scan_stateful, softplus

_POSITIONS = 1024  # that are processed at once, for each thread


MixerState = tuple[Tensor, Tensor]  # the last inputs of the convolution (rows, taps - 1, inner), the scan's state


class Mixer(nn.Module):
    """One direction of a Mamba block: a convolution and a selective scan, whose parameters follow from its input.

    The norm before it belongs to the direction as well. `reverse` runs from the end to the start.
    """

    def __init__(self, channels: int, state: int, conv: int, expand: int, reverse: bool = False):
        super().__init__()
        inner, rank = expand * channels, math.ceil(channels / 16)
        self.reverse, self.sizes = reverse, (rank, state, state)
        self.norm = nn.Parameter(torch.ones(channels))
        self.in_proj = nn.Linear(channels, 2 * inner, bias=False)
        self.conv_weight = nn.Parameter(torch.empty(inner, conv).uniform_(-(conv**-0.5), conv**-0.5))
        self.conv_bias = nn.Parameter(torch.empty(inner).uniform_(-(conv**-0.5), conv**-0.5))
        self.x_proj = nn.Linear(inner, rank + 2 * state, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.A_log = nn.Parameter(torch.log(torch.arange(1.0, state + 1)).repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, channels, bias=False)
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        with torch.no_grad():  # the inverse of softplus, for steps from 0.001 to 0.1
            step = torch.empty(inner).uniform_(math.log(0.001), math.log(0.1)).exp().clamp(min=1e-4)
            self.dt_proj.bias.copy_(step + torch.log(-torch.expm1(-step)))

    def forward(self, projected: Tensor) -> Tensor:
        """What `in_proj` gave, (rows, L, 2 inner) -> (rows, L, inner), which goes to `out_proj`."""
        x, gate = projected.chunk(2, -1)
        if scan.fuses(x):
            return scan.mixer(x, gate, *self.weights(), reverse=self.reverse)[0]
        u = causal_conv_silu(x, self.conv_weight, self.conv_bias, reverse=self.reverse)
        delta, B, C = self.select(u)
        return selective_scan(u, delta, -self.A_log.exp(), B, C, self.D, gate, reverse=self.reverse)

    def stream(self, projected: Tensor, state: MixerState) -> tuple[Tensor, MixerState]:
        """The same for the next steps, and the state after them. Forward direction only."""
        x, gate = projected.chunk(2, -1)
        past, values = state
        if scan.fuses(x):
            y, *following = scan.mixer(x, gate, *self.weights(), past=past, state=values)
            return y, tuple(following)
        u, past = causal_conv_silu_stateful(x, self.conv_weight, self.conv_bias, past)
        delta, B, C = self.select(u)
        y, values = selective_scan_stateful(u, delta, -self.A_log.exp(), B, C, self.D, gate, values)
        return y, (past, values)

    def weights(self) -> tuple[Tensor, ...]:
        """As `scan.mixer` takes them."""
        steps = self.dt_proj.weight, self.dt_proj.bias
        return self.conv_weight, self.conv_bias, self.x_proj.weight, *steps, self.A_log, self.D

    def select(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Step sizes (rows, L, inner), B and C (rows, L, state) of each step."""
        rank, B, C = self.x_proj(u).split(self.sizes, -1)
        return self._steps(rank), B, C

    @full_precision
    def _steps(self, rank: Tensor) -> Tensor:
        """In float32 also under autocast: what a step adds and what it forgets are small numbers."""
        return softplus(self.dt_proj(rank))


class MambaBlock(nn.Module):
    """x + the projection of one or two directions over L: (rows, L, channels) -> the same."""

    def __init__(self, channels: int, state: int, conv: int, expand: int, eps: float, directions: int = 2):
        super().__init__()
        self.eps = eps
        self.mixers = nn.ModuleList(Mixer(channels, state, conv, expand, at == 1) for at in range(directions))
        self.project = nn.Linear(directions * channels, channels)
        nn.init.uniform_(self.project.weight, -(channels**-0.5), channels**-0.5)  # of the original's transposed layer
        nn.init.uniform_(self.project.bias, -(channels**-0.5), channels**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.weights()
        if torch.is_grad_enabled() or x.device.type != "cpu":
            return self.scanned(x, *weights)
        # Some rows at a time: what lies inside is many times wider than x, and twice as fast where the cache holds it.
        rows = max(1, _POSITIONS * torch.get_num_threads() // x.shape[1])
        return torch.cat([self.scanned(part, *weights) for part in x.split(rows)])

    def start(self, rows: int) -> MixerState:
        mixer = self.mixers[0]
        inner, taps = mixer.conv_weight.shape
        state = mixer.A_log.shape[1]
        return mixer.D.new_zeros(rows, taps - 1, inner), mixer.D.new_zeros(rows, state, inner)

    def stream(self, x: Tensor, state: MixerState) -> tuple[Tensor, MixerState]:
        """The same for the next steps of L, where there is one direction only."""
        (mixer,) = self.mixers
        into, past, (out,) = self.weights()
        y, state = mixer.stream(F.linear(F.rms_norm(x, x.shape[-1:], None, self.eps), into), state)
        return x + F.linear(x, past, self.project.bias) + F.linear(y, out), state

    def scanned(self, x: Tensor, into: Tensor, past: Tensor, out: Sequence[Tensor]) -> Tensor:
        """`forward` of some rows, with the `weights`."""
        parts = F.linear(F.rms_norm(x, x.shape[-1:], None, self.eps), into).chunk(len(self.mixers), -1)
        y = x + F.linear(x, past, self.project.bias)
        for mixer, part, weight in zip(self.mixers, parts, out, strict=True):
            y = y + F.linear(mixer(part), weight)
        return y

    def weights(self) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Of the products before the scans, around them, and after each of them.

        Norms differ by their gains only: with these in the weights, all directions share one product. Each direction
        has its own residual connection: project(cat(out_proj(y) + x, ...)), which needs fewer products, and no cat, if
        those of weights are taken first.
        """
        into = torch.cat([mixer.in_proj.weight * mixer.norm for mixer in self.mixers])  # (directions * 2 inner, C)
        shares = self.project.weight.chunk(len(self.mixers), 1)  # (C, C) each
        out = [share @ mixer.out_proj.weight for share, mixer in zip(shares, self.mixers, strict=True)]  # (C, inner)
        return into, torch.stack(shares).sum(0), out


class TFBlock(nn.Module):
    """A scan over time in each band, then one over frequency in each frame. (B, T, F, channels) -> the same.

    A causal block scans time in one direction only.
    """

    def __init__(self, channels: int, state: int, conv: int, expand: int, eps: float, causal: bool = False):
        super().__init__()
        self.time = MambaBlock(channels, state, conv, expand, eps, directions=1 if causal else 2)
        self.frequency = MambaBlock(channels, state, conv, expand, eps)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)  # (B, F, T, C)
        x = self.time(x.flatten(0, 1)).view(x.shape).transpose(1, 2)
        return self.frequency(x.flatten(0, 1)).view(x.shape)

    def stream(self, x: Tensor, state: MixerState) -> tuple[Tensor, MixerState]:
        """The next frames. Only the scan over time has a state."""
        x = x.transpose(1, 2)
        y, state = self.time.stream(x.flatten(0, 1), state)
        x = y.view(x.shape).transpose(1, 2)
        return self.frequency(x.flatten(0, 1)).view(x.shape), state
