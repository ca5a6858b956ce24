"""Bottlenecks with discrete latents: residual vector quantizers, and scalar quantizers.

Codes are (B, K, F), one for each of the K codebooks. In eval mode the latents of the codes are those of `encode`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from audio_core.dsp.precision import full_precision
from audio_core.nn.conv import Conv1d
from audio_core.nn.quantize import ResidualQuantizer
from torch import Tensor, nn

from ..config import DACRVQConfig, DitheredFSQConfig, FSQConfig, RVQConfig, VAEConfig
from .bottleneck import VAE, Bottleneck, Draws, Encoded, uniform

# --- residual vector quantizers --------------------------------------------------------------------------------


class RVQ(Bottleneck):
    """EnCodec's: each codebook quantizes what those before it left over, and entries are moving averages.

    The loss, of training only, is the mean squared distance of the vectors from their entries.
    """

    def __init__(self, config: RVQConfig, inputs: int):
        super().__init__(config.dim)
        self.quantizer = ResidualQuantizer(config.dim, config.num_quantizers, config.codebook_size, config.decay)
        self.codebooks = self.quantizer.sizes
        self.threshold = config.threshold_ema_dead_code

    @full_precision
    def encode(self, x: Tensor, draws: Draws = None) -> Encoded:
        if self.training:
            processes = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
            mean = len(x) * x.shape[-1] * processes / self.codebooks[0]  # vectors for each entry
            # A small batch has less than the threshold for each entry: the original then replaces all in every step.
            self.quantizer.revive = min(0.5, self.threshold / mean)
        latents, codes, losses = self.quantizer(x)
        return Encoded(latents, codes, {"quantizer": losses.mean()} if self.training else {})

    def _entries(self, codes: Tensor) -> Tensor:
        return self.quantizer.from_codes(codes)


class Projected(NamedTuple):
    """What one codebook of DAC's gives."""

    latents: Tensor  # (B, W, F)
    codes: Tensor  # (B, F)
    commitment: Tensor  # (B,): mean squared distance that draws vectors to entries
    codebook: Tensor  # (B,): the same distance, which draws entries to vectors


class ProjectedCodebook(nn.Module):
    """Vectors are projected to few channels, and their entries back. Nearest is the entry in the closest direction."""

    def __init__(self, width: int, dim: int, size: int):
        super().__init__()
        self.in_proj = Conv1d(width, dim, 1, weight_norm=True)
        self.out_proj = Conv1d(dim, width, 1, weight_norm=True)
        self.codebook = nn.Embedding(size, dim)

    def forward(self, x: Tensor) -> Projected:
        projected = self.in_proj(x)  # (B, D, F)
        with torch.no_grad():
            directions = F.normalize(projected, dim=1).transpose(1, 2)
            codes = (directions @ F.normalize(self.codebook.weight).T).argmax(-1)
        entries = self.codebook(codes).transpose(1, 2)
        commitment = (projected - entries.detach()).square().mean((1, 2))
        codebook = (entries - projected.detach()).square().mean((1, 2))
        through = entries.detach() + (projected - projected.detach())  # straight-through gradient
        return Projected(self.out_proj(through), codes, commitment, codebook)

    def latents(self, codes: Tensor) -> Tensor:
        """(B, F) -> (B, W, F)."""
        return self.out_proj(self.codebook(codes).transpose(1, 2))


