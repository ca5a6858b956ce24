"""Run a model over long audio piece by piece: memory is bounded by one segment, not by the length.

Segments of `segment` samples start every hop = segment - overlap - 2 * margin samples. The first and last `margin`
samples of a segment only serve as context and are dropped, but not at the ends of the audio. The parts that are
kept overlap by `overlap` samples, where a linear cross-fade (two windows that sum to one) joins them:

    segment k     |margin|~~~~~~~~~~~~~~~~~~~~|fade|margin|
    segment k+1                        |margin|fade|~~~~~~~~~~~~~~~~~~~~|margin|

Lengths have a fixed `ratio`: T samples in, T * ratio samples out. It is 1 for a filter, 1/hop for an encoder (T samples
become frames of `hop` samples each) and hop for a decoder. `segment`, `overlap` and `margin` count inputs and must be
multiples of the ratio's denominator, so that every segment begins where a frame begins.

The seam error. Let the receptive field be R: an output depends on at most R inputs to either side beyond its own frame.
Then the outputs of a segment are wrong only within R of its cut end. With margin >= R the result equals that of the
whole audio at once. With a smaller margin it can differ only from max(0, R - margin - overlap) inputs before each
cross-fade to as many after it. Where the receptive field is the whole segment (recurrence, attention, normalisation
over time), the result differs everywhere, most of all at the seams, and the cross-fade smooths these.

The last piece is no longer than what is left. It is padded with zeros up to a multiple of `multiple`, by default of the
ratio's denominator. Where samples are padded, the last R outputs of a model of several layers may differ from those
of the whole audio at once, unless that audio is padded alike.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import pad
from tqdm import tqdm

from . import audio
from .files import InputError

Output = TypeVar("Output", bound=Tensor | Mapping[str, Tensor] | tuple[Tensor, ...])
"""A tensor (B, ..., T * ratio), or several by name or in order. Blocks of the result have the form of the model's."""
Model = Callable[[Tensor], Output]  # of (B, C, T)


class Piece(NamedTuple):
    start: int
    samples: Tensor  # (..., segment)
    last: bool  # the last piece may be shorter


def pieces(blocks: Iterable[Tensor], segment: int, hop: int) -> Iterator[Piece]:
    """Cut a stream of blocks (..., any) into overlapping pieces of `segment` samples that start `hop` apart.

    The first piece that reaches the end is the last one.
    """
    held: list[Tensor] = []
    start = count = 0
    for block in blocks:
        held.append(block)
        count += block.shape[-1]
        if count > segment:
            joined = torch.cat(held, -1) if len(held) > 1 else block
            at = 0
            while count > segment:
                yield Piece(start, joined[..., at : at + segment], False)
                at, start, count = at + hop, start + hop, count - hop
            held = [joined[..., at:]]
    if count:
        yield Piece(start, torch.cat(held, -1), True)


def process(model: Model[Output], samples: Tensor, segment: int, **options: Any) -> Output:
    """Run `model` over (B, C, T) of any T >= 1, with the options of `process_blocks`. The result is on the samples'
    device."""
    if not samples.shape[-1]:
        raise ValueError("there is no audio to process: 0 samples")
    return _each(lambda *parts: torch.cat(parts, -1), *process_blocks(model, [samples], segment, **options))


