"""A codec's encoder and search as C99 sources: the engine in `device/`, the same for all, and a model's numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from audio_core.export import c_text

from ..config import CodecConfig, bits
from ..model import NeuralCodec
from ..sstr.header import Header
from . import chain
from .chain import Layer
from .quantise import IntegerModel

ENGINE = Path(__file__).with_name("device")
_SHARED = ("soundstream.h", "soundstream.c", "sstr.h", "sstr.c", "main.c")
_PER_PACKET = 8  # frames: no bit is wasted
_OF_MODEL = ("soundstream_model.h", "soundstream_model.c")
FILES = (*_SHARED, "soundstream_float.c", "soundstream_integer.c", *_OF_MODEL)
_NOTICE = "/* Made by audio-soundstream; the engine is in soundstream.c. */\n"


def sources(model: NeuralCodec | IntegerModel) -> dict[str, str]:
    """Names and texts of the files that, compiled together, are the encoder and an example of its use."""
    code = _of_integers(model) if isinstance(model, IntegerModel) else _of_floats(model)
    names = (*_SHARED, "soundstream_integer.c" if code.integer else "soundstream_float.c")
    return c_text.engine(ENGINE, names) | dict(zip(_OF_MODEL, (_header(code), _numbers(code)), strict=True))


def flash(model: NeuralCodec | IntegerModel) -> dict[str, int]:
    """Bytes of the numbers that the C code keeps in read-only memory, of the encoder and of the search."""
    code = _of_integers(model) if isinstance(model, IntegerModel) else _of_floats(model)
    parts = code.layers, code.books
    encoder, books = (sum(a.nbytes for row in part for a in row if isinstance(a, np.ndarray)) for part in parts)
    return {"encoder": encoder, "codebooks": books}


def memory(model: NeuralCodec | IntegerModel) -> int:
    """Bytes of the struct, but for what compilers add to align its parts."""
    code = _of_integers(model) if isinstance(model, IntegerModel) else _of_floats(model)
    places = 4 * len(code.chain)
    return (code.plan.values + code.plan.latent) * (2 if code.integer else 4) + places + 2 * len(code.books) + 20


def blocks_a_frame(model: NeuralCodec) -> int:
    """How often the encoder begins with the next outputs that are computed together."""
    layers = chain.layers(model)
    plan, rows, total = _plan(layers), model.hop, 0
    for layer in layers:
        rows //= layer.stride
        total += rows * _up(layer.outputs, plan.lanes) // plan.lanes
    return total


# --- what goes where in memory -----------------------------------------------------------------------------


class _Plan(NamedTuple):
    """How the engine sees a chain."""

    lanes: int
    """Outputs that are computed together; rows of more than one value are as wide as whole lanes."""
    rows: tuple[int, ...]
    """Values in a row of each layer's input."""
    lines: tuple[int, ...]
    """Where each layer's input begins."""
    values: int
    """Of all lines."""
    latent: int
    """Values of a latent, with zeros up to a multiple of 16, which are multiplied together."""


def _plan(layers: Sequence[Layer]) -> _Plan:
    """Inputs that only the next step needs share two rows in turn; every other input has a line for itself."""
    lanes = next(lanes for lanes in (16, 8, 4) if layers[0].outputs % lanes == 0 or lanes == 4)
    rows = [1 if layer.inputs == 1 else _up(layer.inputs, lanes) for layer in layers]
    kept = {layer.skip for layer in layers}
    passing = [layer.span == 1 and at not in kept for at, layer in enumerate(layers)]
    shared = max((row for row, passes in zip(rows, passing, strict=True) if passes), default=0)
    lines, values = [], 2 * shared
    for at, (layer, row) in enumerate(zip(layers, rows, strict=True)):
        lines.append(at % 2 * shared if passing[at] else values)
        values += 0 if passing[at] else layer.span * row
    return _Plan(lanes, tuple(rows), tuple(lines), values, _up(layers[-1].outputs, 16))


