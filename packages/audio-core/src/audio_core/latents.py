"""Latents or codes of recordings: computed and decoded with any codec, and stored in files with their settings.

A file is in the safetensors format: one tensor `values`, and JSON in the metadata text `latents`. Loading it runs no
code. Encoding and decoding keep no gradients; a training calls the codec itself.
"""

import io
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from safetensors import SafetensorError
from safetensors.numpy import load as from_bytes
from safetensors.numpy import save as to_bytes
from torch import Tensor, nn

from . import audio, chunk
from .codec import Codec
from .files import InputError, reason, replacing

PIECE_SECONDS = 5.0  # audio that goes through a codec at once, besides the margins


@dataclass(frozen=True, eq=False)
class Latents:
    values: np.ndarray
    """Latents (width, F), floating-point, or codes (K, F), whole numbers from 0 on."""
    rate: int
    """The sampling rate of the codec's audio."""
    hop: int
    """Samples of one frame."""
    samples: int
    """Length of the encoded audio, in samples of `rate`. Frames behind it hold padding."""
    channels: int
    """The number of channels of the codec's audio."""
    fingerprint: bytes
    """The model's, as `Codec.fingerprint` returns it."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Anything that JSON can hold: a text, a label, the source."""

    def __post_init__(self) -> None:
        values = self.values
        Header(values.shape, str(values.dtype), self.rate, self.hop, self.samples, self.channels).check()
        if self.is_codes and values.min() < 0:
            raise InputError(f"codes begin at 0, got {values.min()}")
        if not np.isfinite(values).all():
            raise InputError("the latents hold NaN or infinity")
        if not isinstance(self.facts, Mapping):
            raise InputError(f"facts: expected values by name, got {self.facts!r:.60}")

    @property
    def is_codes(self) -> bool:
        return self.values.dtype.kind in "iu"

    @property
    def frames(self) -> int:
        return self.values.shape[1]


class Header(NamedTuple):
    """What is known of latents before their values are read."""

    shape: tuple[int, ...]
    dtype: str
    """As numpy or safetensors call it: floating-point for latents, integers for codes."""
    rate: int
    hop: int
    samples: int
    channels: int
    fingerprint: bytes = b""
    facts: Mapping[str, Any] = {}

    @property
    def is_codes(self) -> bool:
        return self.dtype[0] in "iuIU"

    def check(self) -> None:
        if len(self.shape) != 2 or not min(self.shape) or self.dtype[0] not in "fiuFIU":
            raise InputError(f"expected latents (width, F) or codes (K, F), got {self.dtype} {self.shape}")
        for name in ("rate", "hop", "samples", "channels"):
            if type(value := getattr(self, name)) is not int or value < 1:
                raise InputError(f"{name}: expected a whole number from 1 on, got {value!r}")
        if self.samples >= (self.shape[1] + 1) * self.hop:
            raise InputError(f"{self.shape[1]} frames of {self.hop} samples cannot hold {self.samples} samples")


# --- files -------------------------------------------------------------------------------------------------


