"""Reports as one self-contained HTML page with tables, curves, spectrograms and audio players.

The page loads nothing from elsewhere and runs no script; a Content-Security-Policy in its head enforces this.
"""

from __future__ import annotations

import base64
import datetime
import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import audio, draw
from .files import write_text

Sound = tuple[str, ArrayLike, int]  # label, samples (T,) or (C, T), rate

_STYLE = """
:root{color-scheme:light dark;--page:#f7f7f5;--card:#fff;--text:#1d2127;--dim:#646b76;--rule:#e1e3e6;--blue:37 99 205;
--shade:#0004;--s0:#2563cd;--s1:#d9650b;--s2:#0b8a67;--s3:#b8379a;--s4:#8a6a00;--s5:#6750c8}
@media(prefers-color-scheme:dark){:root{--page:#121417;--card:#1a1d22;--text:#e6e8eb;--dim:#99a1ad;--rule:#2e333b;
--blue:74 134 240;--shade:#000c;--s0:#6ea2ff;--s1:#ff9d52;--s2:#41c79c;--s3:#ee86d2;--s4:#dcb640;--s5:#a998ff}}
*{box-sizing:border-box}
body{margin:0 auto;padding:2.5rem 1.25rem 4rem;max-width:1080px;background:var(--page);color:var(--text);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
h1{font-size:1.9rem;line-height:1.2;letter-spacing:-.02em;margin:0 0 1.5rem}
h2{font-size:1.25rem;letter-spacing:-.01em;margin:2.75rem 0 .75rem}
p{max-width:70ch;margin:.75rem 0}
figure{margin:1rem 0;padding:1rem 1.1rem;min-width:0;
background:var(--card);border:1px solid var(--rule);border-radius:10px}
figcaption{display:flex;flex-wrap:wrap;gap:0 .6em;align-items:baseline;font-weight:600;margin-bottom:.5rem}
figcaption small{font-weight:400;color:var(--dim);white-space:nowrap}
.scroll{overflow-x:auto;
background:linear-gradient(to right,var(--card) 30%,transparent) 0 0/2.5rem 100% no-repeat local,
linear-gradient(to left,var(--card) 30%,transparent) 100% 0/2.5rem 100% no-repeat local,
linear-gradient(to right,var(--shade),transparent) 0 0/.9rem 100% no-repeat scroll,
linear-gradient(to left,var(--shade),transparent) 100% 0/.9rem 100% no-repeat scroll}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:.925rem}
.data{width:100%}
.data th,.data td{text-align:left;padding:.4rem .9rem .4rem 0;border-bottom:1px solid var(--rule)}
.data th{color:var(--dim);font-weight:500;white-space:nowrap}
.data tr:last-child td{border-bottom:0}
.data .n{text-align:right}
.data :last-child{padding-right:0}
.row{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,19rem),1fr));gap:1rem;margin:1rem 0}
.row figure{margin:0}
audio{display:block;width:100%;height:40px;margin:.25rem 0 .75rem}
.plot{display:grid;grid-template-columns:3.6rem minmax(0,1fr) auto;grid-template-rows:11rem 1.5rem;
font-size:.75rem;line-height:1;color:var(--dim);font-variant-numeric:tabular-nums}
.beside{padding-right:3.2rem}
.plot span{position:absolute;white-space:nowrap}
.y,.x,.area,.scale{position:relative}
.y span{right:.5rem;transform:translateY(50%)}
.x{grid-column:2}
.x span{top:.5rem;transform:translateX(-50%)}
.x em{position:absolute;left:100%;margin-left:.35em;font-style:normal}
.area{border-left:1px solid var(--rule);border-bottom:1px solid var(--rule)}
.area img,.area svg{position:absolute;width:100%;height:100%;display:block}
.area svg{overflow:visible}
.scale{width:.6rem;margin:0 2.9rem 0 .6rem;background:linear-gradient(to top,MAP)}
.scale span{left:1rem;transform:translateY(-50%)}
.grid{stroke:var(--rule);stroke-width:1;vector-effect:non-scaling-stroke}
.line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round;vector-effect:non-scaling-stroke}
.dashed{stroke-dasharray:6 5}
.legend{display:flex;flex-wrap:wrap;gap:.2rem 1.4rem;font-size:.85rem;margin:0 0 .9rem}
.legend svg{width:20px;height:4px;margin-right:.5em;vertical-align:middle}
.legend b{font-weight:500;color:var(--dim);font-variant-numeric:tabular-nums}
.legend i{font-style:normal;color:var(--dim)}
.bars{display:grid;grid-template-columns:fit-content(45%) 1fr max-content;gap:.4rem .9rem;
align-items:center;font-size:.925rem}
.bars div{position:relative;height:1rem;background:rgb(var(--blue)/.08);border-radius:3px}
.bars i{position:absolute;top:0;bottom:0;background:rgb(var(--blue));border-radius:3px}
.bars b{font-weight:500;text-align:right;font-variant-numeric:tabular-nums}
.matrix{font-size:.8rem}
.matrix th{font-weight:500;color:var(--dim);text-align:right;padding:.2rem .5rem;white-space:nowrap}
.matrix tr:first-child th{vertical-align:bottom;padding:.5rem .2rem}
.matrix tr:first-child span{writing-mode:vertical-rl;transform:rotate(180deg)}
.matrix td{min-width:2.1rem;height:2.1rem;text-align:center;border:1px solid var(--card);
background:rgb(var(--blue)/calc(.05 + .95*var(--share,0)));border-radius:4px}
.matrix .strong{color:#fff}
.matrix .right{background:none;text-align:right;padding-left:.6rem;color:var(--dim);white-space:nowrap}
.matrix .corner{font-weight:400}
.matrix th:first-child{position:sticky;left:0;background:var(--card)}
footer{margin-top:3rem;padding-top:.75rem;border-top:1px solid var(--rule);font-size:.8rem;color:var(--dim)}
footer code{font-size:.95em;overflow-wrap:anywhere}
""".replace("MAP", ",".join(f"#{code}" for code in draw.ANCHORS))
_STYLE += "".join(f".s{index}{{stroke:var(--s{index})}}" for index in range(draw.SERIES))


