"""Recordings that are changed: parts of them generated anew, continued, or varied as a whole.

All take and give (C, T) at the recording's own rate. What is kept is the recording itself, sample for sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from audio_core import audio
from audio_core.files import InputError
from torch import Tensor

from . import diffuse, generate_codes
from .config import AudioConfig
from .diffuse import Given
from .diffusion import ItemNoise, Step, item_seeds
from .generate import described, expect_guidance, generate, samples_of, stated
from .models.conditioners.base import device_of
from .models.conditioners.multi import Item
from .models.decoding import CodeStep
from .models.diffusion import Diffusion
from .models.diffusion_autoencoder import DiffusionAutoencoder
from .models.lm import LM

BLEND = 0.01
"""Seconds over which what is generated departs from the last kept sample."""


def inpaint(
    model: Diffusion,
    recording: np.ndarray,
    rate: int,
    keep: Sequence[tuple[float, float]],
    prompt: str | Item = "",
    seed: int = -1,
    **settings: Any,
) -> np.ndarray:
    """The recording with all but the seconds of `keep` generated anew. Settings are those of `generate`.

    Of a recording that is longer than the model generates, each gap is filled with the same length on both sides heard.
    """
    _expect_diffusion(model, "inpaint")
    recording = audio.samples(recording)
    regions = regions_of(keep, recording.shape[1], rate)
    if not _gaps(regions, recording.shape[1]):
        raise InputError("keep: all of the recording is kept, so there is nothing to generate")
    window = model.config.samples * rate // model.config.rate
    if recording.shape[1] * model.config.rate <= model.config.most * rate:
        return _inpainted(model, recording, rate, regions, prompt, seed=seed, **settings)
    seed, result, kept = item_seeds(seed, 1)[0], recording.copy(), regions
    for number, (start, end) in enumerate(_gaps(regions, recording.shape[1])):
        if end - start >= window:
            raise InputError(
                f"keep: from {start / rate:g} to {end / rate:g} s nothing is kept, and this model generates up to "
                f"{window / rate:.4g} s; keep more, or go on with `continue`"
            )
        first = min(max(0, (start + end - window) // 2), recording.shape[1] - window)
        part = result[:, first : first + window]
        within = [(max(0, one - first), min(window, other - first)) for one, other in kept]
        heard = [(one, other) for one, other in within if one < other]  # and not what is to be filled later
        filled = _inpainted(model, part, rate, heard, prompt, seed=seed + number, **settings)
        result[:, start:end] = filled[:, start - first : end - first]
        kept = sorted([*kept, (start, end)])
    return result


def _gaps(regions: Sequence[tuple[int, int]], samples: int) -> list[tuple[int, int]]:
    """What lies between the regions."""
    edges = [0, *(edge for region in regions for edge in region), samples]
    return [(start, end) for start, end in zip(edges[::2], edges[1::2], strict=True) if start < end]


def _inpainted(
    model: Diffusion,
    recording: np.ndarray,
    rate: int,
    regions: Sequence[tuple[int, int]],
    prompt: str | Item,
    **settings: Any,
) -> np.ndarray:
    own = converted(recording, rate, model.config.channels, model.config.rate)
    given = known(model, own, [(start / rate, end / rate) for start, end in regions])
    result = generate(model, prompt, own.shape[1] / model.config.rate, given=given, **settings).audio
    assert result is not None
    return pasted(recording, _back(result[0], model, recording, rate), regions, rate)


def continued(
    model: Diffusion | LM,
    recording: np.ndarray,
    rate: int,
    seconds: float,
    prompt: str | Item = "",
    seed: int = -1,
    context: float | None = None,
    **settings: Any,
) -> np.ndarray:
    """The recording and `seconds` more. The model hears the last `context` seconds, by default half of its length.

    Where more is wanted than the model generates at once, it goes on from its own end.
    """
    if isinstance(model, DiffusionAutoencoder):
        _expect_diffusion(model, "continue")
    recording = audio.samples(recording)
    longest = model.config.samples / model.config.rate
    context = longest / 2 if context is None else context
    if not 0 < context < longest:
        raise InputError(f"context: expected seconds above 0 and below the {longest:.4g} of the model, got {context:g}")
    if not 0 < seconds < float("inf"):
        raise InputError(f"seconds: expected a length above 0, got {seconds:g}")
    wanted = recording.shape[1] + round(seconds * rate)
    seed = item_seeds(seed, 1)[0]
    if isinstance(model, LM):
        return _continued_codes(model, recording, rate, wanted, context, prompt, seed, **settings)
    while recording.shape[1] < wanted:
        heard = recording[:, -max(1, round(context * rate)) :]
        length = min(longest, (heard.shape[1] + wanted - recording.shape[1]) / rate)
        own = converted(heard, rate, model.config.channels, model.config.rate)
        samples = samples_of(model.config, length)
        own = np.pad(own, ((0, 0), (0, max(0, samples - own.shape[1]))))[:, :samples]
        given = known(model, own, [(0.0, heard.shape[1] / rate)])
        result = generate(model, prompt, length, seed=seed, given=given, **settings).audio
        assert result is not None
        size = min(round(length * rate), heard.shape[1] + wanted - recording.shape[1])
        space = np.zeros((recording.shape[0], size), np.float32)
        space[:, : heard.shape[1]] = heard[:, :size]
        part = pasted(space, _back(result[0], model, space, rate), [(0, heard.shape[1])], rate)
        if part.shape[1] <= heard.shape[1]:  # less than a sample is left
            break
        recording = np.concatenate([recording, part[:, heard.shape[1] :]], 1)
        seed += 1
    return recording


def _continued_codes(
    model: LM,
    recording: np.ndarray,
    rate: int,
    wanted: int,
    context: float,
    prompt: str | Item,
    seed: int,
    negative: str | Item | None = None,
    callback: Callable[[CodeStep], object] = lambda step: None,
    **settings: Any,
) -> np.ndarray:
    """`recording` with `wanted` samples in all: its last codes begin the sequence."""
    config = model.config
    plan = generate_codes.chosen(config, **settings)
    expect_guidance(plan, negative)
    heard = recording[:, -max(1, round(context * rate)) :]
    own = converted(heard, rate, config.channels, config.rate)
    with torch.no_grad():
        known = model.encode(torch.from_numpy(np.ascontiguousarray(own))[None].to(device_of(model)))
    known = known[..., : own.shape[1] // config.hop]  # whole frames
    made = heard.shape[1] + wanted - recording.shape[1]
    samples = max(round(made * config.rate / rate), (known.shape[2] + 1) * config.hop)
    item = described(config, prompt, samples)
    unlike = None if negative is None else [{**item, **stated(negative)}]
    codes = generate_codes.codes_of(model, [item], samples, [seed], plan, unlike, known, callback)
    with torch.no_grad():
        decoded = model.decode(codes, samples)[0]
    space = np.zeros((len(recording), made), np.float32)
    space[:, : heard.shape[1]] = heard
    part = pasted(space, _back(decoded, model, space, rate), [(0, heard.shape[1])], rate)
    return np.concatenate([recording, part[:, heard.shape[1] :]], 1)


def varied(
    model: Diffusion,
    recording: np.ndarray,
    rate: int,
    strength: float = 0.5,
    prompt: str | Item = "",
    negative: str | Item | None = None,
    seed: int = -1,
    callback: Callable[[Step], object] = lambda step: None,
    **settings: Any,
) -> np.ndarray:
    """A recording like this one: `strength` says how unlike, from 0 to 1."""
    _expect_diffusion(model, "vary")
    recording = audio.samples(recording)
    plan = diffuse.chosen(model.config, strength=strength, **settings)
    expect_guidance(plan, negative)
    own = converted(recording, rate, model.config.channels, model.config.rate)
    samples = _expect_fitting(model.config, own)
    init = _encoded(model, own)
    item = described(model.config, prompt, samples)
    noise = ItemNoise(item_seeds(seed, 1))
    result = diffuse.sampled(
        model,
        [item],
        noise(init),
        noise,
        *plan,
        samples,
        None if negative is None else [{**item, **stated(negative)}],
        callback=callback,
        init=init,
    )
    with torch.no_grad():
        decoded = model.decode(result, samples)[0]
    return _back(decoded, model, recording, rate)


def reconstructed(
    model: DiffusionAutoencoder, recording: np.ndarray, rate: int, seed: int = -1, steps: int | None = None
) -> np.ndarray:
    """What a diffusion autoencoder makes of a recording's code, in so many steps of sampling or its own number."""
    if not isinstance(model, DiffusionAutoencoder):
        raise InputError("reconstruct: only a diffusion autoencoder encodes and decodes; of others try `vary`")
    if steps is not None and steps < 1:
        raise InputError(f"steps: expected a number from 1 on, got {steps}")
    recording = audio.samples(recording)
    own = converted(recording, rate, model.config.channels, model.config.rate)
    _expect_fitting(model.config, own)
    tensor = torch.from_numpy(np.ascontiguousarray(own))[None].to(device_of(model))
    with torch.no_grad():
        decoded = model.decode(model.encode(tensor), own.shape[1], item_seeds(seed, 1), steps)[0]
    return _back(decoded, model, recording, rate)


