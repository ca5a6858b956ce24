"""What lies between encoder and decoder: the face of all bottlenecks, and those whose latents are continuous.

In eval mode and without a generator every bottleneck is deterministic: a Gaussian gives its mean, and nothing is
dithered or dropped. In training mode it samples.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from audio_core.dsp.precision import full_precision
from audio_core.files import InputError
from torch import Generator, Tensor, nn

from ..config import (
    BottleneckConfig,
    DACRVQConfig,
    DACRVQVAEConfig,
    DitheredFSQConfig,
    FSQConfig,
    L2NormConfig,
    LogVarianceConfig,
    RVQConfig,
    RVQVAEConfig,
    SoftNormConfig,
    TanhConfig,
    VAEConfig,
    WassersteinConfig,
)
from .discrepancy import mean_discrepancy

Draws = Generator | Sequence[Generator] | None
"""What draws: the default generator, one for the whole batch, or one for each of its items."""


class Encoded(NamedTuple):
    latents: Tensor  # (B, W, F)
    codes: Tensor | None  # (B, K, F) of a discrete bottleneck
    losses: dict[str, Tensor]  # what training may weigh, without weights


class Bottleneck(nn.Module):
    """The face of all bottlenecks; this one passes the latents on."""

    codebooks: tuple[int, ...] = ()
    """The entries of each codebook; none where latents are continuous."""

    def __init__(self, inputs: int, width: int | None = None, noise: int = 0):
        super().__init__()
        self.inputs = inputs
        """Channels of what the encoder gives."""
        self.width = inputs if width is None else width
        """Channels of the latents."""
        self.noise = noise
        """Channels of noise after them, in what the decoder gets."""

    @property
    def outputs(self) -> int:
        """Channels of what the decoder gets."""
        return self.width + self.noise

    def encode(self, x: Tensor, draws: Draws = None) -> Encoded:
        """What the encoder gives (B, inputs, F) -> latents (B, width, F), drawn by `draws` if they are drawn."""
        return Encoded(x, None, {})

    def decode(self, latents: Tensor, draws: Draws = None) -> Tensor:
        """Latents (B, width, F) -> what the decoder gets (B, outputs, F).

        Channels of noise are drawn in training or with a generator, and are 0 otherwise, which is their mean.
        """
        if not self.noise:
            return latents
        shape = (len(latents), self.noise, latents.shape[-1])
        drawn = self._noise_of(shape, latents, draws) if self._draws(draws) else latents.new_zeros(shape)
        return torch.cat([latents, drawn], 1)

    def from_codes(self, codes: Tensor) -> Tensor:
        """The codes (B, K, F) of the first K codebooks -> latents (B, width, F)."""
        if not self.codebooks:
            raise TypeError(f"{type(self).__name__} has continuous latents and no codes")
        if codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool:
            raise InputError(f"codes: are of type {codes.dtype}; pass a tensor of integers (B, K, F)")
        if codes.ndim != 3 or not 1 <= codes.shape[1] <= len(self.codebooks):
            most = len(self.codebooks)
            raise InputError(f"codes: have the shape {tuple(codes.shape)}; pass (B, K, F) with K from 1 to {most}")
        sizes = torch.tensor(self.codebooks[: codes.shape[1]], device=codes.device)[:, None]
        if codes.numel() and bool(((codes < 0) | (codes >= sizes)).any()):
            limits = f"from {int(codes.min())} to {int(codes.max())}"
            raise InputError(f"codes: are {limits}, but codebooks have {min(self.codebooks)} entries, from 0 on")
        return self._entries(codes.long())

    def _entries(self, codes: Tensor) -> Tensor:
        raise AssertionError("a bottleneck without codebooks was asked for their entries")

    def _draws(self, draws: Draws) -> bool:
        return self.training or draws is not None

    def _noise_of(self, shape: tuple[int, ...], like: Tensor, draws: Draws) -> Tensor:
        return normal(shape, like, draws)


def normal(shape: tuple[int, ...], like: Tensor, draws: Draws) -> Tensor:
    """Normal noise on the device of `like`; a generator draws on its own device."""
    return _drawn(torch.randn, shape, like, draws)


def uniform(shape: tuple[int, ...], like: Tensor, draws: Draws) -> Tensor:
    """As `normal`, from 0 to 1."""
    return _drawn(torch.rand, shape, like, draws)


def _drawn(draw: Callable[..., Tensor], shape: tuple[int, ...], like: Tensor, draws: Draws) -> Tensor:
    if draws is None:
        return draw(shape, device=like.device).to(like)
    if isinstance(draws, Generator):
        return draw(shape, generator=draws, device=draws.device).to(like)
    part = (shape[0] // len(draws), *shape[1:])  # the first axis holds one item after the other
    return torch.cat([draw(part, generator=each, device=each.device) for each in draws]).to(like)


# --- Gaussians ---------------------------------------------------------------------------------------------


class Gaussian(Bottleneck, ABC):
    """Means and what tells deviations, side by side: (B, 2 W, F)."""

    def __init__(self, config: LogVarianceConfig | VAEConfig, inputs: int):
        if inputs % 2:
            raise InputError(f"bottleneck: a Gaussian needs two values for each latent; the encoder gives {inputs}")
        super().__init__(inputs, inputs // 2)

    @full_precision
    def encode(self, x: Tensor, draws: Draws = None) -> Encoded:
        latents, divergence = self.draw(x, draws)
        return Encoded(latents, None, {"kl": divergence})

    def draw(self, x: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        """Latents (B, W, F) and the KL divergence from the standard normal distribution."""
        mean, deviation, divergence = self.distribution(x)
        if not self._draws(draws):
            return mean, divergence
        return mean + deviation * normal(mean.shape, mean, draws), divergence

    @abstractmethod
    def distribution(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and deviation (B, W, F), and the KL divergence in this class's own unit."""