def save(path: str | Path, latents: Latents, half: bool = False, force: bool = True) -> None:
    """Write codes as the smallest sufficient unsigned integers, latents as float32, or as float16 with `half`."""
    kind = np.min_scalar_type(latents.values.max()) if latents.is_codes else np.dtype("f2" if half else "f4")
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(latents.values, kind)
    if not np.isfinite(values).all():
        raise InputError(f"{path}: values up to {np.abs(latents.values).max():g} do not fit into {kind}")
    head = {name: getattr(latents, name) for name in ("rate", "hop", "samples", "channels")}
    head |= {"fingerprint": latents.fingerprint.hex(), "facts": dict(latents.facts)}
    try:
        text = json.dumps(head, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: facts must be what JSON can hold: {reason(error)}") from None
    with replacing(path, force) as temporary:
        temporary.write_bytes(to_bytes({"values": values}, {"latents": text}))


def load(path: str | Path | audio.Section, fingerprint: bytes | None = None) -> Latents:
    """Read what `save` wrote, as float32 or int64. With a `fingerprint`, latents of other models are refused."""
    with _naming(path):
        data = _source(path).read_bytes()
        head = _head(io.BytesIO(data), len(data))[1]
        values = from_bytes(data)["values"]
        mark = bytes.fromhex(head.pop("fingerprint"))
        wide = values.astype(np.float32 if values.dtype.kind == "f" else np.int64)
        latents = Latents(wide, fingerprint=mark, **head)
    if fingerprint is not None:
        expect_model(latents, fingerprint, str(path))
    return latents


def look(path: str | Path | audio.Section) -> Header:
    """What a file says of its values, which are not read: it may still hold NaN."""
    with _naming(path):
        source = _source(path)
        with source.open("rb") as file:
            entry, head = _head(file, source.stat().st_size)
        mark = bytes.fromhex(head.pop("fingerprint"))
        header = Header(tuple(entry["shape"]), entry["dtype"], fingerprint=mark, **head)
        header.check()
        return header


def _source(path: str | Path | audio.Section) -> Path | audio.Section:
    return Path(path) if isinstance(path, str) else path


def _head(file: BinaryIO, size: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """How the tensor `values` lies in a safetensors file of `size` bytes, and what `save` wrote beside it."""
    count = int.from_bytes(file.read(8), "little")
    if not 0 < count <= size - 8:
        raise SafetensorError("its header is not whole")
    header = json.loads(file.read(count))
    if "values" not in header:
        raise SafetensorError("File does not contain tensor values")
    if 8 + count + header["values"]["data_offsets"][1] > size:
        raise SafetensorError("its values are not whole")
    return header["values"], json.loads((header.get("__metadata__") or {})["latents"])


@contextmanager
def _naming(path: str | Path | audio.Section) -> Iterator[None]:
    """Whatever is wrong with a file, in one line with its name."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except OSError as error:
        raise InputError(f"{path}: {reason(error)}") from None
    except SafetensorError as error:
        raise InputError(f"{path}: is cut short or not safetensors: {reason(error)}") from None
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
        raise InputError(f"{path}: holds no latents: {reason(error)}") from None


def expect_model(latents: Latents, fingerprint: bytes, name: str = "latents") -> None:
    """Refuse latents of a model with another fingerprint."""
    if latents.fingerprint != fingerprint:
        models = f"model {latents.fingerprint.hex()}, not by {fingerprint.hex()}"
        raise InputError(f"{name}: was encoded by {models}; use that model, or encode the audio again")


# --- encoding and decoding ---------------------------------------------------------------------------------


def encode(
    codec: Codec,
    samples: ArrayLike | Tensor,
    rate: int,
    codes: bool = False,
    layers: int | None = None,
    generator: torch.Generator | None = None,
) -> Latents:
    """Encode a recording (T,) or (C, T) of any rate and channels to latents, or with `codes` to codes.

    `layers` is the number of codebooks. Latents are the mean of their distribution, or with a `generator` a sample of
    it. A long recording is encoded piece by piece where the codec states its receptive field.
    """
    recording = audio.convert_channels(audio.samples(samples), codec.channels)
    recording = audio.resample(recording, rate, codec.sample_rate)
    return _encoded(codec, [torch.from_numpy(recording)[None]], codes, layers, generator, {})


def encode_file(
    codec: Codec,
    source: str | Path,
    codes: bool = False,
    layers: int | None = None,
    generator: torch.Generator | None = None,
) -> Latents:
    """As `encode`, of an audio file, which is read in blocks. The facts hold the file's own rate and channels."""
    header = audio.info(source)
    blocks = audio.blocks(source, rate=codec.sample_rate, channels=codec.channels)
    facts = {"source_rate": header.rate, "source_channels": header.channels}
    return _encoded(codec, (torch.from_numpy(block)[None] for block in blocks), codes, layers, generator, facts)


def decode(codec: Codec, latents: Latents) -> np.ndarray:
    """The audio (C, T) of latents or codes, at the codec's rate and of the length that was encoded."""
    return torch.cat(list(_decoded(codec, latents)), -1)[0].numpy()


def decode_file(
    codec: Codec, latents: Latents, target: str | Path, encoding: str | None = None, force: bool = True
) -> None:
    """As `decode`, into an audio file, which is written in blocks and limited to full scale."""
    with audio.Writer(target, latents.rate, latents.channels, encoding, latents.samples, force) as writer:
        for block in _decoded(codec, latents):
            writer.write(block[0].clamp(-1, 1).numpy())


def from_array(
    codec: Codec, values: np.ndarray, samples: int | None = None, facts: Mapping[str, Any] | None = None
) -> Latents:
    """Latents of `codec` from an array: latents (width, F) or codes (K, F).

    `samples` is by default the length of all frames.
    """
    length = values.shape[-1] * codec.hop if samples is None else samples
    return Latents(values, codec.sample_rate, codec.hop, length, codec.channels, codec.fingerprint(), facts or {})


def _encoded(
    codec: Codec,
    blocks: Iterable[Tensor],
    codes: bool,
    layers: int | None,
    generator: torch.Generator | None,
    facts: Mapping[str, Any],
) -> Latents:
    if codes and not codec.codebooks:
        raise InputError("this codec has no codebooks, and so no codes; encode to latents")
    if layers is not None and not (codes and 1 <= layers <= len(codec.codebooks)):
        raise InputError(f"layers: expected codes of 1 to {len(codec.codebooks)} codebooks, got {layers}")
    lengths: list[int] = []
    model = partial(codec.codes, layers=layers) if codes else partial(codec.encode, generator=generator)
    field_samples = None if codec.receptive_field is None else codec.receptive_field[0]
    sizes = _sizes(codec, codec.hop, field_samples)
    parts = chunk.process_blocks(
        model, _counted(blocks, lengths), multiple=1, device=_device(codec), ratio=Fraction(1, codec.hop), **sizes
    )
    return from_array(codec, torch.cat(list(parts), -1)[0].numpy(), sum(lengths), facts)


def _decoded(codec: Codec, latents: Latents) -> Iterator[Tensor]:
    """Blocks of audio (1, C, any) on the CPU."""
    _expect_codec(codec, latents)
    sizes = _sizes(codec, 1, None if codec.receptive_field is None else codec.receptive_field[1])
    starts = itertools.count(0, sizes["segment"] - 2 * sizes["margin"])
    exact = codec.frames(latents.samples) == latents.frames  # else frames of padding follow

    def model(values: Tensor) -> Tensor:
        start = next(starts)
        is_end = exact and start + values.shape[-1] == latents.frames
        samples = latents.samples - start * codec.hop if is_end else None
        return codec.decode(codec.from_codes(values) if latents.is_codes else values, samples)

    values = torch.from_numpy(latents.values)[None]
    left = latents.samples
    for block in chunk.process_blocks(model, [values], device=_device(codec), ratio=codec.hop, **sizes):
        yield block[..., :left]
        left = max(0, left - block.shape[-1])


def _expect_codec(codec: Codec, latents: Latents) -> None:
    expect_model(latents, codec.fingerprint())
    rows, sizes = latents.values.shape[0], codec.codebooks
    if not latents.is_codes and rows != codec.width:
        raise InputError(f"latents: expected {codec.width} values a frame, got {rows}")
    if latents.is_codes and rows > len(sizes):
        raise InputError(f"latents: expected codes of at most {len(sizes)} codebooks, got {rows}")
    for row, size in zip(latents.values, sizes, strict=False):
        if latents.is_codes and row.max() >= size:
            raise InputError(f"latents: expected codes below {size}, got {row.max()}")


def _sizes(codec: Codec, unit: int, field: int | None) -> dict[str, int]:
    """Segment and margin for a receptive field; all count inputs, `unit` of which make one frame."""
    if field is None:
        return {"segment": unit << 40, "margin": 0, "overlap": 0}  # longer than any recording
    margin = -(-field // unit) * unit
    piece = max(1, round(PIECE_SECONDS * codec.sample_rate / codec.hop)) * unit
    return {"segment": piece + 2 * margin, "margin": margin, "overlap": 0}


def _counted(blocks: Iterable[Tensor], lengths: list[int]) -> Iterator[Tensor]:
    for block in blocks:
        lengths.append(block.shape[-1])
        yield block


def _device(codec: Codec) -> torch.device | None:
    parameter = next(codec.parameters(), None) if isinstance(codec, nn.Module) else None
    return None if parameter is None else parameter.device