def _up(count: int, lanes: int) -> int:
    return -(-count // lanes) * lanes


def _weights(weight: np.ndarray, lanes: int) -> np.ndarray:
    """(O, I, kernel) -> (O / lanes, kernel, I, lanes)."""
    return _in_lanes(weight.transpose(0, 2, 1), lanes)


def _in_lanes(weight: np.ndarray, lanes: int) -> np.ndarray:
    """(O, ...) -> (O / lanes, ..., lanes), zeros behind the last."""
    padded = np.zeros((_up(len(weight), lanes), *weight.shape[1:]), weight.dtype)
    padded[: len(weight)] = weight
    return np.moveaxis(padded.reshape(-1, lanes, *weight.shape[1:]), 1, -1)


# --- what both kinds of models have ------------------------------------------------------------------------

Field = np.ndarray | int | None


class _Code(NamedTuple):
    """A model as the tables of the engine."""

    config: CodecConfig
    fingerprint: bytes
    integer: bool
    chain: list[Layer]
    plan: _Plan
    layers: Sequence[tuple[Field, ...]]
    """The first fields of each soundstream_layer: numbers to multiply, add and shift with."""
    books: Sequence[tuple[Field, ...]]
    """All fields of each soundstream_book."""


def _of_floats(model: NeuralCodec) -> _Code:
    layers = chain.layers(model)
    plan = _plan(layers)
    rows = [(_weights(layer.weight, plan.lanes), _in_lanes(layer.bias, plan.lanes)) for layer in layers]
    books = []
    for entries in model.quantizer.codebooks.detach().cpu().float().numpy():
        halves = (entries.astype(np.float64) ** 2).sum(1) / 2
        books.append((_in_lanes(entries, plan.lanes), halves.astype(np.float32)))
    return _Code(model.config, model.fingerprint(), False, layers, plan, rows, books)


def _of_integers(model: IntegerModel) -> _Code:
    layers = [layer.real for layer in model.layers]
    plan = _plan(layers)
    rows: list[tuple[Field, ...]] = []
    for layer in model.layers:
        bias = layer.bias + (1 << layer.shift.astype(np.int32) >> 1)  # rounds half up when shifted
        parts = (_in_lanes(part, plan.lanes) for part in (bias, layer.shift))
        rows.append((_weights(layer.weight, plan.lanes), *parts, layer.curve, layer.limit, layer.skip_shift))
    more = (0, 0), (0, plan.latent - model.config.width)
    tables = [(np.pad(book.entries, more), book.halves, book.shift, book.coarsest) for book in model.books]
    return _Code(model.config, model.fingerprint, True, layers, plan, rows, tables)


# --- the text ----------------------------------------------------------------------------------------------


def _header(code: _Code) -> str:
    config, plan = code.config, code.plan
    rows = [
        ("INTEGER", int(code.integer), "whether values are 16-bit integers, not floats"),
        ("RATE", config.rate, "samples a second"),
        ("HOP", config.hop, "samples of a frame"),
        ("LOOKAHEAD", chain.lookahead(code.chain), "samples behind a frame that it waits for"),
        ("CODEBOOKS", config.layers, "codes of a frame"),
        ("SIZE", config.size, "a code is below this"),
        ("BITS", bits(config), "of a code"),
        ("PER_PACKET", _PER_PACKET, "frames of a packet"),
        ("WIDTH", config.width, "values of a latent"),
        ("LAYERS", len(plan.rows), "of the encoder"),
        ("LANES", plan.lanes, "outputs that are computed together"),
        ("LATENT", plan.latent, "values that lie in memory for a latent"),
        ("LINES", plan.values, "and for the inputs of the layers"),
    ]
    return _NOTICE + c_text.header("SOUNDSTREAM_MODEL_H", c_text.defines("SOUNDSTREAM", rows))


def _numbers(code: _Code) -> str:
    plan, parts, rows, books = code.plan, [_NOTICE + '#include "soundstream.h"\n'], [], []
    for at, (layer, fields) in enumerate(zip(code.chain, code.layers, strict=True)):
        arrays, texts = _fields(fields, ("weight", "bias", "shift", "curve"), at)
        parts += arrays
        numbers = [plan.lines[at], layer.inputs, _up(layer.outputs, plan.lanes), plan.rows[at], layer.kernel]
        numbers += [layer.dilation, layer.span, layer.stride, *layer.pads, int(layer.depthwise)]
        skip = -1 if layer.skip is None else layer.skip
        texts += [*map(str, numbers), f"SOUNDSTREAM_{layer.activation.upper()}", str(skip)]
        rows.append(f"    /* {layer.name} */\n    {{{', '.join(texts)}}},\n")
    for at, fields in enumerate(code.books):
        arrays, texts = _fields(fields, ("entries", "halves", "up"), at)
        parts += arrays
        books.append(f"    {{{', '.join(texts)}}},\n")
    config = code.config
    stream = Header(config.rate, config.hop, config.layers, config.size, code.fingerprint, per_packet=_PER_PACKET)
    header = c_text.wrapped(map(str, stream.to_bytes()))
    parts.append(c_text.table("uint8_t", "soundstream_stream", 48, header))
    parts.append(c_text.table("soundstream_layer", "soundstream_layers", "SOUNDSTREAM_LAYERS", "".join(rows)))
    parts.append(c_text.table("soundstream_book", "soundstream_books", "SOUNDSTREAM_CODEBOOKS", "".join(books)))
    return "\n".join(parts)


def _fields(fields: Sequence[Field], names: Sequence[str], at: int) -> tuple[list[str], list[str]]:
    """Definitions of the arrays among the fields, and the text of every field in a table."""
    arrays, texts = [], []
    for place, field in enumerate(fields):
        if isinstance(field, np.ndarray):
            arrays.append(c_text.array(f"{names[place]}{at}", field))
        texts.append(f"{names[place]}{at}" if isinstance(field, np.ndarray) else "0" if field is None else str(field))
    return arrays, texts