class Report:
    """A page whose parts are added from top to bottom. All text is escaped."""

    def __init__(self, title: str):
        self.title = title
        self._parts: list[str] = []
        self._foot = ""

    def heading(self, text: str) -> None:
        self._parts.append(f"<h2>{escape(text)}</h2>")

    def text(self, text: str) -> None:
        """A paragraph."""
        self._parts.append(f"<p>{escape(text)}</p>")

    def table(self, header: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "") -> None:
        """Columns of numbers are right-aligned with equal decimals; None and NaN show as –."""
        lines = list(rows)
        columns = [_column([line[at] for line in lines]) for at in range(len(header))]
        marks = [' class="n"' if numeric else "" for numeric, _ in columns]
        head = "".join(f"<th{mark}>{escape(name)}</th>" for mark, name in zip(marks, header, strict=True))
        body = "".join(
            "<tr>" + "".join(f"<td{mark}>{escape(cell)}</td>" for mark, cell in zip(marks, line, strict=True)) + "</tr>"
            for line in zip(*(texts for _, texts in columns), strict=True)
        )
        self._figure(caption, f'<div class="scroll"><table class="data"><tr>{head}</tr>{body}</table></div>')

    def audio(self, label: str, samples: ArrayLike, rate: int, spectrogram: bool = True) -> None:
        """A player, 16-bit FLAC inside the page, over its spectrogram; samples are (T,) or (C, T)."""
        self.row([(label, samples, rate)], spectrogram)

    def row(self, sounds: Sequence[Sound], spectrogram: bool = True) -> None:
        """Players side by side, such as a reference and its estimates; their spectrograms share one scale of levels."""
        checked = [(label, audio.samples(samples, label), rate) for label, samples, rate in sounds]
        top = 0.0
        if spectrogram:
            loudest = max(draw.spectrogram(samples, rate).max() for _, samples, rate in checked)
            top = 5.0 * math.ceil(loudest / 5)
        figures = ""
        for label, samples, rate in checked:
            plot = draw.spectrogram_plot(samples, rate, top) if spectrogram else ""
            peak = float(np.abs(samples).max())
            level = f"peak {20 * math.log10(peak):+.1f} dB" if peak else "silent"
            clipped = ", clipped" if peak > 1 else ""
            about = f"{samples.shape[1] / rate:.3g} s · {rate / 1000:g} kHz · {level}{clipped}"
            player = f'<audio controls preload="metadata" src="data:audio/flac;base64,{_flac(samples, rate)}"></audio>'
            caption = f"<figcaption>{escape(label)}<small>{about}</small></figcaption>"
            figures += f"<figure>{caption}{player}{plot}</figure>"
        self._parts.append(f'<div class="row">{figures}</div>')

    def curve(
        self, title: str, lines: Mapping[str, tuple[ArrayLike, ArrayLike]], log: bool = False, unit: str = ""
    ) -> None:
        """Lines {label: (x, y)} over one pair of axes; `log` scales y, `unit` is that of x. NaN leaves a gap.

        The legend gives each line's value at the last x that all lines reach, so that they can be compared.
        """
        self._figure(title, draw.curve(lines, log, unit))

    def bars(self, title: str, values: Mapping[str, float]) -> None:
        self._figure(title, draw.bars(values))

    def matrix(self, title: str, labels: Sequence[str], counts: ArrayLike) -> None:
        """A confusion matrix: counts[true, predicted]."""
        self._figure(title, draw.matrix(labels, counts))

    def foot(self, program: str, command: str) -> None:
        """End the page with the program and its version, the command line, and today's date."""
        day = datetime.date.today().isoformat()
        self._foot = f"<footer>{day} · {escape(program)} · <code>{escape(command)}</code></footer>\n"

    def html(self) -> str:
        title, body = escape(self.title), "\n".join(self._parts)
        policy = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
        return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}"><link rel="icon" href="data:,">
<title>{title}</title><style>{_STYLE}</style></head>
<body><h1>{title}</h1>
{body}
{self._foot}</body></html>
"""

    def save(self, path: str | Path) -> None:
        write_text(path, self.html())

    def _figure(self, caption: str, content: str) -> None:
        caption = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
        self._parts.append(f"<figure>{caption}{content}</figure>")


def _column(cells: Sequence[object]) -> tuple[bool, list[str]]:
    """Whether the cells are numbers, and their texts. The largest number shows four digits, and sets the decimals."""
    present: list[Any] = [cell for cell in cells if draw.number(cell) != "–"]
    if not present or not all(
        isinstance(cell, int | float | np.number) and not isinstance(cell, bool) for cell in present
    ):
        return False, [draw.number(cell) for cell in cells]
    largest = max((abs(cell) for cell in present if math.isfinite(cell)), default=0)
    decimals = 3 - math.floor(math.log10(largest)) if largest else 0
    whole = all(isinstance(cell, int | np.integer) for cell in present)
    if not whole and decimals > 6:  # too small to be written out
        return True, [draw.number(cell) for cell in cells]
    form = f",.{0 if whole else max(0, decimals)}f"
    return True, [format(cell, form) if draw.number(cell) != "–" else "–" for cell in cells]


def _flac(samples: np.ndarray, rate: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sound.flac"
        audio.write(path, samples, rate)
        return base64.b64encode(path.read_bytes()).decode()
