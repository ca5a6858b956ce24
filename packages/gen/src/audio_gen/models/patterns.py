"""Codebook patterns: in which order a language model predicts the codes of a frame.

A pattern lays codes (B, K, T) of K codebooks out as a sequence (B, K, S). A step of the sequence holds at most one code
of each codebook, and everywhere else a special token. Step 0 holds none: from it the first step with codes is
predicted. For two codebooks, five frames and a delay of 1 (AudioCraft's "delay", . is the special token):

    frames            steps 0 to 6
    a b c d e         . a b c d e .
    A B C D E         . . A B C D E
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from ..config.language import (
    CoarseFirstConfig,
    DelayConfig,
    MusicLMConfig,
    ParallelConfig,
    PatternConfig,
)


class Pattern(NamedTuple):
    """Where each code is. All else follows from it, since every code is in one step."""

    step: Tensor  # (K, T)
    steps: int
    trailing: int = 0  # steps at the end that training leaves out

    def build(self, codes: Tensor, special: int, whole: bool = True) -> Tensor:
        """Codes (B, K, T) -> the sequence (B, K, S); without the last `trailing` steps unless it is to be `whole`."""
        sequence = codes.new_full((*codes.shape[:2], self.steps), special)
        sequence.scatter_(2, self._index(codes), codes)
        return sequence if whole else sequence[..., : self.steps - self.trailing]

    def codes(self, sequence: Tensor) -> Tensor:
        """What `build` has laid out, the whole of it: (B, K, S) -> (B, K, T)."""
        return sequence.gather(2, self._index(sequence))

    def revert(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, K, S or fewer, N), each for the step after its own -> (B, K, T, N), with the mask (K, T).

        Where the mask is false the logits are 0: they are for steps that the sequence does not have.
        """
        before = self.step.to(logits.device) - 1
        mask = before + 1 < logits.shape[2]
        index = before.clamp(max=logits.shape[2] - 1)[None, :, :, None].expand(len(logits), -1, -1, logits.shape[3])
        return logits.gather(2, index).masked_fill(~mask[:, :, None], 0.0), mask

    def mask(self, whole: bool = True) -> Tensor:
        """(K, S), true where there is a code."""
        mask = torch.zeros(len(self.step), self.steps, dtype=torch.bool, device=self.step.device)
        mask.scatter_(1, self.step, True)
        return mask if whole else mask[:, : self.steps - self.trailing]

    def first_step(self, frame: int) -> int:
        """The first step with a code of this frame."""
        return int(self.step[:, frame].min())

    def _index(self, like: Tensor) -> Tensor:
        return self.step.to(like.device).expand(len(like), -1, -1)


@functools.lru_cache(maxsize=64)
def pattern(config: PatternConfig, codebooks: int, frames: int) -> Pattern:
    """The layout of so many frames of codes."""
    config.expect(codebooks)
    if frames < 1:
        raise ValueError(f"a pattern needs one frame or more, got {frames}")
    if isinstance(config, DelayConfig):
        delays = range(codebooks) if config.delays is None else config.delays
        return _delay([*delays], frames, config.flatten_first, config.empty_initial)
    if isinstance(config, ParallelConfig):
        return _delay([0] * codebooks, frames, 0, config.empty_initial)
    if isinstance(config, CoarseFirstConfig):
        return _coarse_first([0] * (codebooks - 1) if config.delays is None else [*config.delays], frames)
    if isinstance(config, MusicLMConfig):
        return _grouped(codebooks, frames, config.group_by)
    return _unroll(config.groups(codebooks), [0] * codebooks if config.delays is None else [*config.delays], frames)


def _delay(delays: list[int], frames: int, flatten_first: int = 0, empty_initial: int = 0) -> Pattern:
    codebooks, at = len(delays), torch.arange(frames)
    flat = min(flatten_first, frames)
    start = 1 + empty_initial + flat * codebooks  # of the frames with delays
    rows = []
    for codebook, delay in enumerate(delays):
        one_by_one = 1 + empty_initial + at * codebooks + codebook
        rows.append(torch.where(at < flat, one_by_one, start + at - flat + delay))
    trailing = max(delays) if flat < frames else 0
    return Pattern(torch.stack(rows), start + frames - flat + trailing, trailing)


def _coarse_first(delays: list[int], frames: int) -> Pattern:
    at = torch.arange(frames)
    rows = [1 + at, *(1 + frames + at + delay for delay in delays)]
    return Pattern(torch.stack(rows), 1 + 2 * frames + max(delays), max(delays))


def _grouped(codebooks: int, frames: int, group_by: int) -> Pattern:
    group, place = (torch.arange(codebooks)[:, None] // group_by, torch.arange(codebooks)[:, None] % group_by)
    return Pattern(1 + (group * frames + torch.arange(frames)) * group_by + place, 1 + codebooks * frames)


def _unroll(groups: tuple[int, ...], delays: list[int], frames: int) -> Pattern:
    """Steps are in the order of positions, which are frames plus delays, and at one position in that of frames.

    Delays make positions beyond the last frame. A group without codes there keeps its step, an empty one.
    """
    positions = frames + max(delays)
    delay = dict(zip(groups, delays, strict=True))
    taken = sorted(
        (frame + delay[group], frame, groups.index(group), group)
        for frame in range(positions)
        for group in delay
        if frame + delay[group] < positions
    )
    step = {(group, frame): at for at, (_, frame, _, group) in enumerate(taken, 1)}
    rows = [[step[group, frame] for frame in range(frames)] for group in groups]
    return Pattern(torch.tensor(rows), 1 + len(taken), max(delays))
