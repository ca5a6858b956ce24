"""The U-Net of Dance Diffusion: residual convolutions at ever lower rates, with attention in the inner levels."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from audio_core.files import InputError
from torch import Generator, Tensor, nn

from ..config.unets import HEAD_WIDTH, DanceDiffusionUNetConfig
from .conditions import expect
from .fourier import FourierFeatures

TIME_FEATURES = 16
KERNELS = {
    "linear": (0.125, 0.375),
    "cubic": (-0.01171875, -0.03515625, 0.11328125, 0.43359375),
    "lanczos3": (
        0.003689131001010537,
        0.015056144446134567,
        -0.03399861603975296,
        -0.066637322306633,
        0.13550527393817902,
        0.44638532400131226,
    ),
}
"""The first halves of symmetric resampling filters."""


class DanceDiffusionUNet(nn.Module):
    """`DAU1d`. (B, C, T) -> (B, C, T); T is a multiple of the strides' product."""

    Config = DanceDiffusionUNetConfig

    def __init__(self, config: DanceDiffusionUNetConfig):
        super().__init__()
        self.config = config
        self.timestep_embed = FourierFeatures(TIME_FEATURES // 2)
        self.net = _outermost(config)
        with torch.no_grad():
            for parameter in self.net.parameters():
                parameter.mul_(0.5)

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        input_concat_cond: Tensor | None = None,
        noise_level: Tensor | None = None,
        generator: Generator | None = None,
    ) -> Tensor:
        """x (B, C, T) at the times t (B,); `input_concat_cond` (B, cond_dim, any) is stretched to T.

        With `cond_noise_aug` the condition gets noise of `noise_level` (B,), which by default is random in training
        and 0 otherwise. The noise is drawn with `generator`.
        """
        self._check_length(x.shape[-1])
        inputs = [x, _over_time(self.timestep_embed(t), x)]
        expect("input_concat_cond", input_concat_cond, self.config.cond_dim)
        if input_concat_cond is not None:
            inputs += self._condition(input_concat_cond, x, noise_level, generator)
        return self.net(torch.cat(inputs, 1))

    def _condition(self, cond: Tensor, x: Tensor, level: Tensor | None, generator: Generator | None) -> list[Tensor]:
        if cond.shape[-1] != x.shape[-1]:
            cond = F.interpolate(cond, x.shape[-1], mode="linear", align_corners=False)
        if not self.config.cond_noise_aug:
            return [cond]
        if level is None:
            level = torch.rand(len(x), generator=generator, device=x.device) if self.training else x.new_zeros(len(x))
        level = level.to(cond)
        noise = torch.randn(cond.shape, generator=generator, dtype=cond.dtype, device=cond.device)
        return [_over_time(self.timestep_embed(level), x), cond + noise * level[:, None, None]]

    def _check_length(self, length: int) -> None:
        """The fixed filters reflect both ends, for which even the innermost level needs three frames."""
        ratio = self.config.ratio
        least = ratio if self.config.learned_resample else 3 * ratio
        if length % ratio or length < least:
            raise InputError(f"x: has {length} frames; this U-Net needs a multiple of {ratio}, from {least} on")


def _outermost(config: DanceDiffusionUNetConfig) -> nn.Sequential:
    width, inputs = config.channels[0], config.io_channels + config.cond_dim + TIME_FEATURES
    inputs += TIME_FEATURES if config.cond_noise_aug else 0
    settings: dict[str, Any] = {"kernel": config.kernel_size, "bias": config.conv_bias}
    return nn.Sequential(
        ResConv(inputs, width, width, **settings),
        ResConv(width, width, width, **settings),
        ResConv(width, width, width, **settings),
        _Level(2, config),
        ResConv(2 * width, width, width, **settings),
        ResConv(width, width, width, **settings),
        ResConv(width, width, config.io_channels, is_last=True, **settings),
    )


