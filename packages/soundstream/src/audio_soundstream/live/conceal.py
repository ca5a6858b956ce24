"""Lost packets: what a decoder plays instead, and how networks lose them."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ..model import NeuralCodec
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
        self.gains: list[float] = []  # of the frames whose audio is not out whole
        self.before = 1.0  # gain of the frame before those

    def feed(self, codes: np.ndarray | None, frames: int) -> Tensor:
        if codes is None:
            if not self.stream.frames:
                self.before = 0.0  # a beginning that is lost is silent from its first sample on
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
        first = start // hop  # the frame that gains[0] belongs to
        levels = [self.before, *self.gains]
        done = end // hop - first  # frames that are out whole now
        self.before, self.gains = levels[done], self.gains[done:]
        if all(level == 1.0 for level in levels):
            return audio
        places = torch.arange(start, end)
        frame, table = places // hop - first, torch.tensor(levels)
        low, high = table[frame], table[frame + 1]
        return audio * (low + (high - low) * ((places % hop + 1) / hop)).to(audio)


def gilbert(count: int, rate: float, burst: float, seed: int) -> np.ndarray:
    """Which of `count` packets are lost: a share `rate` of them, in bursts of `burst` on average. (count,) bool"""
    if not (1 <= burst < math.inf and 0 <= rate <= burst / (burst + 1)):
        raise ValueError(f"a share of {rate:g} cannot be lost in bursts of {burst:g} packets on average")
    enter, leave = rate / (burst * (1 - rate)), 1 / burst
    rng, found = np.random.default_rng(seed), []
    lost = bool(rng.random() < rate)
    for draw in rng.random(count):
        found.append(lost)
        lost = bool(draw >= leave if lost else draw < enter)
    return np.array(found, bool)