def _expect_diffusion(model: Any, verb: str) -> None:
    if isinstance(model, DiffusionAutoencoder):
        raise InputError(f"{verb}: this is a diffusion autoencoder; it can `reconstruct`")
    if isinstance(model, LM):
        raise InputError(f"{verb}: a language model goes on where audio ends, and cannot change it; try `continue`")


# --- between a recording and a model -----------------------------------------------------------------------------


def converted(recording: np.ndarray, rate: int, channels: int, wanted: int) -> np.ndarray:
    """A recording at another rate and with another number of channels."""
    if not audio.convertible(len(recording), channels):
        raise InputError(f"audio: has {len(recording)} channels, which cannot become {channels}")
    return audio.resample(audio.convert_channels(recording, channels), rate, wanted)


def _expect_fitting(config: AudioConfig, own: np.ndarray) -> int:
    """The length of a recording that the model takes whole."""
    if own.shape[1] > config.most:
        longest, seconds = config.samples / config.rate, own.shape[1] / config.rate
        raise InputError(f"audio: lasts {seconds:.4g} s, and this model takes up to {longest:.4g} s; cut it")
    return own.shape[1]


def _encoded(model: Diffusion, own: np.ndarray) -> Tensor:
    """A recording as latents (1, W, F) of as many frames as the model generates."""
    config = model.config
    frames = config.frames_for(own.shape[1]) if config.masks else config.frames
    filled = np.pad(own, ((0, 0), (0, frames * config.hop - own.shape[1])))
    tensor = torch.from_numpy(np.ascontiguousarray(filled, np.float32))[None].to(device_of(model))
    with torch.no_grad():
        return model.encode(tensor)[..., :frames]


