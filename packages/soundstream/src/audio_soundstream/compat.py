"""What the original programs compute where the codecs here do better: for equality with them and for comparisons.

Both quantizers search as ResidualQuantizer does, so trained codebooks move over; they differ in how these learn.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from audio_core.dsp.precision import full_precision
from audio_core.nn.quantize import Quantised, ResidualQuantizer
from torch import Tensor, nn

EPS = 1e-5


class _Original(ResidualQuantizer):
    def __init__(self, width: int, layers: int, size: int):
        super().__init__(width, layers, size)
        nn.init.uniform_(self.codebooks, -1 / size, 1 / size)


class MovingQuantizer(_Original):
    """SoundStream's: moving averages from zero on, without k-means, without revival.

    After the first step every entry that nobody chose is zero, the smoothed counts are written back, and only the
    first layer's loss reaches the encoder.
    """

    def __init__(self, width: int, layers: int, size: int):
        super().__init__(width, layers, size)
        self.counts.zero_()

    @full_precision
    def forward(self, latents: Tensor, counts: Tensor | None = None) -> Quantised:
        """The batch uses as many layers as its largest of `counts`; the others learn nothing."""
        residual, total, codes, losses = latents.transpose(1, 2), torch.zeros_like(latents), [], []
        for at in range(len(self.codebooks) if counts is None else int(counts.max())):
            entries, chosen = self._nearest(residual, at)
            losses.append(F.mse_loss(residual, entries))
            if self.training:
                self._move(residual.detach().flatten(0, 1), chosen.flatten(), at)
            through = residual + (entries - residual).detach()
            total = total + through.transpose(1, 2)
            residual = residual - through
            codes.append(chosen)
        return Quantised(total, torch.stack(codes, 1), torch.stack(losses))

    @torch.no_grad()
    def _move(self, vectors: Tensor, chosen: Tensor, layer: int) -> None:
        """vectors (P, D) and their entries (P,)"""
        counts, sums, size = self.counts[layer], self.sums[layer], self.counts.shape[1]
        counts.lerp_(torch.bincount(chosen, minlength=size).to(counts), 1 - self.decay)
        total = counts.sum()
        counts.copy_((counts + EPS) / (total + size * EPS) * total)
        sums.lerp_(torch.zeros_like(sums).index_add_(0, chosen, vectors), 1 - self.decay)
        self.codebooks[layer] = sums / counts[:, None]


class GradientQuantizer(_Original):
    """TinyStream's: entries are parameters that follow what chose them; nothing pulls the encoder, and every item is
    rebuilt from all layers whatever `counts` says."""

    def __init__(self, width: int, layers: int, size: int):
        super().__init__(width, layers, size)
        entries = self.codebooks
        del self.codebooks, self.counts, self.sums, self.started
        self.codebooks = nn.Parameter(entries)

    @full_precision
    def forward(self, latents: Tensor, counts: Tensor | None = None) -> Quantised:
        residual, total, codes, losses = latents.transpose(1, 2), torch.zeros_like(latents), [], []
        for at in range(len(self.codebooks)):
            _, chosen = self._nearest(residual, at)
            entries = F.embedding(chosen, self.codebooks[at])
            losses.append(F.mse_loss(entries, residual.detach()))
            through = residual + (entries - residual).detach()
            total = total + through.transpose(1, 2)
            residual = residual - through
            codes.append(chosen)
        return Quantised(total, torch.stack(codes, 1), torch.stack(losses))

    @torch.no_grad()
    def load_codebooks(self, codebooks: Tensor) -> None:
        self.codebooks.copy_(codebooks)


def rebuild(model: nn.Module, audio: Tensor) -> Tensor:
    """The output of the original's `forward` for audio (B, 1, T): TinyStream drops the samples that fill no whole
    frame and cuts the middle of what its decoder makes, so that most lengths come back shifted."""
    tiny = type(model).__name__ == "TinyStream"
    frames = model.encoder(audio)
    made = model.decoder(model.from_codes(model.quantizer.codes(frames)))
    begin = max(0, (made.shape[-1] - audio.shape[-1]) // 2) if tiny else 0
    made = made[..., begin : begin + audio.shape[-1]]
    return F.pad(made, (0, audio.shape[-1] - made.shape[-1]))