class LogVariance(Gaussian):
    """LyraCodec's. The divergence is the mean over channels, with the factor 1/2: 1 / 2W of that of `VAE`."""

    def distribution(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = x.chunk(2, 1)
        log_variance = log_variance.clamp(-10, 10)
        divergence = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).mean()
        return mean, (0.5 * log_variance).exp(), divergence


class VAE(Gaussian):
    """stable-audio-tools'. The divergence is a sum over channels and a mean over frames, without the factor 1/2."""

    def distribution(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, scale = x.chunk(2, 1)
        deviation = F.softplus(scale) + 1e-4
        divergence = (mean.square() + deviation.square() - 2 * deviation.log() - 1).sum(1).mean()
        return mean, deviation, divergence


# --- other continuous ones -----------------------------------------------------------------------------------


class Tanh(Bottleneck):
    def __init__(self, config: TanhConfig, inputs: int):
        super().__init__(inputs)
        self.scale = config.scale

    def encode(self, x: Tensor, draws: Draws = None) -> Encoded:
        return Encoded(self.scale * torch.tanh(x / self.scale), None, {})


class L2Norm(Bottleneck):
    """Latents of length 1, also where they come from elsewhere."""

    def __init__(self, config: L2NormConfig, inputs: int):
        super().__init__(inputs)

    @full_precision
    def encode(self, x: Tensor, draws: Draws = None) -> Encoded:
        return Encoded(F.normalize(x, dim=1), None, {})

    @full_precision
    def decode(self, latents: Tensor, draws: Draws = None) -> Tensor:
        return F.normalize(latents, dim=1)


class Wasserstein(Bottleneck):
    """Latents of any distribution, with their discrepancy from a normal one as a loss of training."""

    def __init__(self, config: WassersteinConfig, inputs: int):
        super().__init__(inputs, noise=config.noise_augment_dim)
        self.config = config

    @full_precision
    def encode(self, x: Tensor, draws: Draws = None) -> Encoded:
        losses = {}
        if self.training and not self.config.bypass_mmd:
            vectors = x.transpose(1, 2).flatten(0, 1)  # (B F, W), before the tanh as in the original
            losses["mmd"] = mean_discrepancy(vectors, normal(vectors.shape, vectors, draws))
        scale = self.config.tanh_scale
        return Encoded(scale * torch.tanh(x / scale) if self.config.use_tanh else x, None, losses)


class SoftNorm(Bottleneck):
    """Scales and shifts each channel; a loss of training draws latents to mean 0 and deviation 1."""

    def __init__(self, config: SoftNormConfig, inputs: int):
        super().__init__(config.dim, noise=config.noise_augment_dim)
        self.regularized = config.noise_regularize
        self.scaling_factor = nn.Parameter(torch.ones(1, config.dim, 1))
        self.bias = nn.Parameter(torch.zeros(1, config.dim, 1))
        self.noise_scaling_factor = nn.Parameter(torch.ones(1, config.noise_augment_dim, 1))

    @full_precision
    def encode(self, x: Tensor, draws: Draws = None) -> Encoded:
        latents = x * self.scaling_factor + self.bias
        if not self.training:
            return Encoded(latents, None, {})
        loss = _distance_from_normal(latents, 2) + 0.4 * _distance_from_normal(latents, 1)
        return Encoded(latents, None, {"softnorm": loss})

    def decode(self, latents: Tensor, draws: Draws = None) -> Tensor:
        if self.training and self.regularized:
            deviation = latents.std(2, keepdim=True)
            latents = latents + 0.01 * deviation * normal(latents.shape, latents, draws)
        return super().decode(latents, draws)

    def _noise_of(self, shape: tuple[int, ...], like: Tensor, draws: Draws) -> Tensor:
        return self.noise_scaling_factor * super()._noise_of(shape, like, draws)


def _distance_from_normal(x: Tensor, axis: int) -> Tensor:
    """Twice the KL divergence of a normal distribution with the statistics along `axis`."""
    mean, variance = x.mean(axis), x.var(axis).clamp(min=1e-4)
    return (mean.square() + variance - variance.log() - 1).mean()


# --- all of them ---------------------------------------------------------------------------------------------


def build(config: BottleneckConfig | None, inputs: int) -> Bottleneck:
    """The bottleneck behind an encoder of `inputs` channels. Without a configuration latents pass unchanged."""
    if config is None:
        return Bottleneck(inputs)
    from . import quantise  # which imports this module

    kinds: dict[type, Callable[[Any, int], Bottleneck]] = {
        LogVarianceConfig: LogVariance,
        VAEConfig: VAE,
        TanhConfig: Tanh,
        L2NormConfig: L2Norm,
        WassersteinConfig: Wasserstein,
        SoftNormConfig: SoftNorm,
        RVQConfig: quantise.RVQ,
        RVQVAEConfig: quantise.RVQVAE,
        DACRVQConfig: quantise.DACRVQ,
        DACRVQVAEConfig: quantise.DACRVQVAE,
        FSQConfig: quantise.FSQ,
        DitheredFSQConfig: quantise.DitheredFSQ,
    }
    bottleneck = kinds[type(config)](config, inputs)
    if bottleneck.inputs != inputs:
        name = type(bottleneck).__name__
        raise InputError(f"bottleneck: {name} takes {bottleneck.inputs} channels, but the encoder gives {inputs}")
    return bottleneck
