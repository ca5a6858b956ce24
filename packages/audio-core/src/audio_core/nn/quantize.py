"""The residual vector quantizer of neural codecs: each vector becomes a sum of codebook entries.

A trained codec needs `codes` and `from_codes` alone, which are computed here. Learning codebooks (k-means, moving
averages, revival of dead entries, sums over processes) is left to vector-quantize-pytorch. It is imported when a
training begins, since importing it takes longer than importing PyTorch.

Its public `codebook` only copies entries in and out. The moving averages, the flag of the k-means and the threshold of
revival can be reached through private fields alone, so the extra `quantize` names the versions that have these.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..dsp.precision import full_precision
from ..files import InputError

PRIVATE = ("embed", "embed_avg", "cluster_size", "initted", "threshold_ema_dead_code", "reset_cluster_size")
"""The private fields that are used of `_codebook`, in the layers of vector-quantize-pytorch."""


class Quantised(NamedTuple):
    latents: Tensor  # (B, D, F): sums of entries; the gradient passes straight through to the input
    codes: Tensor  # (B, N, F)
    losses: Tensor  # (N,): mean squared distance of each layer's input to its entries


class ResidualQuantizer(nn.Module):
    """N layers of K entries; each layer quantizes the residual of those before: (B, D, F) <-> codes (B, N, F).

    In training, entries begin as k-means of the first batch. Then each is a moving average (`decay`) of the vectors
    that chose it. An entry that is chosen less than `revive` times as often as the mean is replaced by a vector of the
    batch. `losses` are the commitment losses of the layers, which pull the encoder towards the entries. Without
    `learns` the entries stay as they are, also in training.
    """

    codebooks: Tensor
    counts: Tensor
    sums: Tensor
    started: Tensor

    def __init__(
        self, width: int, layers: int, size: int, decay: float = 0.99, revive: float = 0.5, learns: bool = True
    ):
        super().__init__()
        self.decay, self.revive, self.learns = decay, revive, learns
        self.register_buffer("codebooks", torch.zeros(layers, size, width))
        self.register_buffer("counts", torch.ones(layers, size))  # moving average of how often each was chosen
        if learns:
            self.register_buffer("sums", torch.zeros(layers, size, width))  # and of the vectors that chose it
            self.register_buffer("started", torch.zeros(layers, dtype=torch.bool))
        self._teacher: tuple[int, Any] | None = None
        self._squares: tuple[tuple[int, int], Tensor] | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        layers, size, _ = self.codebooks.shape
        return (size,) * layers

    # --- what a trained codec does -------------------------------------------------------------------------

    @torch.no_grad()
    @full_precision
    def codes(self, latents: Tensor, layers: int | None = None) -> Tensor:
        """(B, D, F) -> the nearest entries of the first `layers` (B, N, F); of equally near ones the first."""
        residual, codes = latents.transpose(1, 2), []
        for at in range(len(self.codebooks))[:layers]:
            entries, chosen = self._nearest(residual, at)
            residual = residual - entries
            codes.append(chosen)
        return torch.stack(codes, 1)

    def from_codes(self, codes: Tensor) -> Tensor:
        """The first N layers' codes (B, N, F) -> (B, D, F)."""
        layers, size, _ = self.codebooks.shape
        if not 1 <= codes.shape[1] <= layers:
            raise InputError(f"codes of {codes.shape[1]} layers, but the codec has {layers}")
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < size:
            raise InputError(f"codes from {int(codes.min())} to {int(codes.max())}, but codebooks have {size} entries")
        picked = [book[chosen] for book, chosen in zip(self.codebooks, codes.unbind(1), strict=False)]
        return torch.stack(picked).sum(0).transpose(1, 2)

    def _half_squares(self) -> Tensor:
        """(N, K) |c|²/2, computed once for as long as the entries stay."""
        if self.codebooks.is_inference():  # loaded in inference mode, which counts no changes
            return self.codebooks.square().sum(-1) / 2
        key = (self.codebooks.data_ptr(), self.codebooks._version)
        if self._squares is None or self._squares[0] != key or self._squares[1].device != self.codebooks.device:
            self._squares = (key, self.codebooks.detach().square().sum(-1) / 2)
        return self._squares[1]

    # --- learning ------------------------------------------------------------------------------------------

    @full_precision
    def forward(self, latents: Tensor, counts: Tensor | None = None) -> Quantised:
        """For quantizer dropout, item b is reconstructed from `counts[b]` layers; all layers learn from all items."""
        residual, total, codes, losses = latents.transpose(1, 2), torch.zeros_like(latents), [], []
        find = self._learn if self.training and self.learns else self._nearest
        for at in range(len(self.codebooks)):
            entries, chosen = find(residual.detach(), at)
            losses.append((residual - entries).square().mean())
            used = 1 if counts is None else (counts > at)[:, None, None]
            total = total + (entries * used).transpose(1, 2)
            residual = residual - entries  # entries carry no gradient: each layer's loss reaches the encoder
            codes.append(chosen)
        through = latents + (total - latents).detach()  # straight-through gradient
        return Quantised(through, torch.stack(codes, 1), torch.stack(losses))

    @torch.no_grad()
    def _nearest(self, residual: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """(B, F, D) -> entries (B, F, D) and codes (B, F)."""
        # |r - c|² = |r|² + 2 (|c|²/2 - r c), and |r|² is the same for all entries.
        book, square = self.codebooks[layer], self._half_squares()[layer]
        chosen = torch.addmm(square, residual.flatten(0, 1), book.T, alpha=-1).argmin(-1)
        chosen = chosen.view(residual.shape[:2])
        return book[chosen], chosen

    @torch.no_grad()
    def _learn(self, residual: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """As `_nearest`, and the layer learns from the vectors."""
        self._squares = None
        learner = self._learners()[layer]
        processes = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
        mean = residual[..., 0].numel() * processes / self.codebooks.shape[1]
        # A revived entry gets the mean count, so that it is not replaced again at once.
        learner._codebook.threshold_ema_dead_code, learner._codebook.reset_cluster_size = self.revive * mean, mean
        entries, chosen, _ = learner(residual)
        return entries, chosen

    def _learners(self) -> nn.ModuleList:
        """Layers of vector-quantize-pytorch whose buffers are views of ours, so that they update our codebooks."""
        place = self.codebooks.data_ptr()
        if self._teacher is None or self._teacher[0] != place:
            try:
                from loguru import logger
                from vector_quantize_pytorch import ResidualVQ
            except ImportError:
                raise InputError('learning codebooks needs: pip install "audio-core[quantize]"') from None
            logger.disable("vector_quantize_pytorch")  # it remarks on first batches smaller than a codebook
            layers, size, width = self.codebooks.shape
            with torch.random.fork_rng(devices=[]):  # its first values are thrown away
                teacher = ResidualVQ(
                    dim=width,
                    num_quantizers=layers,
                    codebook_size=size,
                    decay=self.decay,
                    kmeans_init=True,
                    threshold_ema_dead_code=1,  # set in each step
                    rotation_trick=False,
                ).to(self.codebooks.device)
            for at, layer in enumerate(teacher.layers):
                book = layer._codebook
                book.embed, book.embed_avg = self.codebooks[at : at + 1], self.sums[at : at + 1]
                book.cluster_size, book.initted = self.counts[at : at + 1], self.started[at]
            self._teacher = (place, teacher)
        return self._teacher[1].train().layers

    @torch.no_grad()
    def load_codebooks(self, codebooks: Tensor) -> None:
        """Set the entries (N, K, D); no layer begins with k-means any more."""
        self.codebooks.copy_(codebooks)
        self.counts.fill_(1.0)
        if self.learns:
            self.sums.copy_(codebooks)
            self.started.fill_(True)


def usage(codes: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """For each layer of codes (B, N, F): the entropy in bits (N,), and the share of the `size` entries in use (N,)."""
    flat = codes.transpose(0, 1).flatten(1)  # (N, B * F)
    counts = torch.zeros(len(flat), size, device=codes.device).scatter_add_(
        1, flat, torch.ones(flat.shape, device=codes.device)
    )
    shares = counts / counts.sum(1, keepdim=True)
    return torch.special.entr(shares).sum(1) / math.log(2), (counts > 0).float().mean(1)
