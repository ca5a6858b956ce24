"""Pictures for a report: spectrograms as PNG, plots as HTML and SVG for any width of page, light or dark.

The picture is stretched to the page; labels are HTML placed in percent around it, so their size stays the same.
"""

from __future__ import annotations

import base64
import math
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import ArrayLike

# Magma's anchors: lightness rises evenly from black to a pale yellow.
ANCHORS = ("000004", "1c1044", "4f127b", "812581", "b5367a", "e55064", "fb8761", "fec287", "fcfdbf")
SERIES = 6  # colours of lines, in the page's style sheet; further lines are dashed
RANGE_DB = 80.0
_WIDTH, _ROWS, _POINTS = 720, 144, 500  # pixels of a spectrogram; points drawn of a line


# --- numbers and axes ------------------------------------------------------------------------------------------------


def number(value: object) -> str:
    """A value as short text with four significant digits; None and NaN are –."""
    if value is None or value != value:
        return "–"
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.number):
        return str(value)
    if float(value) == round(float(value)) and abs(value) < 1e6:
        return f"{int(value):,}"
    for size, letter in ((1e9, "G"), (1e6, "M")):
        if size <= abs(value) < 1000 * size:
            return f"{value / size:.4g} {letter}"
    return f"{value:.4g}"


def _short(value: float) -> str:
    return f"{value / 1000:g}k" if 1e4 <= abs(value) < 1e6 else number(value)


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers from `low` to `high`."""
    rough = (high - low) / count
    if not (math.isfinite(rough) and rough > 0):
        return [low]
    unit = 10.0 ** math.floor(math.log10(rough))
    step = unit * next(n for n in (1, 2, 5, 10) if n * unit >= rough * 0.75)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def _axes(content: str, x: list[tuple[float, str]], y: list[tuple[float, str]], unit: str, scale: str = "") -> str:
    """`content` stretched between labels at fractions of its width and height; `unit` stands behind the last x."""
    below = "".join(f'<span style="left:{100 * at:.2f}%">{escape(text)}</span>' for at, text in x)
    below = below.removesuffix("</span>") + f"<em>{escape(unit)}</em></span>"
    beside = "".join(f'<span style="bottom:{100 * at:.2f}%">{escape(text)}</span>' for at, text in y)
    area = f'<div class="y">{beside}</div><div class="area">{content}</div>{scale}<div class="x">{below}</div>'
    return f'<div class="plot{" beside" if unit and not scale else ""}">{area}</div>'


# --- spectrograms ----------------------------------------------------------------------------------------------------


def png(pixels: np.ndarray) -> bytes:
    """A PNG file of uint8 RGB pixels (H, W, 3)."""
    height, width, _ = pixels.shape
    # Filter 2 stores differences to the row above, which packs better.
    above = np.concatenate([np.zeros_like(pixels[:1]), pixels[:-1]])
    rows = np.concatenate([np.full((height, 1), 2, np.uint8), (pixels - above).reshape(height, -1)], 1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    file = b"\x89PNG\r\n\x1a\n"
    for name, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b"")):
        file += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return file


def colours(values: ArrayLike) -> np.ndarray:
    """Values (...) from 0 to 1 as uint8 RGB (..., 3)."""
    anchors = np.array([list(bytes.fromhex(code)) for code in ANCHORS], float)
    at = np.linspace(0, 1, len(anchors))
    return np.stack([np.interp(np.asarray(values), at, anchors[:, i]) for i in range(3)], -1).round().astype(np.uint8)


def _mel(hertz: ArrayLike) -> np.ndarray:
    return np.log1p(np.divide(hertz, 700))


def spectrogram(samples: np.ndarray, rate: int) -> np.ndarray:
    """Levels of samples (T,) or (C, T) in dB re a full-scale sine: (rows, columns), rows mel-spaced from 0 Hz up."""
    samples = np.asarray(samples, np.float32).reshape(-1, np.shape(samples)[-1]).mean(0)
    size = 1 << max(4, round(math.log2(rate * 0.036)))
    columns = min(_WIDTH, 1 + 8 * len(samples) // size)
    per_column = min(8, 1 + 2 * len(samples) // (columns * size))  # frames whose mean is one column
    starts = ((np.arange(columns * per_column) + 0.5) * (len(samples) / (columns * per_column))).astype(int)
    samples = np.pad(samples, size // 2)
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    bins = np.fft.rfftfreq(size, 1 / rate)
    centres = 700 * np.expm1(np.linspace(0, _mel(rate / 2), _ROWS))
    reach = np.maximum(np.gradient(centres), rate / size)[:, None]  # at least a bin: the lowest rows interpolate
    weights = np.maximum(0, 1 - np.abs(bins - centres[:, None]) / reach)
    weights /= weights.sum(1, keepdims=True)
    power = np.empty((columns * per_column, _ROWS))
    for at in range(0, len(starts), 256):  # a block at a time: an hour needs no more memory
        frames = samples[starts[at : at + 256, None] + np.arange(size)]
        power[at : at + 256] = np.abs(np.fft.rfft(frames * window)) ** 2 @ weights.T
    power = power.reshape(columns, per_column, _ROWS).mean(1).T / (window.sum() / 2) ** 2
    return 10 * np.log10(np.maximum(power, 1e-12))


def spectrogram_image(samples: np.ndarray, rate: int, top_db: float | None = None) -> np.ndarray:
    """RGB pixels (H, W, 3), high frequencies first, of the 80 dB below `top_db` (the loudest point if None)."""
    levels = spectrogram(samples, rate)[::-1]
    top = levels.max() if top_db is None else top_db
    return colours((levels - top) / RANGE_DB + 1)


def spectrogram_plot(samples: np.ndarray, rate: int, top_db: float) -> str:
    """The image between its axes (s, kHz) and its scale (dB re full scale)."""
    data = base64.b64encode(png(spectrogram_image(samples, rate, top_db))).decode()
    image = f'<img alt="spectrogram" src="data:image/png;base64,{data}">'
    seconds, top_hz = np.shape(samples)[-1] / rate, rate / 2
    octaves = [0.0, *(1000.0 * 2**octave for octave in range(10) if 1000 * 2**octave <= top_hz)]
    hertz = octaves if top_hz >= 1000 else ticks(0, top_hz)
    y = [(float(_mel(hz) / _mel(top_hz)), f"{hz / 1000:g}" + " kHz" * (hz == hertz[-1])) for hz in hertz]
    x = [(at / seconds, f"{at:g}") for at in ticks(0, seconds)]
    levels = ticks(top_db - RANGE_DB, top_db, 4)[::-1]
    labels = "".join(f'<span style="top:{100 * (top_db - db) / RANGE_DB:g}%">{db:.0f}</span>' for db in levels)
    scale = f'<div class="scale" title="dB re full scale">{labels.replace("</span>", " dB</span>", 1)}</div>'
    return _axes(image, x, y, "s", scale)


# --- lines, bars and tables of counts --------------------------------------------------------------------------------


def curve(lines: Mapping[str, tuple[ArrayLike, ArrayLike]], log: bool = False, unit: str = "") -> str:
    """Line plots over one pair of axes; `log` scales y, `unit` is that of x. NaN leaves a gap.

    The legend gives each line's value at the last x that all of them reach, between two points on the line drawn.
    """
    series = {label: _thinned(np.asarray(x, float), np.asarray(y, float), log) for label, (x, y) in lines.items()}
    shown = [points[:, np.isfinite(points).all(0)] for points in series.values()]
    every = np.concatenate([np.zeros((2, 0)), *shown], 1)
    if not every.size:
        every = np.zeros((2, 1))
    low, high = every.min(1), every.max(1)
    margin = np.where(high > low, (high - low) * np.array([0, 0.04]), 0.5)
    low, high = low - margin, high + margin

    def place(value: float, axis: int) -> float:
        return float((value - low[axis]) / (high[axis] - low[axis]))

    x = [(place(at, 0), _short(at)) for at in ticks(low[0], high[0])]
    y = [(place(at, 1), _short(10.0**at if log else at)) for at in _log_ticks(low[1], high[1], log)]
    drawn = "".join(f'<path class="grid" d="M0 {100 - 100 * at:.2f}H100"/>' for at, _ in y)
    where, values = _readings(lines.values(), log, unit)
    legend = f"<i>{escape(where)}</i>" if where else ""
    for index, ((label, points), value) in enumerate(zip(series.items(), values, strict=True)):
        style = f"line s{index % SERIES}" + (" dashed" if index >= SERIES else "")
        path, pen = "", "M"
        for a, b in points.T:
            finite = math.isfinite(a) and math.isfinite(b)
            if finite:
                spot = f"{100 * place(a, 0):.2f} {100 - 100 * place(b, 1):.2f}"
                path += f"M{spot}h0" if pen == "M" else f"L{spot}"  # h0 makes a point that stands alone visible
            pen = "L" if finite else "M"
        drawn += f'<path class="{style}" d="{path}"><title>{escape(label)}</title></path>'
        key = f'<svg viewBox="0 0 20 4"><path class="{style}" d="M1 2H19"/></svg>'
        legend += f"<span>{key}{escape(label)} <b>{escape(value)}</b></span>"
    svg = f'<svg viewBox="0 0 100 100" preserveAspectRatio="none" role="img">{drawn}</svg>'
    return f'<div class="legend">{legend}</div>{_axes(svg, x, y, unit)}'


def _readings(lines: Iterable[tuple[ArrayLike, ArrayLike]], log: bool, unit: str) -> tuple[str, list[str]]:
    """The x at which the legend reads the lines, as text, and their values there: the last x that all lines reach.

    Lines that do not overlap are read at their own ends.
    """
    unit = f" {unit}" if unit else ""
    points = [np.array([x, y], float) for x, y in lines]
    points = [each[:, np.isfinite(each).all(0) & ((each[1] > 0) | (not log))] for each in points]
    reached = [each for each in points if each.size]
    at = min((float(x.max()) for x, _ in reached), default=0.0)
    if not all(x.min() <= at for x, _ in reached):
        return "", [f"{number(y[-1])} at {number(x[-1])}{unit}" if y.size else "–" for x, y in points]
    if log:
        values = [10 ** np.interp(at, x, np.log10(y)) if y.size else None for x, y in points]
    else:
        values = [np.interp(at, x, y) if y.size else None for x, y in points]
    return f"at {number(at)}{unit}:" if reached else "", list(map(number, values))


def _thinned(x: np.ndarray, y: np.ndarray, log: bool) -> np.ndarray:
    """Points (2, N) to draw: of long lines the lowest and the highest of each stretch, so that no spike is lost."""
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"x and y of a curve must be equally long: {x.shape} and {y.shape}")
    if log:
        y = np.log10(np.where(y > 0, y, np.nan))
    if len(x) > 2 * _POINTS:
        pieces = np.array_split(np.arange(len(x)), _POINTS)
        low = [piece[np.argmin(np.where(np.isfinite(y[piece]), y[piece], np.inf))] for piece in pieces]
        high = [piece[np.argmax(np.where(np.isfinite(y[piece]), y[piece], -np.inf))] for piece in pieces]
        keep = np.unique([0, *low, *high, len(x) - 1])
        x, y = x[keep], y[keep]
    return np.stack([x, y])


def _log_ticks(low: float, high: float, log: bool) -> list[float]:
    if not log:
        return ticks(low, high, 4)
    if high - low < 1:  # less than a decade: round numbers, where they fall
        return [math.log10(value) for value in ticks(10**low, 10**high, 4)]
    step = math.ceil((high - low) / 6)
    return [float(power) for power in range(math.ceil(low), math.floor(high) + 1, step)]


def bars(values: Mapping[str, float]) -> str:
    """A horizontal bar for each value; those below zero go left."""
    finite = [value for value in values.values() if math.isfinite(value)]
    low, high = min([0, *finite]), max([0, *finite])
    span = (high - low) or 1
    rows = ""
    for label, value in values.items():
        start, end = sorted((0, value)) if math.isfinite(value) else (0, 0)
        bar = f'<i style="left:{100 * (start - low) / span:.2f}%;width:{100 * (end - start) / span:.2f}%"></i>'
        rows += f"<span>{escape(label)}</span><div>{bar}</div><b>{number(value)}</b>"
    return f'<div class="bars">{rows}</div>'


def matrix(labels: Sequence[str], counts: ArrayLike) -> str:
    """A confusion matrix: a row for each true class, shaded by share of the row, with the recall of the class."""
    table = np.asarray(counts)
    if table.shape != (len(labels), len(labels)):
        raise ValueError(f"counts {table.shape} do not fit {len(labels)} labels")
    names = [escape(label) for label in labels]
    head = "".join(f"<th><span>{name}</span></th>" for name in names)
    rows = f'<tr><th class="corner">true \\ predicted</th>{head}<th><span>recall</span></th></tr>'
    for row, (name, line) in enumerate(zip(names, table, strict=True)):
        total = line.sum() or 1
        cells = ""
        for other, count in zip(names, line, strict=True):
            share = count / total
            note = f"{name} predicted as {other}: {number(count)} ({100 * share:.0f} %)"
            strong = ' class="strong"' if share > 0.5 else ""
            cells += f'<td{strong} style="--share:{share:.3f}" title="{note}">{number(count) if count else ""}</td>'
        recall = line[row] / total
        rows += f'<tr><th>{name}</th>{cells}<td class="right">{100 * recall:.0f} %</td></tr>'
    return f'<div class="scroll"><table class="matrix">{rows}</table></div>'
