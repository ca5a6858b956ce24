"""The discriminator of adversarial relativistic-contrastive post-training (ARC, arXiv 2505.08175), and its losses.

It scores noisy latents under the conditions they were generated for. Scores are compared in pairs of a real item and
a generated one, so they have no zero of their own.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from audio_core.dsp.precision import at_least_float32
from audio_core.nn.conv import Conv1d
from torch import Tensor, nn

from ..config.discriminators import ArcDiscriminatorConfig, ConvHeadConfig, ConvNeXtHeadConfig
from ..diffusion.objectives import least_one
from .diffusion import Diffusion
from .dit import DiT
from .with_codec import WithCodec


class ArcDiscriminator(nn.Module):
    """A copy of `backbone` up to the hidden layer, and a head."""

    def __init__(self, config: ArcDiscriminatorConfig, backbone: DiT):
        super().__init__()
        if config.dit_hidden_layer >= backbone.config.depth:
            raise ValueError(
                f"dit_hidden_layer is {config.dit_hidden_layer}, and there are {backbone.config.depth} blocks"
            )
        self.config = config
        self.backbone = copy.deepcopy(backbone)
        self.backbone.postprocess_conv = nn.Identity()
        transformer = self.backbone.transformer
        transformer.layers, transformer.project_out = transformer.layers[: config.dit_hidden_layer + 1], nn.Identity()
        width = backbone.config.embed_dim
        head = config.head
        self.head: nn.Module = ConvHead(width) if isinstance(head, ConvHeadConfig) else ConvNeXtHead(width, head)

    def forward(self, x: Tensor, t: Tensor, **conditions: Tensor | None) -> Tensor:
        """Noisy latents (B, C, T) at times t (B,) -> scores (B, 1, some fraction of T).

        Where the backbone has a mask of padding, the head sees zeros there.
        """
        hidden = self.backbone.hidden(x, t, self.config.dit_hidden_layer, **conditions).mT  # (B, C, P + T / patch)
        real = conditions.get("padding_mask")
        if real is not None:
            real = real.unflatten(1, (-1, self.backbone.config.patch_size)).any(2)
            hidden = hidden * F.pad(real, (hidden.shape[2] - real.shape[1], 0), value=True)[:, None]
        return self.head(hidden)


class ConditionedDiscriminator(Diffusion):
    """A discriminator with conditioners of its own, which begins with the weights of the model `start`.

    It takes what a `Diffusion` does, noisy latents first, and gives scores (B, 1, S).
    """

    def __init__(self, config: ArcDiscriminatorConfig, start: Diffusion):
        WithCodec.__init__(self, start.config)  # and not a network of its own, which would be replaced
        self.conditioner = copy.deepcopy(start.conditioner)
        self.backbone = ArcDiscriminator(config, start.backbone)
        self.objective = start.objective


class ConvHead(nn.Module):
    """(B, C, T) -> scores (B, 1, T // 16 - 3)."""

    def __init__(self, width: int):
        super().__init__()
        groups = ConvHeadConfig.groups
        if width % groups:
            raise ValueError(f"the convolutional head needs a width that is a multiple of {groups}, got {width}")
        layers: list[nn.Module] = []
        for _ in range(4):
            layers += [nn.Conv1d(width, width, 4, 2, 1), nn.GroupNorm(groups, width), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Conv1d(width, 1, 4))

    def forward(self, x: Tensor) -> Tensor:
        _expect_length(x, ConvHeadConfig.least)
        return self.layers(x)


class ConvNeXtHead(nn.Module):
    """(B, C, T) -> scores (B, 1, T // ratio), for strides that are even."""

    def __init__(self, width: int, config: ConvNeXtHeadConfig):
        super().__init__()
        self.ratio = config.ratio
        inputs = config.channels
        self.proj_in = Conv1d(width, inputs, 7, padding=3, weight_norm=True)
        layers: list[nn.Module] = []
        for factor, stride, count in zip(config.c_mults, config.strides, config.num_blocks, strict=True):
            blocks = [ConvNeXtBlock(inputs, config.kernel_size, config.mult, config.glu) for _ in range(count)]
            outputs = config.channels * factor
            shorter = Conv1d(inputs, outputs, 2 * stride, stride, padding=math.ceil(stride / 2), weight_norm=True)
            layers += [*blocks, shorter]
            inputs = outputs
        self.layers = nn.Sequential(*layers, Conv1d(inputs, 1, 3, padding=1, weight_norm=True))

    def forward(self, x: Tensor) -> Tensor:
        _expect_length(x, self.ratio)
        return self.layers(self.proj_in(x))


class ConvNeXtBlock(nn.Module):
    """x + a wide hidden layer at each position, behind a convolution of each channel over time."""

    def __init__(self, width: int, kernel_size: int, mult: int, glu: bool):
        super().__init__()
        hidden = mult * width
        self.glu = glu
        self.dw_conv = Conv1d(width, width, kernel_size, padding=kernel_size // 2, groups=width, weight_norm=True)
        self.proj_up = Conv1d(width, 2 * hidden if glu else hidden, 1, weight_norm=True)
        self.proj_down = Conv1d(hidden, width, 1, weight_norm=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.proj_up(self.dw_conv(x))
        if self.glu:
            value, gate = y.chunk(2, 1)
            y = F.silu(value * torch.sigmoid(gate))
        else:
            y = F.gelu(y)
        return x + self.proj_down(y)


def relativistic_discriminator(real: Tensor, generated: Tensor, counted: Tensor | None = None) -> Tensor:
    """Falls as real items score above the generated ones they are paired with. Only scores `counted` enter."""
    return _mean(F.softplus(at_least_float32(generated) - at_least_float32(real)), counted)


def relativistic_generator(real: Tensor, generated: Tensor, counted: Tensor | None = None) -> Tensor:
    """Falls as generated items score above the real ones they are paired with. Only scores `counted` enter."""
    return relativistic_discriminator(generated, real, counted)


def score_change(scores: Tensor, changed: Tensor, counted: Tensor | None = None) -> Tensor:
    """The squared change of an item's scores, summed over them: of R1 and R2 penalties. Mean over the items."""
    change = (at_least_float32(changed) - at_least_float32(scores)).square()
    return (change if counted is None else change * counted).sum((1, 2)).mean()


def counted_scores(real: Tensor, scores: Tensor) -> Tensor:
    """Which of the scores (B, 1, S) stand for frames that are `real` (B, T). Each stands for T / S frames."""
    return F.adaptive_max_pool1d(real[:, None].float(), scores.shape[2]) > 0


def _mean(values: Tensor, counted: Tensor | None) -> Tensor:
    return values.mean() if counted is None else (values * counted).sum() / least_one(counted.sum())


def _expect_length(x: Tensor, least: int) -> None:
    if x.shape[2] < least:
        raise ValueError(f"the discriminator's head needs {least} positions, got {x.shape[2]}")
