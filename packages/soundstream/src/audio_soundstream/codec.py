"""Audio files to .sstr streams and back, piece by piece: an hour takes the memory of a minute."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from audio_core import audio, bundle
from audio_core.files import InputError, note, reason, replacing
from torch import Tensor
from tqdm import tqdm

from . import SHIPPED
from .bitstream import Reader, Writer
from .conceal import Concealer
from .entropy import Tables, quantised_cdf
from .header import Header, expect
from .model import NeuralCodec, SoundStream, TinyStream
from .sizes import decoder_context
from .stream import DecoderStream, EncoderStream

PIECE = 0.5  # seconds that go through a network at once: what fits into a processor's cache


def load(path: str | Path = "default", device: str = "cpu") -> NeuralCodec:
    """The codec of a bundle: a folder, a Hub id, or `default`, which comes with the package."""
    return bundle.load(SHIPPED.get(str(path), path), [SoundStream, TinyStream], "audio-soundstream", device)


def fingerprint(model: NeuralCodec) -> bytes:
    """Eight bytes that stand for what a decoder must have: the codebooks and the decoder."""
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in model.state_dict().items():
        if name.startswith("decoder.") or name in ("quantizer.codebooks", "quantizer.counts"):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().float().numpy().astype("<f4").tobytes())
    return digest.digest()


def tables(model: NeuralCodec) -> Tables | None:
    """How often each code was used in training, for entropy coding; None where that is not known."""
    counts = getattr(model.quantizer, "counts", None)
    if counts is None or bool((counts == counts[:, :1]).all()):
        return None
    found = counts.double().cpu().numpy()
    found = found + 0.01 * found.mean()
    # Exact sums, so that all machines have the same tables.
    return Tables(quantised_cdf(np.stack([row / math.fsum(row) for row in found.tolist()])))


def header(model: NeuralCodec, layers: int, samples: int | None, per_packet: int) -> Header:
    frames = None if samples is None else -(-samples // model.hop)
    size = model.codebooks[0]
    return Header(model.sample_rate, model.hop, layers, size, fingerprint(model), frames, samples, per_packet)


# --- encoding ----------------------------------------------------------------------------------------------


def encode_file(
    model: NeuralCodec,
    source: str | Path,
    target: str | Path,
    layers: int | None = None,
    entropy: bool = False,
    force: bool = False,
    progress: bool = False,
) -> None:
    """An audio file of any rate and number of channels, resampled and mixed down, as an .sstr file."""
    samples = _length(model, source)
    known = _tables(model) if entropy else None
    head = header(model, layers or len(model.codebooks), samples, 128 if entropy else 32)
    with replacing(target, force) as temporary, temporary.open("wb") as file:
        writer = Writer(file, head, known)
        for codes in encoded(model, _blocks(model, source, progress), head.layers):
            writer.write(codes)
        writer.close()


def encoded(model: NeuralCodec, blocks: Iterable[np.ndarray], layers: int | None = None) -> Iterator[np.ndarray]:
    """Codes (N, frames) of audio that comes in blocks (1, any), as soon as they are known."""
    stream = EncoderStream(model, layers)
    device = next(model.parameters()).device
    for block in blocks:
        codes = stream.feed(torch.from_numpy(np.ascontiguousarray(block))[None].to(device))
        if codes.shape[-1]:
            yield codes[0].cpu().numpy()
    yield stream.finish()[0].cpu().numpy()


def _length(model: NeuralCodec, source: str | Path) -> int:
    """Samples at the codec's rate; says what will be changed about the file."""
    info = audio.info(source)
    if not info.frames:
        raise InputError(f"{source}: holds no audio (0 samples)")
    changes = [f"resampled from {info.rate} to {model.sample_rate} Hz"] if info.rate != model.sample_rate else []
    changes += [f"{info.channels} channels mixed to one"] if info.channels != 1 else []
    if changes:
        note(f"{source}: {' and '.join(changes)}")
    return math.ceil(info.frames * model.sample_rate / info.rate)


def _blocks(model: NeuralCodec, source: str | Path, progress: bool) -> Iterator[np.ndarray]:
    step = round(PIECE * model.sample_rate)
    blocks = audio.blocks(source, step, model.sample_rate, 1)
    total = math.ceil(audio.info(source).seconds / PIECE)
    return iter(tqdm(blocks, Path(source).name, total, leave=False, disable=None if progress else True))


