"""Audio files to .sstr streams and back, piece by piece: an hour takes the memory of a minute."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from audio_core import audio, batch
from audio_core.batch import Found, Job
from audio_core.files import InputError, note, reason, replacing
from torch import Tensor
from tqdm import tqdm

from .config import bitrates, layers_for
from .cost import decoder_context
from .live.conceal import Concealer
from .live.stream import DecoderStream, EncoderStream
from .model import NeuralCodec
from .sstr.bitstream import BRIDGE, Reader, Writer
from .sstr.entropy import Tables, quantised_cdf
from .sstr.header import Header, expect

PIECE = 2.0  # seconds that go through a network at once: what fits into a processor's cache


def tables(model: NeuralCodec) -> Tables | None:
    """How often each code was used in training, for entropy coding; None where that is not known."""
    counts = getattr(model.quantizer, "counts", None)
    if counts is None or bool((counts == counts[:, :1]).all()):
        return None
    smoothed = counts.double().cpu().numpy()
    smoothed = smoothed + 0.01 * smoothed.mean()
    # Exact sums, so that all machines have the same tables.
    return Tables(quantised_cdf(np.stack([row / math.fsum(row) for row in smoothed])))


def header(model: NeuralCodec, layers: int, samples: int | None, per_packet: int) -> Header:
    frames = None if samples is None else -(-samples // model.hop)
    size = model.codebooks[0]
    return Header(model.sample_rate, model.hop, layers, size, model.fingerprint(), frames, samples, per_packet)


# --- encoding ----------------------------------------------------------------------------------------------


def encode_file(
    model: NeuralCodec,
    source: str | Path,
    target: str | Path,
    layers: int | None = None,
    entropy: bool = False,
    force: bool = False,
    quiet: bool = False,
) -> None:
    """An audio file of any rate and number of channels, resampled and mixed down, as an .sstr file."""
    samples = length(model, source, quiet)
    known = need_tables(model) if entropy else None
    head = header(model, layers or len(model.codebooks), samples, 128 if entropy else 32)
    with replacing(target, force) as temporary, temporary.open("wb") as file:
        writer = Writer(file, head, known)
        for codes in encoded(model, blocks(model, source, quiet), head.layers):
            writer.write(codes)
        writer.close()


def encoded(model: NeuralCodec, audio_blocks: Iterable[np.ndarray], layers: int | None = None) -> Iterator[np.ndarray]:
    """Codes (N, frames) of audio in blocks (1, any), as soon as they are known."""
    stream = EncoderStream(model, layers)
    device = next(model.parameters()).device
    for block in audio_blocks:
        codes = stream.feed(torch.from_numpy(np.ascontiguousarray(block))[None].to(device))
        if codes.shape[-1]:
            yield codes[0].cpu().numpy()
    yield stream.finish()[0].cpu().numpy()


def length(model: NeuralCodec, source: str | Path, quiet: bool = False) -> int:
    """Samples of a file at the codec's rate; a remark on standard error says what will be converted."""
    info = audio.info(source)
    if not info.frames:
        raise InputError(f"{source}: holds no audio (0 samples)")
    changes = [f"resampled from {info.rate} to {model.sample_rate} Hz"] if info.rate != model.sample_rate else []
    changes += [f"{info.channels} channels mixed to one"] if info.channels != 1 else []
    if changes and not quiet:
        note(f"{source}: {' and '.join(changes)}")
    return math.ceil(info.frames * model.sample_rate / info.rate)


def blocks(model: NeuralCodec, source: str | Path, quiet: bool = True) -> Iterator[np.ndarray]:
    """The audio of a file (1, PIECE seconds), as the codec wants it."""
    pieces = audio.blocks(source, round(PIECE * model.sample_rate), model.sample_rate, 1)
    total = math.ceil(audio.info(source).seconds / PIECE)
    return iter(tqdm(pieces, Path(source).name, total, leave=False, disable=quiet or None))


def need_tables(model: NeuralCodec) -> Tables:
    known = tables(model)
    if known is None:
        raise InputError("this model does not know how often its codes occur, which entropy coding needs")
    return known


# --- decoding ----------------------------------------------------------------------------------------------


