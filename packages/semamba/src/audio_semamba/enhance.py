"""Speech enhancement of recordings of any length, rate and number of channels, in flat memory.

Arrays and files take one way. Each channel is enhanced alone, at the model's rate. What lies above half of that rate
the model cannot hear: it is removed, and only `mix` and `atten_limit` leave some of it. Recordings of up to `WHOLE`
seconds go through the model at once. Longer ones go in overlapping pieces that share one level, with cross-fades; a
causal model streams them instead, which gives the same as the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from audio_core import audio
from audio_core.audio import Samples
from audio_core.audio.arrays import refuse_rate
from audio_core.chunk import process_blocks
from audio_core.files import InputError
from numpy.typing import ArrayLike
from torch import Tensor
from tqdm import tqdm

from .config import Options
from .live import Stream, finite
from .model import SEMamba
from .pcs import stretch

WHOLE, SEGMENT, OVERLAP = 12.0, 8.0, 1.0  # seconds


class Recording(NamedTuple):
    """Audio to enhance."""

    rate: int
    channels: int
    frames: int
    blocks: Callable[[int], Iterator[Samples]]
    """The audio at a rate, from its beginning, in blocks (C, any)."""


# --- the verb ----------------------------------------------------------------------------------------------


def enhance(
    model: SEMamba,
    samples: ArrayLike | Tensor,
    rate: int,
    pcs: bool = False,
    mix: float = 1.0,
    atten_limit: float | None = None,
) -> np.ndarray:
    """The enhanced recording of noisy speech (T,) or (C, T) of floats at `rate`, of the same shape, rate and level."""
    noisy = audio.samples(samples, "samples")
    refuse_rate(rate)

    def blocks(wanted: int) -> Iterator[Samples]:
        return iter([audio.resample(noisy, rate, wanted)])

    recording = Recording(rate, *noisy.shape, blocks)
    enhanced = np.concatenate(list(enhanced_blocks(model, recording, Options(pcs, mix, atten_limit))), 1)
    return enhanced[0] if np.ndim(samples) == 1 else enhanced


def enhance_file(
    model: SEMamba,
    source: Path,
    target: Path,
    options: Options = Options(),  # noqa: B008 (frozen)
    force: bool = False,
    quiet: bool = False,
) -> str:
    """From file to file, with the source's rate, channels, length and bit depth; returns a remark on what got lost."""
    if source.resolve() == target.resolve():
        raise InputError(f"{target}: is the recording itself; give another place for the result")
    header = audio.info(source)
    encoding, lost = audio.encoding_like(header.encoding, target.suffix)
    recording = Recording(header.rate, header.channels, header.frames, lambda rate: audio.blocks(source, rate=rate))
    seconds = round(header.seconds)
    with (
        audio.Writer(target, header.rate, header.channels, encoding, header.frames, force) as writer,
        tqdm(total=seconds, desc=source.name, unit="s", leave=False, disable=quiet or seconds < WHOLE or None) as bar,
    ):
        for block in enhanced_blocks(model, recording, options):
            writer.write(block)
            bar.update(writer.frames // header.rate - bar.n)
    clipped = f"{writer.clipped} samples were beyond full scale and cut off" if writer.clipped else ""
    return "; ".join(filter(None, (lost, clipped)))


def enhanced_blocks(model: SEMamba, recording: Recording, options: Options) -> Iterator[Samples]:
    """The result in blocks (C, any), as long as the recording."""
    own_rate = model.config.rate
    result: Iterable[Samples] = _at_own_rate(model, recording, options.pcs)
    if recording.rate != own_rate:
        result = audio.resampled(result, own_rate, recording.rate, recording.channels)
    inputs = audio.regroup(recording.blocks(recording.rate), audio.BLOCK)
    share = np.float32(options.share)
    for enhanced, noisy in zip(audio.regroup(result, audio.BLOCK), inputs, strict=False):
        enhanced = finite(enhanced[:, : noisy.shape[1]])  # resampling there and back rounds the length up
        yield enhanced if share == 1 else share * enhanced + (1 - share) * noisy


# --- at the model's rate -----------------------------------------------------------------------------------


def _at_own_rate(model: SEMamba, recording: Recording, pcs: bool) -> Iterator[Samples]:
    rate, device = model.config.rate, next(model.parameters()).device
    long = recording.frames > WHOLE * recording.rate
    noisy = (torch.from_numpy(block).to(device) for block in recording.blocks(rate))
    if not long:
        result = iter([_each_channel(model, torch.cat(list(noisy), 1))])
    elif model.config.causal:
        result = _streamed(Stream(model, recording.channels), noisy)
    else:
        level = _level(recording.blocks(rate), recording.channels).to(device)
        result = _in_pieces(lambda piece: _each_channel(model, piece, level), noisy, SEGMENT, rate)
    if pcs:
        result = _in_pieces(lambda piece: torch.from_numpy(stretch(piece.cpu().numpy(), rate)), result, WHOLE, rate)
    return (block.cpu().numpy() for block in result)


def _each_channel(model: SEMamba, noisy: Tensor, level: Tensor | None = None) -> Tensor:
    """(C, T), one channel after another, so that many take the memory of one."""
    levels = [None] * len(noisy) if level is None else level.split(1)
    return torch.cat([model.enhance(x, of_all) for x, of_all in zip(noisy.split(1), levels, strict=True)])


def _streamed(stream: Stream, blocks: Iterable[Tensor]) -> Iterator[Tensor]:
    for block in blocks:
        yield stream.feed(block)
    yield stream.finish()


def _in_pieces(
    function: Callable[[Tensor], Tensor], blocks: Iterable[Tensor], seconds: float, rate: int
) -> Iterator[Tensor]:
    """Blocks (C, any) through a function of (C, T) that sees `seconds` at once."""
    batches = (block[None] for block in blocks)
    results = process_blocks(
        lambda batch: function(batch[0])[None], batches, round(seconds * rate), round(OVERLAP * rate)
    )
    return (block[0] for block in results)


def _level(blocks: Iterator[Samples], channels: int) -> Tensor:
    """The root mean square (C, 1) of each channel."""
    power, frames = np.zeros((channels, 1)), 0
    for block in blocks:
        power += np.square(block, dtype=np.float64).sum(1, keepdims=True)
        frames += block.shape[1]
    return torch.from_numpy(np.sqrt(power / frames)).float()