def process_blocks(
    model: Model[Output],
    blocks: Iterable[Tensor],
    segment: int,
    overlap: int | None = None,
    margin: int = 0,
    batch: int = 1,
    multiple: int | None = None,
    device: str | torch.device | None = None,
    ratio: int | Fraction = 1,
) -> Iterator[Output]:
    """Run `model` over a stream of blocks (B, C, any); yields blocks (B, ..., any) of ceil(T * ratio) samples in total.

    `overlap` is by default an eighth of `segment`. `batch` segments go through the model at once. `device` is the
    model's, where it is not that of the blocks. No gradients are kept.

    The model gets lengths that are multiples of `multiple`. With `multiple=1` nothing is padded, and the end of the
    result is what the model returns for the last piece: its length may differ from T * ratio by less than one frame.
    """
    unit = Fraction(ratio).denominator
    overlap = segment // 8 // unit * unit if overlap is None else overlap
    multiple = unit if multiple is None else multiple
    hop = segment - overlap - 2 * margin
    sizes = f"segment {segment}, overlap {overlap}, margin {margin}, batch {batch}, multiple {multiple}"
    if min(overlap, margin) < 0 or min(segment, batch, multiple) < 1 or hop < max(1, overlap):
        raise InputError(f"a segment must hold two overlaps and two margins, in whole samples; got {sizes}")
    if segment % unit or overlap % unit or margin % unit:
        raise InputError(f"segment, overlap and margin must be multiples of {unit} samples, one frame; got {sizes}")
    results = _run(model, pieces(blocks, segment, hop), segment, batch, multiple, device, Fraction(ratio))
    return _joined(results, int(overlap * ratio), int(margin * ratio))