def known(model: Diffusion, own: np.ndarray, keep: Sequence[tuple[float, float]]) -> Given:
    """The latents of a recording (C, T) of the model's rate, and which frames lie in the seconds of `keep` as a whole.

    Frames behind the end count as given, as they do when a model learns.
    """
    latents, config = _encoded(model, own), model.config
    frames = torch.arange(latents.shape[2], device=latents.device)
    kept = frames * config.hop >= own.shape[1]
    latents = latents.masked_fill(kept, 0.0)  # as behind the end of an item that a model learns from
    for start, end in keep:
        kept |= (frames * config.hop >= start * config.rate) & ((frames + 1) * config.hop <= end * config.rate)
    return Given(latents, kept[None, None].to(latents.dtype))


def regions_of(keep: Sequence[tuple[float, float]], samples: int, rate: int) -> list[tuple[int, int]]:
    """Seconds as samples, in order and apart."""
    regions: list[tuple[int, int]] = []
    for start, end in sorted(keep):
        if not 0 <= start < end < float("inf"):
            raise InputError(f"keep: expected seconds such as 0:4, a start before an end, got {start:g}:{end:g}")
        if start * rate >= samples:
            raise InputError(f"keep: {start:g} s lies behind the end of the audio, {samples / rate:.4g} s")
        first, last = round(start * rate), min(samples, round(end * rate))
        if regions and first <= regions[-1][1]:
            first, last = regions[-1][0], max(last, regions.pop()[1])
        regions.append((first, last))
    return regions


def _back(result: Tensor, model: Diffusion | DiffusionAutoencoder | LM, recording: np.ndarray, rate: int) -> np.ndarray:
    """What a model made (C, T), with channels, rate and length of the recording."""
    made = converted(result.float().cpu().numpy(), model.config.rate, len(recording), rate)
    spare = max(0, recording.shape[1] - made.shape[1])
    return np.pad(made, ((0, 0), (0, spare)))[:, : recording.shape[1]]


def pasted(recording: np.ndarray, made: np.ndarray, regions: Sequence[tuple[int, int]], rate: int) -> np.ndarray:
    """`made` (C, T) with the regions of the recording in it. Around each, the step to its first and last sample fades,
    so that it cannot click."""
    result, length = made.copy(), made.shape[1]
    edges = [0, *(edge for region in regions for edge in region), length]
    for start, end in zip(edges[::2], edges[1::2], strict=True):  # the gaps between regions
        if start == end:
            continue
        both = start > 0 and end < length
        count = min(max(1, round(BLEND * rate)), max(1, (end - start) // 2) if both else end - start)
        fade = np.linspace(1, 0, count + 1, dtype=np.float32)[1:]
        if start > 0:
            result[:, start : start + count] += (recording[:, start - 1] - made[:, start - 1])[:, None] * fade
        if end < length:
            result[:, end - count : end] += (recording[:, end] - made[:, end])[:, None] * fade[::-1]
    for start, end in regions:
        result[:, start:end] = recording[:, start:end]
    return result
