"""What the demonstration trains: a toy network that takes hiss out of tunes, its samples and its task."""

from dataclasses import dataclass

import numpy as np
import torch
from audio_core.data.segments import Segments
from audio_core.dsp.stft import STFT
from audio_core.nn.conv import Conv1d
from audio_core.nn.residual import ResidualUnit
from audio_core.train.optimize import AdamW, Cosine
from audio_core.train.plan import Plan
from audio_core.train.player import Player
from torch import Tensor, nn


class Denoiser(nn.Module):
    """A mask on the spectrogram from three residual units over time. (B, C, T) -> (B, C, T)."""

    @dataclass(frozen=True)
    class Config:
        width: int = 48
        n_fft: int = 512

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        bins, width = config.n_fft // 2 + 1, config.width
        self.stft = STFT(config.n_fft, config.n_fft // 4)
        self.mask = nn.Sequential(
            Conv1d(bins, width, 3),
            *(ResidualUnit(width, 3, dilation, activation=lambda _: nn.GELU()) for dilation in (1, 2, 4)),
            Conv1d(width, bins, 3),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        spectrum = self.stft(x.flatten(0, 1))  # (B * C, F, frames)
        level = 0.3 * torch.log(spectrum.abs() + 1e-2)
        return self.stft.inverse(spectrum * self.mask(level), x.shape[-1]).view_as(x)


class Noisy:
    """Clean segments and the noise to add, as functions of the index."""

    def __init__(self, clean: Segments, seed: int):
        self.clean, self.seed = clean, seed

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.seed, index, 1))
        clean = self.clean[index]
        hiss = torch.from_numpy(rng.standard_normal(clean.shape).astype(np.float32))
        return {"clean": clean, "noisy": clean + rng.uniform(0.02, 0.1) * hiss}

    def name(self, index: int) -> str:
        return self.clean.name(index)


class Denoising:
    """The task: its player, and one training step."""

    def __init__(self, plan: Plan):
        net = Denoiser(Denoiser.Config())
        self.net = Player(net, AdamW(lr=2e-3).build(net.parameters()), Cosine(total=plan.steps, warmup=20), clip=1.0)
        self.players = {"net": self.net}
        self.losses: list[Tensor] = []

    def step(self, batch: dict[str, Tensor], at: int) -> dict[str, Tensor]:
        estimate = self.net(batch["noisy"])
        loss = nn.functional.l1_loss(estimate, batch["clean"])
        self.net.update(loss)
        self.losses.append(loss.detach())
        return {"error": loss.detach()}