def decode_file(
    model: NeuralCodec,
    source: str | Path,
    target: str | Path,
    layers: int | None = None,
    start: float = 0.0,
    seconds: float | None = None,
    conceal: bool = False,
    bridge: float = BRIDGE,
    force: bool = False,
    quiet: bool = False,
) -> str:
    """The audio of an .sstr file. Damage is an error, or with `conceal` bridged, and returned in words.

    `start` and `seconds` take a part of it, without decoding what comes before. At most `bridge` seconds of missing
    packets are bridged in a row.
    """
    with ExitStack() as stack:
        try:
            file = stack.enter_context(Path(source).open("rb"))
        except OSError as error:
            raise InputError(f"{source}: {reason(error)}") from None
        return decode_stream(model, file, str(source), target, layers, start, seconds, conceal, bridge, force, quiet)


def decode_stream(
    model: NeuralCodec,
    file: BinaryIO,
    name: str,
    target: str | Path,
    layers: int | None = None,
    start: float = 0.0,
    seconds: float | None = None,
    conceal: bool = False,
    bridge: float = BRIDGE,
    force: bool = False,
    quiet: bool = False,
) -> str:
    """As `decode_file`, from an open file or a pipe that messages call `name`."""
    reader = opened(model, file, name, conceal, bridge)
    samples = reader.header.samples
    if samples is None and file.seekable():  # recorded from a pipe: only the last packet has the length
        for _ in reader.payloads:
            pass
        samples = reader.header.samples
        file.seek(0)
        reader = opened(model, file, name, conceal, bridge)
    first = round(start * model.sample_rate)
    if samples is not None and first and first >= samples:
        raise InputError(f"{name}: ends at {samples / model.sample_rate:g} s, before --start {start:g}")
    last = None if seconds is None else first + round(seconds * model.sample_rate)
    if samples is not None and reader.header.samples is None:
        last = samples if last is None else min(samples, last)
    with _writer(model, target, samples or 0, force) as writer:
        for block in decoded(model, reader, layers, first, last, quiet):
            writer.write(playable(block))
        if not writer.frames:
            raise InputError(f"{name}: holds no audio to decode")
    return damage(reader)


