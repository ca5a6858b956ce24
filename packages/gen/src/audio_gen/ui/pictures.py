"""Pictures of sound as HTML: a waveform with regions shaded, and a spectrogram below the same time axis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from audio_core import draw

_COLUMNS = 600
_FLOOR_DB = -60.0  # what is quieter than this is shown as that quiet


def waveform(samples: np.ndarray, rate: int, regions: Sequence[tuple[float, float]] = ()) -> str:
    """The least and the greatest sample (C, T) of each column, and `regions` in seconds behind them."""
    length = samples.shape[-1]
    edges = np.linspace(0, length, min(_COLUMNS, length) + 1).astype(int)[:-1]
    low = np.minimum.reduceat(samples.min(0), edges)
    high = np.maximum.reduceat(samples.max(0), edges)
    peak = max(1e-3, float(np.abs(samples).max()))
    seconds = length / rate
    outline = [f"{at} {-value / peak:.3f}" for at, value in enumerate(high)]
    outline += [f"{at} {-value / peak - 0.01:.3f}" for at, value in reversed([*enumerate(low)])]
    shades = ""
    for start, end in regions:
        left, right = (min(1.0, edge / seconds) for edge in (start, end))
        shades += f'<i class="kept" style="left:{100 * left:.2f}%;width:{100 * (right - left):.2f}%"></i>'
    box = f'viewBox="0 -1.05 {max(1, len(edges) - 1)} 2.1" preserveAspectRatio="none" role="img"'
    svg = f'<svg {box} aria-label="waveform"><path d="M{"L".join(outline)}Z"/></svg>'
    x = "".join(f'<span style="left:{100 * at / seconds:.2f}%">{at:g}</span>' for at in draw.ticks(0, seconds))
    y = f'<span style="bottom:97.5%">{peak:.2g}</span><span style="bottom:50%">0</span>'
    area = f'<div class="area" data-seconds="{seconds:.6f}">{shades}{svg}</div>'
    return f'<div class="plot wave"><div class="y">{y}</div>{area}<div class="x">{x}</div></div>'


def spectrogram(samples: np.ndarray, rate: int) -> str:
    """Of (C, T), below its loudest 10 dB."""
    loudest = max(_FLOOR_DB, float(draw.spectrogram(samples, rate).max()))
    return draw.spectrogram_plot(samples, rate, float(10 * np.ceil(loudest / 10)))