def _tables(model: NeuralCodec) -> Tables:
    found = tables(model)
    if found is None:
        raise InputError("this model does not know how often its codes occur, which entropy coding needs")
    return found


# --- decoding ----------------------------------------------------------------------------------------------


def decode_file(
    model: NeuralCodec,
    source: str | Path,
    target: str | Path,
    layers: int | None = None,
    start: float = 0.0,
    seconds: float | None = None,
    conceal: bool = False,
    force: bool = False,
    progress: bool = False,
) -> int:
    """The audio of an .sstr file; returns how many packets were damaged, which is an error unless `conceal`.

    `start` and `seconds` take a part of it, without decoding what comes before.
    """
    with ExitStack() as stack:
        try:
            file = stack.enter_context(Path(source).open("rb"))
        except OSError as error:
            raise InputError(f"{source}: {reason(error)}") from None
        reader = Reader(file, str(source), tables(model), strict=not conceal)
        check(model, reader.header, str(source))
        blocks = decoded(model, reader, layers, start, seconds, progress)
        writer = stack.enter_context(audio.Writer(target, model.sample_rate, 1, force=force))
        for block in blocks:
            writer.write(np.clip(block, -1, 1))
        return reader.damaged


def decoded(
    model: NeuralCodec,
    reader: Reader,
    layers: int | None = None,
    start: float = 0.0,
    seconds: float | None = None,
    progress: bool = False,
) -> Iterator[np.ndarray]:
    """Blocks of audio (1, any) from the packets of a reader of this model's, what is lost concealed."""
    head = reader.header
    if layers is not None and not 1 <= layers <= head.layers:
        raise InputError(f"{layers} layers are asked for, and the stream has {head.layers}")
    first = round(start * head.rate)
    last = None if seconds is None else first + round(seconds * head.rate)
    at = 0
    if first:
        if head.samples is not None and first >= head.samples:
            raise InputError(f"begins at {start:g} s, but the stream has {head.samples / head.rate:g} s")
        at = reader.seek(max(0, first // head.hop - decoder_context(model))) * head.hop
    whole = head.samples is not None
    stream = DecoderStream(model, head.samples - at if whole and head.samples is not None else None)
    concealer = Concealer(model, stream)
    total = None if head.frames is None else head.packets
    for packet in tqdm(reader, "decode", total, leave=False, disable=None if progress else True):
        codes = packet.codes if packet.codes is None or layers is None else packet.codes[:layers]
        made = concealer.feed(codes, packet.frames)
        yield from _part(made, at, first, last)
        at += made.shape[-1]
        if last is not None and at >= last:
            return
    if reader.header.samples is not None and not whole:  # told by the end of the stream
        stream.limit = reader.header.samples
    yield from _part(concealer.finish(), at, first, last)


def _part(made: Tensor, at: int, first: int, last: int | None) -> Iterator[np.ndarray]:
    begin = max(0, first - at)
    end = made.shape[-1] if last is None else min(made.shape[-1], last - at)
    if end > begin:
        yield made[0, :, begin:end].cpu().numpy()


def check(model: NeuralCodec, head: Header, name: str) -> None:
    """The stream is of this model."""
    kind = {"rate": model.sample_rate, "hop": model.hop, "size": model.codebooks[0], "layers": len(model.codebooks)}
    expect(head, name, **kind, fingerprint=fingerprint(model))


# --- both ----------------------------------------------------------------------------------------------------


def reconstruct_file(
    model: NeuralCodec, source: str | Path, target: str | Path, layers: int | None = None, force: bool = False
) -> None:
    """What an audio file sounds like after the codec, at the codec's rate."""
    samples = _length(model, source)
    with audio.Writer(target, model.sample_rate, 1, frames=samples, force=force) as writer:
        for block in passed(model, _blocks(model, source, False), samples, layers):
            writer.write(np.clip(block, -1, 1))


def passed(
    model: NeuralCodec, blocks: Iterable[np.ndarray], samples: int, layers: int | None = None
) -> Iterator[np.ndarray]:
    """Blocks of audio through the codec and back."""
    stream = DecoderStream(model, samples)
    device = next(model.parameters()).device
    for codes in encoded(model, blocks, layers):
        yield stream.feed(torch.from_numpy(codes)[None].to(device))[0].cpu().numpy()
    yield stream.finish()[0].cpu().numpy()