def opened(model: NeuralCodec, file: BinaryIO, name: str, conceal: bool = False, bridge: float = BRIDGE) -> Reader:
    """The packets of a stream that must be of this model."""
    reader = Reader(file, name, tables(model), strict=not conceal, bridge=bridge)
    head = reader.header
    kind = {"rate": model.sample_rate, "hop": model.hop, "size": model.codebooks[0], "layers": len(model.codebooks)}
    expect(head, name, **kind, fingerprint=model.fingerprint())
    if head.samples is not None and head.frames != -(-head.samples // head.hop):
        raise InputError(f"{name}: its header promises {head.samples} samples in {head.frames} frames of {head.hop}")
    return reader


def damage(reader: Reader) -> str:
    """What was bridged so far, in words; nothing when all was whole."""
    packets = f"{reader.damaged} packet{'s were' if reader.damaged > 1 else ' was'} damaged or lost, and bridged"
    return "; ".join([packets] * bool(reader.damaged) + ["the end is missing"] * reader.truncated)


def decoded(
    model: NeuralCodec,
    reader: Reader,
    layers: int | None = None,
    first: int = 0,
    last: int | None = None,
    quiet: bool = True,
) -> Iterator[Tensor]:
    """Samples `first` to `last` as blocks (1, 1, any), from the packets of this model's stream; gaps are concealed."""
    head = reader.header
    if layers is not None and layers > head.layers:
        rates = ", ".join(f"{rate:g}" for rate in bitrates(model.config)[: head.layers])
        raise InputError(f"holds no more than {head.kbps:g} kbit/s; possible are {rates}")
    begin = reader.seek(max(0, first // head.hop - decoder_context(model))) * head.hop if first else 0
    stream = DecoderStream(model, None if head.samples is None else head.samples - begin)
    concealer = Concealer(model, stream)
    at, total = begin, None if head.frames is None else head.packets
    for packet in tqdm(reader, "decode", total, leave=False, disable=quiet or None):
        codes = packet.codes if packet.codes is None or layers is None else packet.codes[:layers]
        block = concealer.feed(codes, packet.frames)
        yield from _part(block, at, first, last)
        at += block.shape[-1]
        if last is not None and at >= last:
            return
    if reader.header.samples is not None:  # from the last packet of a stream that began without a length
        stream.limit = reader.header.samples - begin
    yield from _part(concealer.finish(), at, first, last)


def _part(block: Tensor, at: int, first: int, last: int | None) -> Iterator[Tensor]:
    begin = max(0, first - at)
    end = block.shape[-1] if last is None else min(block.shape[-1], last - at)
    if end > begin:
        yield block[..., begin:end]


def reconstruct(model: NeuralCodec, codes: np.ndarray, samples: int) -> np.ndarray:
    """Audio (1, samples) of codes (N, frames)."""
    stream, step = DecoderStream(model, samples), math.ceil(PIECE * model.sample_rate / model.hop)
    whole = torch.from_numpy(codes)[None].to(next(model.parameters()).device)
    parts = [stream.feed(piece) for piece in whole.split(step, -1)]
    return torch.cat([*parts, stream.finish()], -1)[0].cpu().numpy()


# --- files through the codec --------------------------------------------------------------------------------


def reconstruct_file(
    model: NeuralCodec, source: str | Path, targets: Mapping[int, Path], force: bool = False, quiet: bool = False
) -> None:
    """The reconstructions of an audio file at the codec's rate, in `targets` by the number of layers."""
    samples, device = length(model, source, quiet), next(model.parameters()).device
    with ExitStack() as stack:
        results = [
            (layers, DecoderStream(model, samples), stack.enter_context(_writer(model, target, samples, force)))
            for layers, target in targets.items()
        ]
        for codes in encoded(model, blocks(model, source, quiet), max(targets)):
            pieces = torch.from_numpy(codes)[None].to(device)
            for layers, stream, writer in results:
                writer.write(playable(stream.feed(pieces[:, :layers])))
        for _, stream, writer in results:
            writer.write(playable(stream.finish()))


def reconstruction_jobs(
    model: NeuralCodec, inputs: Sequence[str], out: Path, kbps: Sequence[float], force: bool
) -> list[Job]:
    """Jobs of `reconstruct_file` for files, folders and patterns; each of several bitrates has a folder in `out`."""
    counts = sorted({layers_for(model.config, rate) for rate in kbps or [None]})
    sources = batch.find(inputs)
    if len(counts) == 1:
        return [Job(job.source, {counts[0]: job.target}) for job in jobs(sources, out, ".wav", force)]
    if out.suffix.lower() in audio.FORMATS and not out.is_dir():
        raise InputError(f"{out}: is one file, but {len(counts)} bitrates were asked for; give a folder")
    results = [jobs(sources, out / f"{bitrates(model.config)[n - 1]:g}kbps", ".wav", force) for n in counts]
    return [
        Job(same[0].source, {n: job.target for n, job in zip(counts, same, strict=True)})
        for same in zip(*results, strict=True)
    ]


def jobs(sources: Sequence[Found], out: Path | None, ending: str, force: bool = False) -> list[Job]:
    """Where results go: beside the sources without `out`. Names end in `ending`; for ".wav" in any audio format."""
    if out is not None and not out.is_dir():
        wrong = {".sstr"} if ending == ".wav" else {*audio.FORMATS, *audio.FOREIGN}
        if out.suffix.lower() in wrong:
            raise InputError(f"{out}: the name must end in {ending}, or be a folder's")
    results = batch.targets(sources, out, ending)
    if len(results) == 1 and results[0].target.exists() and not force and out in (None, results[0].target):
        raise InputError(f"{results[0].target}: exists already; give --force to overwrite it")
    return results


def _writer(model: NeuralCodec, target: str | Path, samples: int, force: bool) -> audio.Writer:
    return audio.Writer(target, model.sample_rate, 1, frames=samples, force=force)


def playable(block: Tensor) -> np.ndarray:
    """(1, 1, T) as (1, T) that no integer has to clip."""
    return block[0].clamp(-1, 1).cpu().numpy()
