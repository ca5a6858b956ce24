"""Packet loss: its concealment in a decoder, and a model of how networks lose packets."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..model import NeuralCodec
from .stream import DecoderStream

HOLD, FADE = 0.08, 0.04  # seconds for which the last latent is held, and in which it then fades out


class Concealer:
    """Codes (N, frames) in, or None for lost frames; the audio (1, 1, samples) that is final by then out.

    A gap is filled with the last latent before it. In a long gap the audio fades out, and after it in again.
    """

    def __init__(self, model: NeuralCodec, stream: DecoderStream):
        self.model, self.stream = model, stream
        some = next(model.parameters())
        self.last = some.new_zeros(1, model.width, 1)
        self.begun = False  # whether any packet has arrived
        self.lost = 0  # frames since the last that arrived
        self.gains: list[float] = []  # of the frames whose audio is not complete yet
        self.before = 1.0  # the gain of the frame before those

    def feed(self, codes: np.ndarray | None, frames: int) -> Tensor:
        if codes is None:
            if not self.stream.frames:
                self.before = 0.0  # a lost beginning is silent from its first sample on
            latents = self.last.expand(-1, -1, frames)
            self.gains += [self._gain(self.lost + at + 1) for at in range(frames)]
            self.lost += frames
        else:
            latents = self.model.from_codes(torch.from_numpy(codes.astype(np.int64))[None].to(self.last.device))
            self.last, self.begun, self.lost = latents[..., -1:], True, 0
            self.gains += [1.0] * frames
        return self._faded(self.stream.feed_latents(latents))

    def finish(self) -> Tensor:
        return self._faded(self.stream.finish())

    def _gain(self, lost: int) -> float:
        """The gain of the n-th lost frame in a row: half a cosine from 1 to 0 after the hold."""
        if not self.begun:
            return 0.0
        over = lost * self.model.hop / self.model.sample_rate - HOLD
        return 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, over / FADE))))

    def _faded(self, audio: Tensor) -> Tensor:
        """Each sample times a gain that is interpolated linearly from frame to frame."""
        hop, end = self.model.hop, self.stream.samples
        start = end - audio.shape[-1]
        first = start // hop  # the frame that gains[0] belongs to
        levels = [self.before, *self.gains]
        done = end // hop - first  # frames that are complete now
        self.before, self.gains = levels[done], self.gains[done:]
        if all(level == 1.0 for level in levels):
            return audio
        places = torch.arange(start, end)
        frame, table = places // hop - first, torch.tensor(levels)
        low, high = table[frame], table[frame + 1]
        return audio * (low + (high - low) * ((places % hop + 1) / hop)).to(audio)


def gilbert(count: int, rate: float, burst: float, seed: int) -> np.ndarray:
    """Which of `count` packets Gilbert's model loses: a share `rate` in bursts of `burst` on average."""
    if not (1 <= burst < math.inf and 0 <= rate <= burst / (burst + 1)):
        raise ValueError(f"a share of {rate:g} cannot be lost in bursts of {burst:g} packets on average")
    enter, leave = rate / (burst * (1 - rate)), 1 / burst
    rng, losses = np.random.default_rng(seed), []
    lost = bool(rng.random() < rate)
    for draw in rng.random(count):
        losses.append(lost)
        lost = bool(draw >= leave if lost else draw < enter)
    return np.array(losses, bool)
