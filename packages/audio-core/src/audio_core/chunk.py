"""Long audio through a model piece by piece: any length in is the same length out, memory bounded by the segment.

Segments of `segment` samples start every hop = segment - overlap - 2 * margin samples. Of each the first and last
`margin` samples only serve as context and are dropped (not at the ends of the audio); what is kept overlaps its
neighbour by `overlap` samples, where a linear cross-fade, two windows that sum to one, leads from one to the next:

    segment k     |margin|~~~~~~~~~~~~~~~~~~~~|fade|margin|
    segment k+1                        |margin|fade|~~~~~~~~~~~~~~~~~~~~|margin|

The seam error. A model that hears at most R samples to either side is wrong only where a segment's cut end is within
R. With margin >= R the result therefore equals the one computed in one go. With less, it can differ only from
max(0, R - margin - overlap) samples before each cross-fade to as many after it. A model that hears the whole segment
(recurrence, attention, normalisation over time) differs everywhere, and most at the seams, which the fade smooths.

The last piece is no longer than what is left, padded with zeros up to a multiple of `multiple`. There the last R
samples of a model of several layers may differ from those computed in one go, unless `multiple` is 1, the default.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from tqdm import tqdm

from . import audio
from .files import InputError

Model = Callable[[Tensor], Tensor]  # (B, C, T) -> (B, ..., T)


def process(model: Model, samples: Tensor, segment: int, **options: Any) -> Tensor:
    """`model` over (B, C, T) of any T >= 1, options as of `process_blocks`. The result is where `samples` are."""
    if not samples.shape[-1]:
        raise ValueError("there is no audio to process: 0 samples")
    return torch.cat(list(process_blocks(model, [samples], segment, **options)), -1)


def process_blocks(
    model: Model,
    blocks: Iterable[Tensor],
    segment: int,
    overlap: int | None = None,
    margin: int = 0,
    batch: int = 1,
    multiple: int = 1,
    device: str | torch.device | None = None,
) -> Iterator[Tensor]:
    """`model` over blocks (B, C, any) as they come; yields (B, ..., any) blocks of the same length in total.

    `overlap` is an eighth of `segment` unless given. `batch` segments go through the model at once. `multiple` is what
    the model wants lengths to divide by. The model may return any channels or stems (B, ..., T), but the length that
    it was given. `device` is where the model is, if not where the blocks are. No gradients are kept.
    """
    overlap = segment // 8 if overlap is None else overlap
    hop = segment - overlap - 2 * margin
    if min(overlap, margin) < 0 or min(segment, batch, multiple) < 1 or hop < max(1, overlap):
        found = f"segment {segment}, overlap {overlap}, margin {margin}, batch {batch}, multiple {multiple}"
        raise InputError(f"a segment must hold two overlaps and two margins, in whole samples; got {found}")
    pieces = _run(model, _pieces(blocks, segment, hop), segment, batch, multiple, device)
    return _joined(pieces, overlap, margin)


def process_file(
    model: Model,
    source: str | Path,
    target: str | Path,
    segment: int,
    rate: int | None = None,
    channels: int | None = None,
    encoding: str | None = None,
    force: bool = True,
    progress: bool = True,
    **options: Any,
) -> int:
    """`model` from file to file, reading and writing as it goes: an hour takes the memory of a minute.

    `rate` and `channels` are what the model wants (the file's own unless given), and the result has that rate.
    Further options as of `process_blocks`. Returns how many samples were beyond full scale and cut off, as integer
    and lossy encodings do.
    """
    if Path(target).exists() and Path(target).samefile(source):
        raise InputError(f"{target}: the result would overwrite the input")
    if not force and Path(target).exists():  # said before the work and not after
        raise InputError(f"{target}: exists already; give --force to overwrite it")
    header = audio.info(source)
    rate = rate or header.rate
    total = -(-header.frames * rate // header.rate)
    blocks = (torch.from_numpy(block)[None] for block in audio.blocks(source, rate=rate, channels=channels))
    done = process_blocks(model, blocks, segment, **options)
    writer = None
    with (
        ExitStack() as stack,
        tqdm(total=total // rate, desc=Path(source).name, unit="s", disable=None if progress else True) as bar,
    ):
        for block in done:
            if block.ndim != 3:
                raise ValueError(f"one file holds (C, T), the model returned {tuple(block.shape[1:])} a segment")
            if writer is None:  # only now is it known how many channels the model makes
                writer = audio.Writer(target, rate, block.shape[1], encoding, total, force)
                stack.enter_context(writer)
            writer.write(block[0].float().numpy())
            bar.update(writer.frames // rate - bar.n)
    return writer.clipped if writer else 0


def _pieces(blocks: Iterable[Tensor], segment: int, hop: int) -> Iterator[tuple[Tensor, bool]]:
    """(B, C, segment) pieces `hop` apart, and whether a piece is the last one, which may be shorter."""
    held: list[Tensor] = []
    count = 0
    for block in blocks:
        held.append(block)
        count += block.shape[-1]
        if count > segment:
            joined = torch.cat(held, -1) if len(held) > 1 else block
            at = 0
            while count > segment:
                yield joined[..., at : at + segment], False
                at, count = at + hop, count - hop
            held = [joined[..., at:]]
    if count:
        yield torch.cat(held, -1), True


def _run(
    model: Model,
    pieces: Iterable[tuple[Tensor, bool]],
    segment: int,
    batch: int,
    multiple: int,
    device: str | torch.device | None,
) -> Iterator[tuple[Tensor, bool]]:
    """What the model makes of each piece, `batch` equally long ones at a time."""
    group: list[Tensor] = []
    for piece, last in pieces:
        length = piece.shape[-1]
        padded = min(segment, -(-length // multiple) * multiple) if last else segment
        if group and padded != segment:
            yield from ((out, False) for out in _call(model, group, device))
            group = []
        group.append(pad(piece, (0, padded - length)))
        if last or len(group) == batch:
            *before, out = _call(model, group, device)
            yield from ((earlier, False) for earlier in before)
            yield out[..., :length], last
            group = []


def _call(model: Model, group: list[Tensor], device: str | torch.device | None) -> tuple[Tensor, ...]:
    given = torch.cat(group)  # (batch * B, C, T)
    with torch.no_grad():
        made = model(given.to(device or given.device))
    if made.shape[:1] + made.shape[-1:] != given.shape[:1] + given.shape[-1:]:
        shapes = f"got {tuple(made.shape)} for {tuple(given.shape)}"
        raise InputError(f"the model must keep the length of a segment, {shapes}; is it a multiple of its hop?")
    return made.to(given.device).split(group[0].shape[0])


def _joined(pieces: Iterable[tuple[Tensor, bool]], overlap: int, margin: int) -> Iterator[Tensor]:
    """Without margins, and each overlap faded from the piece before to the piece after."""
    tail: Tensor | None = None  # (B, ..., overlap), the end of the piece before
    for piece, last in pieces:
        end = piece.shape[-1] if last else piece.shape[-1] - margin
        if tail is not None:
            piece, end = piece[..., margin:], end - margin
            rising = torch.arange(1, overlap + 1, device=piece.device) / (overlap + 1)
            yield torch.lerp(tail, piece[..., :overlap], rising.to(piece.dtype))
        begin = 0 if tail is None else overlap
        if last:
            yield piece[..., begin:end]
        else:
            yield piece[..., begin : end - overlap]
            tail = piece[..., end - overlap : end]
