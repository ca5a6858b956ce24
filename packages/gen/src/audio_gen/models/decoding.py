"""Codes drawn from a language model, step by step.

    codes = generate_codes(model, frames=500, settings=CodeSampling(guidance=3.0), seeds=item_seeds(1, 4),
                           conditions={"cross_attn_cond": text})

An item's codes depend on its seed and its conditions, not on the batch. Keys and values of what the model has seen are
kept, so each step computes one position.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from audio_core.config import kind
from audio_core.dsp.precision import full_precision
from audio_core.files import InputError
from torch import Tensor

from ..config.language import CodeSampling
from .guidance import Conditions, doubled
from .language import LanguageModel

_BELOW_ONE = 1 - 2**-22  # times a sum in float32 stays below the sum


@dataclass(frozen=True)
class CodeStep:
    """What a step of the sequence has got."""

    index: int
    """From 0 on, of the steps with codes to be drawn."""
    steps: int
    """Of all."""
    codes: Tensor
    """(B, K), the special token where the pattern has no code."""


def _ignore(step: CodeStep) -> None:
    pass


def item_draws(seeds: Sequence[int], codebooks: int, frames: int) -> Tensor:
    """A number from 0 to below 1 for each code of each item, (B, K, T).

    It depends on the item's seed, the frame and the codebook, and on nothing else. numpy draws it on the CPU, as the
    noise of diffusion, so that all devices draw the same.
    """
    drawn = [np.random.default_rng(seed).random((frames, codebooks), np.float32) for seed in seeds]
    return torch.from_numpy(np.stack(drawn)).transpose(1, 2).clamp(max=_BELOW_ONE)


class Window(NamedTuple):
    """The frames that the model sees at a time."""

    start: int
    known: int
    """Where those to be generated begin."""
    stop: int


def windows(known: int, frames: int, settings: CodeSampling) -> list[Window]:
    """From the first `known` frames to all `frames`. Each window but the first begins with the end of the last."""
    result = []
    while known < frames:
        start, stop = 0, frames
        if settings.window is not None and settings.stride is not None:
            if known >= settings.window:
                start = known - settings.window + settings.stride
            stop = min(frames, start + settings.window)
        result.append(Window(start, known, stop))
        known = stop
    return result


@torch.no_grad()
def generate_codes(
    model: LanguageModel,
    frames: int | Sequence[int],
    settings: CodeSampling,
    seeds: Sequence[int],
    conditions: Conditions | None = None,
    negative: Conditions | None = None,
    prompt: Tensor | None = None,
    callback: Callable[[CodeStep], object] = _ignore,
    cached: bool = True,
) -> Tensor:
    """Codes (B, K, T), one item for each seed; they begin with those of `prompt` (B, K, fewer frames).

    `frames` is T, or says how many frames each item has: T is the largest of them, and behind the others come zeros.
    Guidance goes away from zeros in place of the tokens of `conditions`, or from `negative` tokens. `callback` gets
    each step; what it raises ends the generation. Without `cached` every step sees the whole sequence again.
    """
    lengths = torch.tensor([frames] * len(seeds) if isinstance(frames, int) else [*frames])
    codes = _start(model, lengths, seeds, prompt)
    known = 0 if prompt is None else prompt.shape[2]
    conditions = {name: value for name, value in (conditions or {}).items() if value is not None}
    if settings.guidance != 1:
        conditions = doubled(conditions, {k: v for k, v in (negative or {}).items() if v is not None})
    draws = item_draws(seeds, *codes.shape[1:]).to(codes.device)
    drafts = [Draft(model, codes, draws, lengths, window) for window in windows(known, codes.shape[2], settings)]
    total, index = sum(len(draft.steps) for draft in drafts), 0
    for draft in drafts:
        draft.begin()
        cache = model.transformer.start() if cached else None
        for step in draft.steps:
            seen = cache.positions > 0 if cache else False
            sequence = draft.sequence[..., draft.filled if seen else 0 : step]
            hidden = model.hidden(
                torch.cat([sequence, sequence]) if settings.guidance != 1 else sequence,
                **({} if seen else conditions),
                cache=cache,
            )
            logits = model.heads(hidden[:, -1:])[:, :, 0]
            draft.fill(step, choose(logits, settings, draft.draws[..., step]))
            callback(CodeStep(index, total, draft.sequence[..., step]))
            index += 1
        draft.finish()
    return codes


class Draft:
    """The sequence of a window in which codes are filled in."""

    def __init__(self, model: LanguageModel, codes: Tensor, draws: Tensor, lengths: Tensor, window: Window):
        """codes and draws (B, K, T) of items with `lengths` (B,); `finish` writes the codes that the window adds."""
        self.codes, self.special = codes[..., window.start : window.stop], model.special
        self.pattern = model.pattern(window.stop - window.start)
        self.draws = self.pattern.build(draws[..., window.start : window.stop], 0)
        frame = torch.full((codes.shape[1], self.pattern.steps), -1)  # (K, S), -1 where there is no code
        frame.scatter_(1, self.pattern.step, torch.arange(window.start, window.stop).expand(codes.shape[1], -1))
        self.steps: list[int] = (frame >= window.known).any(0).nonzero()[:, 0].tolist()
        """Those with a code that is not known."""
        self.unknown = (frame >= window.known).to(codes.device)
        self.ended = (frame >= lengths[:, None, None]).to(codes.device)  # (B, K, S)

    def begin(self) -> None:
        self.sequence = self.pattern.build(self.codes, self.special)
        self.filled = 0

    def fill(self, step: int, drawn: Tensor) -> None:
        """The codes (B, K) of a step. Those that are known stay, and where there is none comes the special token."""
        place = self.sequence[..., step]
        drawn = drawn.masked_fill(self.ended[..., step], self.special)
        place.copy_(torch.where(self.unknown[:, step], drawn, place))
        self.filled = step

    def finish(self) -> None:
        codes = self.pattern.codes(self.sequence)
        self.codes.copy_(codes.masked_fill(codes == self.special, 0))


def _start(model: LanguageModel, lengths: Tensor, seeds: Sequence[int], prompt: Tensor | None) -> Tensor:
    """(B, K, T), with the codes of the prompt."""
    if len(lengths) != len(seeds):
        raise InputError(f"frames: {len(lengths)} numbers do not fit {len(seeds)} items")
    fewest, most = int(lengths.min()), int(lengths.max())
    if fewest < 1:
        raise InputError(f"frames: expected numbers from 1 on, got {fewest}")
    if not torch.equal(model.pattern(fewest).step, model.pattern(most).step[:, :fewest]):
        raise InputError(
            f"frames: {kind(type(model.config.pattern))} has other steps for other lengths, so all items of a batch "
            "must have the same; generate them one by one"
        )
    shape = (len(seeds), model.config.codebooks, most)
    codes = torch.zeros(shape, dtype=torch.int64, device=model.embeds[0].weight.device)
    if prompt is not None:
        given = prompt.shape[2]
        if prompt.shape[:2] != shape[:2]:
            raise InputError(f"prompt: expected {shape[0]} items of {shape[1]} codebooks, got {[*prompt.shape[:2]]}")
        if given >= fewest:
            raise InputError(f"prompt: has {given} frames already; ask for more than that, not {fewest}")
        if given and not 0 <= int(prompt.min()) <= int(prompt.max()) < model.special:
            raise InputError(f"prompt: codes go from 0 to {model.special - 1}; these do not")
        codes[..., :given] = prompt
    return codes


@full_precision
def choose(logits: Tensor, settings: CodeSampling, draws: Tensor) -> Tensor:
    """Logits (B, K, N) and draws (B, K) -> codes (B, K).

    With guidance the unconditioned logits follow in the batch, (2 B, K, N).
    """
    if settings.guidance != 1:
        conditioned, unconditioned = logits.chunk(2)
        logits = unconditioned + settings.guidance * (conditioned - unconditioned)
    if settings.temperature == 0:
        return logits.argmax(-1)
    logits = logits - logits.amax(-1, keepdim=True)  # no quotient overflows
    kept = likeliest((logits / settings.temperature).softmax(-1), settings)
    below = kept.cumsum(-1)
    at = draws[..., None] * below[..., -1:]
    return torch.searchsorted(below, at, right=True)[..., 0]  # the first code beyond: its probability is not 0


def likeliest(probabilities: Tensor, settings: CodeSampling) -> Tensor:
    """Probabilities (..., N), 0 for codes that `top_p` or `top_k` leave out."""
    if settings.top_p:
        ordered, order = probabilities.sort(-1, descending=True)
        before = ordered.cumsum(-1) - ordered
        kept = torch.zeros_like(probabilities, dtype=torch.bool).scatter(-1, order, before < settings.top_p)
    elif 0 < settings.top_k < probabilities.shape[-1]:
        kept = probabilities >= probabilities.topk(settings.top_k).values[..., -1:]
    else:
        return probabilities
    return probabilities.masked_fill(~kept, 0.0)
