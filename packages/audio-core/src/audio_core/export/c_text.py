"""Text of C sources: the engine, which is copied, and the defines and tables of a model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

_WIDTH = 118  # characters of a line of numbers


def engine(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Names and texts of the files that are the same for every model."""
    return {name: (folder / name).read_text(encoding="utf-8") for name in names}


def write(folder: Path, texts: dict[str, str]) -> None:
    """Write a new folder with files of these names and texts."""
    folder.mkdir()
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def defines(prefix: str, rows: Sequence[tuple[str, object, str]]) -> str:
    """`#define PREFIX_NAME value`, a line for each name, value and comment; the comments stand in one column."""
    starts = [f"#define {prefix}_{name} {value}" for name, value, _ in rows]
    width = max(map(len, starts))
    comments = [f"  /* {comment} */" if comment else "" for _, _, comment in rows]
    return "\n".join((start.ljust(width) + comment).rstrip() for start, comment in zip(starts, comments, strict=True))


def header(guard: str, text: str) -> str:
    """`text` in a guard against being included twice."""
    return f"#ifndef {guard}\n#define {guard}\n\n{text}\n\n#endif\n"


def array(name: str, values: np.ndarray) -> str:
    """Numbers of one type as a constant of this file, in the order of memory."""
    kind, text = ("float", _float) if values.dtype.kind == "f" else (f"{values.dtype}_t", str)
    return f"static {table(kind, name, values.size, wrapped(map(text, values.ravel().tolist())))}"


def table(kind: str, name: str, size: int | str, lines: str) -> str:
    """A constant array with `lines` between its braces."""
    return f"const {kind} {name}[{size}] = {{\n{lines}}};\n"


def wrapped(texts: Iterable[str]) -> str:
    """Texts, each followed by a comma, wrapped to lines of moderate length."""
    lines, line = [], "   "
    for text in texts:
        if len(line) + len(text) + 2 > _WIDTH:
            lines.append(line)
            line = "   "
        line += f" {text},"
    return "\n".join([*lines, line]) + "\n"


def _float(value: float) -> str:
    """A float in nine digits, which suffice to restore it exactly."""
    text = f"{value:.9g}"
    return f"{text}f" if "." in text or "e" in text else f"{text}.f"