class _Level(nn.Module):
    """A level at a lower rate and all that lie within. Its input is concatenated to its output."""

    def __init__(self, level: int, config: DanceDiffusionUNetConfig):
        super().__init__()
        outer, width = config.channels[level - 2 : level]
        stride, innermost = config.strides[level - 2], level == config.depth
        widths = [(outer, width), (width, width), (width, width)]
        # On the way back the inner level's output and input come together.
        back = [(width if innermost else 2 * width, width), (width, width), (width, outer)]
        self.main = nn.Sequential(
            _learned_down(outer, stride) if config.learned_resample else Downsample("cubic"),
            *_stage(widths, level, config),
            nn.Identity() if innermost else _Level(level + 1, config),
            *_stage(back, level, config),
            _learned_up(outer, stride) if config.learned_resample else Upsample("cubic"),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.main(x), x], 1)


def _stage(widths: list[tuple[int, int]], level: int, config: DanceDiffusionUNetConfig) -> list[nn.Module]:
    """Residual convolutions, each with attention behind it where the level has attention."""
    middle, layers = config.channels[level - 1], []
    for inputs, outputs in widths:
        layers.append(ResConv(inputs, middle, outputs, config.kernel_size, config.conv_bias))
        layers.append(SelfAttention(outputs, outputs // HEAD_WIDTH) if config.attends(level) else nn.Identity())
    return layers


def _over_time(features: Tensor, x: Tensor) -> Tensor:
    """(B, F) -> (B, F, T)."""
    return features.to(x)[..., None].expand(-1, -1, x.shape[-1])


# --- blocks ------------------------------------------------------------------------------------------------


class ResConv(nn.Module):
    """Two convolutions with norm and GELU behind each, the last of the network with neither, and a skip."""

    def __init__(self, inputs: int, middle: int, outputs: int, kernel: int, bias: bool, is_last: bool = False):
        super().__init__()
        ending = [] if is_last else [nn.GroupNorm(1, outputs), nn.GELU()]
        self.main = nn.Sequential(
            nn.Conv1d(inputs, middle, kernel, padding=kernel // 2, bias=bias),
            nn.GroupNorm(1, middle),
            nn.GELU(),
            nn.Conv1d(middle, outputs, kernel, padding=kernel // 2, bias=bias),
            *ending,
        )
        self.skip = nn.Identity() if inputs == outputs else nn.Conv1d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.main(x) + self.skip(x)


class SelfAttention(nn.Module):
    """x + attention over time. (B, C, T) -> (B, C, T)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(1, width)
        self.qkv_proj = nn.Conv1d(width, 3 * width, 1)
        self.out_proj = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.qkv_proj(self.norm(x)).unflatten(1, (3 * self.heads, -1)).transpose(2, 3)  # (B, 3H, T, D)
        mixed = F.scaled_dot_product_attention(*heads.chunk(3, 1))
        return x + self.out_proj(mixed.transpose(2, 3).flatten(1, 2))


class _FixedKernel(nn.Module):
    """A filter for all channels; it is no part of the weights."""

    kernel: Tensor

    def __init__(self, name: str, gain: float = 1.0):
        super().__init__()
        taps = torch.tensor([*KERNELS[name], *reversed(KERNELS[name])], device="cpu")
        self.register_buffer("kernel", gain * taps, persistent=False)
        self.margin = len(taps) // 2 - 1

    def _filters(self, x: Tensor) -> Tensor:
        return self.kernel.to(x).expand(x.shape[1], 1, -1)


class Downsample(_FixedKernel):
    """(B, C, T) -> (B, C, T / 2); the ends are reflected."""

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (self.margin, self.margin), "reflect")
        return F.conv1d(padded, self._filters(x), stride=2, groups=x.shape[1])


class Upsample(_FixedKernel):
    """(B, C, T) -> (B, C, 2T); the ends are reflected."""

    def __init__(self, name: str):
        super().__init__(name, gain=2.0)

    def forward(self, x: Tensor) -> Tensor:
        half = (self.margin + 1) // 2
        padded = F.pad(x, (half, half), "reflect")
        return F.conv_transpose1d(padded, self._filters(x), stride=2, padding=2 * self.margin + 1, groups=x.shape[1])


def _learned_down(width: int, stride: int) -> nn.Conv1d:
    return nn.Conv1d(width, width, 2 * stride + 1, stride, padding=stride)


def _learned_up(width: int, stride: int) -> nn.Module:
    if stride == 1:
        return nn.Conv1d(width, width, 3, padding=1)
    odd = stride % 2
    return nn.ConvTranspose1d(width, width, 2 * stride, stride, padding=stride // 2 + odd, output_padding=odd)
