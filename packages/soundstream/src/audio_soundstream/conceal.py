"""Lost packets: what a decoder plays instead, and how networks lose them."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from .model import NeuralCodec
from .stream import DecoderStream

HOLD, FADE = 0.08, 0.04  # seconds that the last sound goes on, and that it takes to vanish after that


class Concealer:
    """Codes (N, frames) in, or None for lost frames; audio (1, 1, what is final) out.

    A gap is filled with the last latent before it, which fades away when the gap is long and comes back after it.
    """

    def __init__(self, model: NeuralCodec, stream: DecoderStream):
        self.model, self.stream = model, stream
        some = next(model.parameters())
        self.last = some.new_zeros(1, model.width, 1)
        self.heard = False  # anything at all yet
        self.lost = 0  # frames since the last one that came
        self.gains: list[float] = []  # of the frames whose audio is not out, the first being frame `self.first`
        self.first = 0
        self.before = 1.0  # gain of the frame before that

    def feed(self, codes: np.ndarray | None, frames: int) -> Tensor:
        if codes is None:
            latents = self.last.expand(-1, -1, frames)
            self.gains += [self._gain(self.lost + at + 1) for at in range(frames)]
            self.lost += frames
        else:
            latents = self.model.from_codes(torch.from_numpy(codes.astype(np.int64))[None].to(self.last.device))
            self.last, self.heard, self.lost = latents[..., -1:], True, 0
            self.gains += [1.0] * frames
        return self._faded(self.stream.feed_latents(latents))

    def finish(self) -> Tensor:
        return self._faded(self.stream.finish())

    def _gain(self, lost: int) -> float:
        """Of the n-th lost frame in a row: half a cosine down after the hold."""
        if not self.heard:
            return 0.0
        over = lost * self.model.hop / self.model.sample_rate - HOLD
        return 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, over / FADE))))

    def _faded(self, audio: Tensor) -> Tensor:
        """Each sample times a gain that goes on a line from frame to frame."""
        hop, end = self.model.hop, self.stream.samples
        start = end - audio.shape[-1]
        if self.before == 1.0 and all(gain == 1.0 for gain in self.gains):
            gained = audio
        else:
            places = torch.arange(start, end)
            frame = places // hop - self.first
            levels = torch.tensor([self.before, *self.gains, self.gains[-1] if self.gains else self.before])
            low, high = levels[frame], levels[frame + 1]
            gain = low + (high - low) * ((places % hop + 1) / hop)
            gained = audio * gain.to(audio)
        done = end // hop - self.first  # frames that are out whole
        if done > 0:
            self.before, self.gains, self.first = self.gains[done - 1], self.gains[done:], self.first + done
        return gained


def gilbert(count: int, rate: float, burst: float, seed: int) -> np.ndarray:
    """Which of `count` packets are lost: a share `rate` of them, in bursts of `burst` on average. (count,) bool"""
    if not 0 <= rate < 1 or burst < 1 or rate > burst / (burst + 1):
        raise ValueError(f"a share of {rate:g} cannot be lost in bursts of {burst:g} packets")
    rng, lost, found = np.random.default_rng(seed), False, []
    enter = rate / (burst * (1 - rate))
    draws = rng.random(count)
    if count and rng.random() < rate:
        lost = True
    for draw in draws:
        found.append(lost)
        lost = draw >= 1 / burst if lost else draw < enter
    return np.array(found, bool)