class ProjectedQuantizer(nn.Module):
    """DAC's residual vector quantizer: the sum of what all codebooks give."""

    def __init__(self, config: DACRVQConfig):
        super().__init__()
        dims = config.codebook_dim if isinstance(config.codebook_dim, tuple) else (config.codebook_dim,)
        dims = dims * (config.n_codebooks // len(dims))
        self.quantizers = nn.ModuleList(ProjectedCodebook(config.input_dim, dim, config.codebook_size) for dim in dims)
        self.dropout = config.quantizer_dropout

    def forward(self, x: Tensor, draws: Draws = None) -> Projected:
        """Codes are (B, K, F) here, and the losses sums over the codebooks and means over the batch."""
        counts = self._counts(x, draws)
        residual, latents, codes = x, torch.zeros_like(x), []
        commitment, codebook = x.new_zeros(()), x.new_zeros(())
        for at, quantizer in enumerate(self.quantizers):
            part = quantizer(residual)
            used = (counts > at).to(x)  # (B,)
            latents = latents + used[:, None, None] * part.latents
            residual = residual - part.latents
            codes.append(part.codes)
            commitment = commitment + (used * part.commitment).mean()
            codebook = codebook + (used * part.codebook).mean()
        return Projected(latents, torch.stack(codes, 1), commitment, codebook)

    def _counts(self, x: Tensor, draws: Draws) -> Tensor:
        """How many codebooks each item (B,) uses: all of them, but in training random numbers for a share of them."""
        counts = torch.full((len(x),), len(self.quantizers), device=x.device)
        most, dropped = len(self.quantizers), int(len(x) * self.dropout) if self.training else 0
        if self.training and isinstance(draws, Sequence):  # each item by chance, whatever it shares a batch with
            for at, own in enumerate(draws):
                if torch.rand((), generator=own, device=own.device) < self.dropout:
                    counts[at] = int(torch.randint(1, most + 1, (), generator=own, device=own.device))
        elif dropped and not isinstance(draws, Sequence):  # as the original, the first items of a batch
            device = x.device if draws is None else draws.device
            counts[:dropped] = torch.randint(1, most + 1, (dropped,), generator=draws, device=device).to(x.device)
        return counts

    def from_codes(self, codes: Tensor) -> Tensor:
        """The codes (B, K, F) of the first K codebooks -> (B, W, F)."""
        parts = [quantizer.latents(each) for quantizer, each in zip(self.quantizers, codes.unbind(1), strict=False)]
        return torch.stack(parts).sum(0)


class DACRVQ(Bottleneck):
    """DAC's. Its losses are means over the codebooks.

    With `quantize_on_decode` latents are continuous to all others, and `decode` quantizes them.
    """

    def __init__(self, config: DACRVQConfig, inputs: int):
        super().__init__(config.input_dim, noise=config.noise_augment_dim)
        self.quantizer = ProjectedQuantizer(config)
        self.late = config.quantize_on_decode
        self.codebooks = () if self.late else (config.codebook_size,) * config.n_codebooks

    @full_precision
    def encode(self, x: Tensor, draws: Draws = None) -> Encoded:
        if self.late and not self.training:
            return Encoded(x, None, {})
        latents, codes, *losses = self.quantizer(x, draws)
        commitment, codebook = (loss / len(self.quantizer.quantizers) for loss in losses)
        named = {"commitment": commitment, "codebook": codebook}
        return Encoded(x, None, named) if self.late else Encoded(latents, codes, named)

    @full_precision
    def decode(self, latents: Tensor, draws: Draws = None) -> Tensor:
        if self.late:
            latents = self.quantizer(latents, draws).latents
        return super().decode(latents, draws)

    def _entries(self, codes: Tensor) -> Tensor:
        return self.quantizer.from_codes(codes)


# --- a Gaussian before them ----------------------------------------------------------------------------------------


class GaussianFirst(Bottleneck):
    """Before the quantizer, which is a base class too, a Gaussian: its mean is quantized, or in training a sample."""

    def __init__(self, config: Any, inputs: int):
        super().__init__(config, inputs)
        self.inputs = 2 * self.width
        self.gaussian = VAE(VAEConfig(), self.inputs)

    @full_precision
    def encode(self, x: Tensor, draws: Draws = None) -> Encoded:
        sample, divergence = self.gaussian.draw(x, draws)
        encoded = super().encode(sample, draws)
        return encoded._replace(losses={"kl": divergence, **encoded.losses})


class RVQVAE(GaussianFirst, RVQ):
    pass


class DACRVQVAE(GaussianFirst, DACRVQ):
    pass


# --- scalar quantizers ---------------------------------------------------------------------------------------------


class ScalarQuantizer(Bottleneck, ABC):
    """Each channel takes one of a few levels; a code numbers the combinations of a codebook's channels.

    Codebook k has the channels k D to (k + 1) D - 1. The first of them counts fastest.
    """

    levels: Tensor
    basis: Tensor

    def __init__(self, levels: tuple[int, ...], books: int, width: int, noise: int = 0):
        super().__init__(width, noise=noise)
        self.codebooks = (math.prod(levels),) * books
        self.register_buffer("levels", torch.tensor(levels)[:, None], persistent=False)  # (D, 1)
        steps = [math.prod(levels[:at]) for at in range(len(levels))]
        self.register_buffer("basis", torch.tensor(steps)[:, None], persistent=False)  # (D, 1)

    def levels_of_channels(self) -> Tensor:
        """How many levels each channel has, (K D, 1)."""
        return self.levels.repeat(len(self.codebooks), 1)

    def _codes(self, numbers: Tensor) -> Tensor:
        """The numbers of the levels (B, K D, F), from 0 on -> codes (B, K, F)."""
        return (numbers.long().unflatten(1, (len(self.codebooks), -1)) * self.basis).sum(2)

    def _entries(self, codes: Tensor) -> Tensor:
        numbers = codes[:, :, None] // self.basis % self.levels  # (B, K, D, F)
        values = self._values(numbers, self.levels).flatten(1, 2)
        missing = len(self.codebooks) * len(self.levels) - values.shape[1]  # of the codebooks that are left out
        return F.pad(values, (0, 0, 0, missing))

    @abstractmethod
    def _values(self, numbers: Tensor, levels: Tensor) -> Tensor:
        """What stands for the numbers of levels, between -1 and 1."""


class FSQ(ScalarQuantizer):
    """Finite scalar quantization, arXiv 2309.15505, as vector-quantize-pytorch computes it.

    Nothing in it is learnt but projections, so these few lines serve training as well. Levels are spaced by
    1 / (L // 2) and begin at -1; an even number of them has none at 1.
    """

    def __init__(self, config: FSQConfig, inputs: int):
        channels = len(config.levels) * config.num_codebooks
        width = channels if config.dim is None else config.dim
        super().__init__(config.levels, config.num_codebooks, width, config.noise_augment_dim)
        self.project_in = nn.Linear(width, channels) if width != channels else nn.Identity()
        self.project_out = nn.Linear(channels, width) if width != channels else nn.Identity()

    @full_precision
    def encode(self, x: Tensor, draws: Draws = None) -> Encoded:
        levels = self.levels_of_channels()
        half, offset = self.limits()
        bounded = torch.tanh(_mapped(self.project_in, x) + torch.atanh(offset / half)) * half - offset
        numbers = bounded.round() + levels // 2
        straight = (bounded - bounded.detach()) / (levels // 2)  # 0, with the gradient
        latents = _mapped(self.project_out, self._values(numbers, levels) + straight)
        return Encoded(latents, self._codes(numbers), {})

    def limits(self) -> tuple[Tensor, Tensor]:
        """What tanh is multiplied by before it is rounded, and what is subtracted then: (K D, 1) each."""
        levels = self.levels_of_channels()
        half = (levels - 1) * 1.001 / 2  # a little more, so that the outermost levels are reached
        return half, torch.where(levels % 2 == 0, 0.5, 0.0)

    def _values(self, numbers: Tensor, levels: Tensor) -> Tensor:
        return (numbers - levels // 2) / (levels // 2)

    @full_precision
    def _entries(self, codes: Tensor) -> Tensor:
        return _mapped(self.project_out, super()._entries(codes))


def _mapped(layer: nn.Module, x: Tensor) -> Tensor:
    """A layer of the last axis, on the channels (B, C, F)."""
    return layer(x.transpose(1, 2)).transpose(1, 2)


class DitheredFSQ(ScalarQuantizer):
    """stable-codec's: levels from -1 to 1, both included; training adds uniform noise of one step in place of rounding.

    Codes are those of the rounded values also in training, where the original's may leave their range.
    """

    def __init__(self, config: DitheredFSQConfig, inputs: int):
        super().__init__(config.of_each, config.num_codebooks, config.dim * config.num_codebooks)
        self.noise_dropout = config.noise_dropout

    @full_precision
    def encode(self, x: Tensor, draws: Draws = None) -> Encoded:
        levels, bounded = self.levels_of_channels(), torch.tanh(x)
        numbers = ((bounded + 1) * (levels - 1) / 2).round()
        values = self._values(numbers, levels) + (bounded - bounded.detach())  # straight-through gradient
        if self.training:
            dithered = bounded + (uniform(x.shape, x, draws) - 0.5) * 2 / (levels - 1)
            exact, still = (uniform((len(x), 1, 1), x, draws) < self.noise_dropout for _ in range(2))
            # Items are rounded with the chance p (1 - p), and with p² left as they are.
            values = torch.where(still, torch.where(exact, bounded, values), dithered)
        return Encoded(values, self._codes(numbers), {})

    def _values(self, numbers: Tensor, levels: Tensor) -> Tensor:
        return numbers * 2 / (levels - 1) - 1