def process_file(
    model: Model[Any],
    source: str | Path,
    target: str | Path | Mapping[str, str | Path],
    segment: int,
    rate: int | None = None,
    channels: int | None = None,
    encoding: str | None = None,
    force: bool = True,
    progress: bool = True,
    **options: Any,
) -> int:
    """Run `model` from file to file, reading and writing block by block: an hour takes the memory of a minute.

    Several outputs go to several files in one pass: `target` then maps the names of outputs to files, and the model
    returns a mapping that holds at least these. All files are written or none. `rate` and `channels` are what the model
    expects (by default the file's own), and the results have that rate. Further options as of `process_blocks`, without
    `ratio`. Returns the number of samples that were clipped, as integer and lossy encodings do beyond full
    scale.
    """
    if "ratio" in options:
        raise ValueError("process_file keeps the length; use process_blocks for a model with a ratio")
    targets = dict(target) if isinstance(target, Mapping) else {"": target}
    header = audio.info(source)
    _check_targets(source, targets, force)
    rate = rate or header.rate
    total = -(-header.frames * rate // header.rate)
    blocks = (torch.from_numpy(block)[None] for block in audio.blocks(source, rate=rate, channels=channels))
    writers: dict[str, audio.Writer] = {}
    with (
        ExitStack() as stack,
        tqdm(total=total // rate, desc=Path(source).name, unit="s", disable=None if progress else True) as bar,
    ):
        for result in process_blocks(model, blocks, segment, **options):
            outputs = _named(result, targets) if isinstance(target, Mapping) else {"": result}
            for name, block in outputs.items():
                if not isinstance(block, Tensor) or block.ndim != 3:
                    shape = tuple(block.shape[1:]) if isinstance(block, Tensor) else type(block).__name__
                    raise ValueError(f"one file holds (C, T), the model returned {shape} a segment")
                if name not in writers:  # the first block shows how many channels there are
                    writer = audio.Writer(targets[name], rate, block.shape[1], encoding, total, force)
                    writers[name] = stack.enter_context(writer)
                writers[name].write(block[0].float().numpy())
                bar.update(writers[name].frames // rate - bar.n)
        for writer in writers.values():  # a full disk shows here, before the first file takes its name
            writer.close()
    return sum(writer.clipped for writer in writers.values())


def _check_targets(source: str | Path, targets: Mapping[str, str | Path], force: bool) -> None:
    """Refuse targets that could not be written, before any work is done."""
    places: dict[Path, str] = {}
    for name, path in targets.items():
        place = Path(path)
        if place.exists() and place.samefile(source):
            raise InputError(f"{path}: the result would overwrite the input")
        if place.is_dir():
            raise InputError(f"{path}: is a folder, and a file was to be written")
        if not force and place.exists():
            raise InputError(f"{path}: exists already; give --force to overwrite it")
        if place.resolve() in places:
            raise InputError(f"{path}: would be the result of both {places[place.resolve()]} and {name}")
        places[place.resolve()] = name


def _named(result: Any, targets: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(result, Mapping) or set(targets) - set(result):
        returned = ", ".join(result) if isinstance(result, Mapping) else type(result).__name__
        raise ValueError(f"there are files for {', '.join(targets)}, but the model returned {returned}")
    return {name: result[name] for name in targets}


def _each(function: Callable[..., Any], *outputs: Any) -> Any:
    """Apply `function` to the tensors at the same place in all `outputs`; the result has the form of the first."""
    first = outputs[0]
    if isinstance(first, Tensor):
        return function(*outputs)
    if isinstance(first, Mapping):
        return {name: function(*(output[name] for output in outputs)) for name in first}
    return tuple(function(*parts) for parts in zip(*outputs, strict=True))


def _run(
    model: Model[Output],
    source: Iterable[Piece],
    segment: int,
    batch: int,
    multiple: int,
    device: str | torch.device | None,
    ratio: Fraction,
) -> Iterator[tuple[Output, bool]]:
    """The output of each piece and whether it is the last; `batch` pieces of one length are computed at a time."""
    group: list[Tensor] = []
    for _, piece, last in source:
        length = piece.shape[-1]
        padded = min(segment, -(-length // multiple) * multiple) if last else segment
        if group and padded != segment:
            yield from ((output, False) for output in _call(model, group, device, ratio))
            group = []
        group.append(pad(piece, (0, padded - length)))
        if last or len(group) == batch:
            *before, output = _call(model, group, device, ratio)
            yield from ((earlier, False) for earlier in before)
            if padded != length:
                output = _each(partial(_part, end=math.ceil(length * ratio)), output)
            yield output, last
            group = []


def _call(
    model: Model[Output], group: list[Tensor], device: str | torch.device | None, ratio: Fraction
) -> list[Output]:
    samples = torch.cat(group)  # (batch * B, C, T)
    items = group[0].shape[0]
    with torch.no_grad():
        outputs = _each(partial(_checked, samples=samples, ratio=ratio), model(samples.to(device or samples.device)))
    items_of = (partial(_items, start=at, count=items) for at in range(0, samples.shape[0], items))
    return [_each(select, outputs) for select in items_of]


def _checked(output: Tensor, samples: Tensor, ratio: Fraction) -> Tensor:
    """Refuse an output of the wrong length. The last piece may end within a frame, whose length may be rounded
    either way."""
    expected = samples.shape[-1] * ratio
    if output.shape[:1] != samples.shape[:1] or abs(output.shape[-1] - expected) >= max(1, ratio):
        shapes = f"got {tuple(output.shape)} for {tuple(samples.shape)}"
        keep = "length of a segment" if ratio == 1 else f"ratio {ratio} of lengths"
        raise InputError(f"the model must keep the {keep}, {shapes}; is it a multiple of its hop?")
    return output.to(samples.device)


def _items(output: Tensor, start: int, count: int) -> Tensor:
    return output[start : start + count]


def _part(output: Tensor, start: int = 0, end: int | None = None) -> Tensor:
    return output[..., start:end]


def _joined(results: Iterable[tuple[Output, bool]], overlap: int, margin: int) -> Iterator[Output]:
    """The outputs without their margins, with a cross-fade in each overlap."""
    tail: Output | None = None  # (B, ..., overlap), the end of the piece before
    for output, last in results:
        keep = partial(_kept, overlap=overlap, margin=margin, last=last)
        yield _each(keep, output) if tail is None else _each(keep, output, tail)
        if not last:
            tail = _each(partial(_part, start=-margin - overlap, end=-margin or None), output)


def _kept(output: Tensor, tail: Tensor | None = None, *, overlap: int, margin: int, last: bool) -> Tensor:
    """The final part of a piece: without margins, and faded with the `tail` of the piece before it."""
    end = output.shape[-1] - (0 if last else margin + overlap)
    if overlap and not (output.is_floating_point() or output.is_complex()):
        raise InputError("whole numbers such as codes cannot be faded; use overlap=0, and a margin as context")
    if tail is None:
        return output[..., :end]
    if not overlap:
        return output[..., margin:end]
    rising = torch.arange(1, overlap + 1, device=output.device) / (overlap + 1)
    faded = torch.lerp(tail, output[..., margin : margin + overlap], rising.to(output.dtype))
    return torch.cat([faded, output[..., margin + overlap : end]], -1)
