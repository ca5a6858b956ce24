"""SEMamba: a dense encoder, TF-Mamba blocks, and decoders of magnitude and phase, as in arXiv 2405.06573.

A causal model can also work frame by frame: `start` gives the state before the first frame, and the estimates that
`stream` gives for pieces of any number of frames join to the one of `forward`.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from audio_core.dsp.precision import full_precision
from audio_core.files import InputError
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from . import PACKAGE
from .compressed import CompressedSTFT
from .config import SEMambaConfig
from .layers import Encoder, Level, MagnitudeDecoder, PhaseDecoder
from .mamba import TFBlock

_LEVEL_SECONDS = 2.0  # in which the weight of a frame in a causal model's level falls to 1 / e


class Estimate(NamedTuple):
    """The spectrogram of the enhanced speech, with compressed magnitudes."""

    magnitude: Tensor  # (B, F, T)
    phase: Tensor  # (B, F, T), radians
    parts: Tensor  # (B, F, T, 2): real and imaginary part


class State(NamedTuple):
    """What a causal model keeps of the frames so far; all of one size, however many these were."""

    level: Tensor
    encoder: tuple[Tensor, ...]
    blocks: tuple[tuple[Tensor, Tensor], ...]
    magnitude: tuple[Tensor, ...]
    phase: tuple[Tensor, ...]


class SEMamba(nn.Module):
    """The generator. It estimates a mask for the noisy magnitudes, and the phase."""

    Config = SEMambaConfig

    def __init__(self, config: SEMambaConfig):
        super().__init__()
        self.config = config
        self.checkpointing = False
        """Training computes the inside of each block again for the gradients, instead of keeping it in memory."""
        channels, causal = config.channels, config.causal
        self.corrects = config.phase == "correction"
        self.stft = CompressedSTFT(config.n_fft, config.hop, config.window, config.compress)
        if causal:
            power_of_one = 0.375 * config.window  # of Hann's squares the sum: |X|² of a signal whose RMS is 1
            frames = _LEVEL_SECONDS * config.rate / config.hop
            self.level = Level(frames, power_of_one, config.compress)
        self.encoder = Encoder(3 if self.corrects else 2, channels, config.dense, causal)
        scan = channels, config.state, config.conv, config.expand, config.eps
        self.blocks = nn.ModuleList(TFBlock(*scan, causal) for _ in range(config.blocks))
        self.magnitude_decoder = MagnitudeDecoder(channels, config.dense, config.bins, config.beta, causal)
        self.phase_decoder = PhaseDecoder(channels, config.dense, causal)
        if self.corrects:
            with torch.no_grad():  # begin near a rotation by 0
                self.phase_decoder.last.bias.copy_(torch.tensor([1.0, 0.0]))

    def forward(self, magnitude: Tensor, phase: Tensor) -> Estimate:
        """Compressed magnitudes and phases of noisy speech, (B, F, T) each."""
        level = self.level(magnitude)[0] if self.config.causal else None
        x = self.encoder(self._input(magnitude, phase, level)).permute(0, 2, 3, 1).float()  # (B, T, bands, C)
        for block in self.blocks:
            if self.checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, use_reentrant=False, preserve_rng_state=False)
            else:
                x = block(x)
        x = x.permute(0, 3, 1, 2)
        return self._estimate(magnitude, phase, self.magnitude_decoder(x), self.phase_decoder(x))

    def start(self, batch: int = 1) -> State:
        """The state before the first frame, for a batch of `batch` streams."""
        if not self.config.causal:
            raise ValueError("only a causal model streams; this one looks at the whole recording")
        self._expect_rest()
        bins, bands = self.config.bins, self.config.bands
        return State(
            self.level.start(batch),
            self.encoder.dense.start(batch, bins),
            tuple(block.time.start(batch * bands) for block in self.blocks),
            self.magnitude_decoder.dense.start(batch, bands),
            self.phase_decoder.dense.start(batch, bands),
        )

    def stream(self, magnitude: Tensor, phase: Tensor, state: State) -> tuple[Estimate, State]:
        """The next frames (B, F, any number from 1 on), and the state after them."""
        gain, level = self.level(magnitude, state.level)
        x, encoder = self.encoder.stream(self._input(magnitude, phase, gain), state.encoder)
        x, blocks = x.permute(0, 2, 3, 1), []
        for block, before in zip(self.blocks, state.blocks, strict=True):
            x, after = block.stream(x, before)
            blocks.append(after)
        x = x.permute(0, 3, 1, 2)
        mask, mask_state = self.magnitude_decoder.stream(x, state.magnitude)
        vector, vector_state = self.phase_decoder.stream(x, state.phase)
        estimate = self._estimate(magnitude, phase, mask, vector)
        return estimate, State(level, encoder, tuple(blocks), mask_state, vector_state)

    @torch.no_grad()
    def enhance(self, audio: Tensor, level: Tensor | None = None) -> Tensor:
        """Noisy speech (B, T) -> the enhanced, of the same length and level.

        `level` (B, 1) is the root mean square of the recording where `audio` is a part of it. A causal model has a
        running level of its own, since nobody knows that of what is to come.
        """
        self._expect_rest()
        length = audio.shape[-1]
        shortest = self.config.n_fft // 2 + 1  # which the STFT can reflect
        if self.config.causal:
            level = audio.new_ones(1)
        elif level is None:
            level = audio.square().mean(-1, keepdim=True).sqrt()
        level = level.clamp(min=1e-8)  # silence stays silence
        noisy = self.stft(F.pad(audio / level, (0, max(shortest - length, 0))))
        estimate = self(noisy.magnitude, noisy.phase)
        return self.stft.inverse(estimate.magnitude, estimate.phase, length) * level

    def _expect_rest(self) -> None:
        if self.training and self.config.causal:
            raise InputError("the model is in training mode, where its norms follow the audio: call model.eval() first")

    @full_precision
    def _input(self, magnitude: Tensor, phase: Tensor, gain: Tensor | None) -> Tensor:
        """(B, F, T) each -> (B, 2 or 3, T, F)"""
        if gain is not None:  # (B, 1, T)
            magnitude = magnitude * gain
        parts = (magnitude * phase.cos(), magnitude * phase.sin()) if self.corrects else (phase,)
        return torch.stack([magnitude, *parts], 1).mT

    @full_precision
    def _estimate(self, magnitude: Tensor, phase: Tensor, mask: Tensor, vector: Tensor) -> Estimate:
        """(B, F, T), (B, F, T), (B, 1, T, F), (B, 2, T, F)"""
        magnitude = magnitude * mask[:, 0].mT
        angle = torch.atan2(vector[:, 1], vector[:, 0]).mT
        phase = phase + angle if self.corrects else angle
        return Estimate(magnitude, phase, torch.stack([magnitude * phase.cos(), magnitude * phase.sin()], -1))


def load(path: str | Path = "default", device: str = "cpu") -> SEMamba:
    """The model of a bundle or run, by its folder or Hub id; or of the wheel: `default`, or `causal` for live audio."""
    return PACKAGE.load(path, [SEMamba], device)
