"""What the page does, without the page: from the values of its fields to a result, step by step."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from audio_core import audio
from audio_core.files import InputError

from .. import editing, files
from ..diffusion import Step, item_seeds
from ..generate import generate
from ..models.diffusion import Diffusion
from ..models.lm import LM
from . import pictures
from .form import DERIVED, Form, Way

FORMATS = ("wav", "flac", "ogg", "mp3")
_PREVIEWS = 5  # pictures on the way, whatever the number of steps is
_UNKNOWN = 10  # steps between them where nobody knows how many there are
Regions = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Request:
    way: Way
    item: Mapping[str, Any]
    """By the keys of the model's conditioners."""
    negative: str | None
    seed: int
    settings: Mapping[str, Any]
    seconds: float | None = None
    """Of the whole result, or for `continue` those to add."""
    source: Path | None = None
    strength: float = 0.5
    keep: Regions = ()


@dataclass(frozen=True)
class Progress:
    index: int
    steps: int | None
    picture: str | None
    """HTML."""


@dataclass(frozen=True)
class Result:
    samples: np.ndarray
    """(C, T)"""
    rate: int
    seed: int
    way: Way
    prompt: str
    name: str
    """Of its files, without an ending."""
    keep: Regions = ()
    """What stayed of the input, in seconds."""

    @property
    def seconds(self) -> float:
        return self.samples.shape[1] / self.rate

    @property
    def line(self) -> str:
        what = f"{self.prompt[:60]} · " if self.prompt else ""
        return f"{what}{self.way} · {self.seconds:.3g} s · seed {self.seed}"


# --- from fields to a request ------------------------------------------------------------------------------------


def request(form: Form, values: Mapping[str, Any]) -> Request:
    """From the values of the page's fields by their names, those of conditioners as `condition.KEY`."""
    way: Way = values["way"]
    if way not in form.ways:
        raise InputError(f"{way}: this model does not do that; it does {', '.join(form.ways)}")
    item = {}
    for each in form.fields:
        value = values.get(f"condition.{each.key}")
        if value is None and each.key not in DERIVED:
            if each.kind != "text":
                raise InputError(f"{each.label}: is empty; give a value")
            value = ""
        if value is not None:
            item[each.key] = value
    names = [setting.name for setting in (*form.main, *form.guidance)]
    settings = {name: values.get(name) for name in names if not name.startswith("interval_")}
    if form.samplers:
        settings["sampler"] = values.get("sampler")
    edges = values.get("interval_from"), values.get("interval_to")
    if any(edge is not None for edge in edges):
        own = {setting.name: setting.value for setting in form.guidance}
        low, high = (
            own[name] if edge is None else edge
            for name, edge in zip(("interval_from", "interval_to"), edges, strict=True)
        )
        settings["interval"] = (low, high)
    seed, strength = values.get("seed"), values.get("strength")
    source = values.get("source")
    if way != "generate" and source is None:
        raise InputError("audio: there is none; give a file, or take a result as input")
    return Request(
        way,
        item,
        (values.get("negative") or None) if form.negative else None,
        item_seeds(-1 if seed is None else int(seed), 1)[0],
        settings,
        values.get("more" if way == "continue" else "seconds"),
        None if source is None or way == "generate" else Path(source),
        0.5 if strength is None else strength,
        regions(values.get("keep") or "") if way == "inpaint" else (),
    )


def regions(text: str) -> Regions:
    """Such as `0:4 8:12`, in seconds; commas may stand between them."""
    result = []
    for part in text.replace(",", " ").split():
        try:
            start, end = (float(edge) for edge in part.split(":"))
        except ValueError:
            raise InputError(f"keep: expected regions in seconds such as 0:4 8:12, got {part[:20]!r}") from None
        if not 0 <= start < end < float("inf"):
            raise InputError(f"keep: expected a start before an end, got {part[:20]}")
        result.append((start, end))
    return tuple(result)


def recording(path: Path) -> audio.Audio:
    """What a browser has sent; messages name the file as its owner does, not where it is stored."""
    try:
        return audio.read(path)
    except InputError as error:
        raise InputError(str(error).replace(str(path), path.name)) from None


# --- from a request to a result ----------------------------------------------------------------------------------


def perform(model: Diffusion | LM, asked: Request, callback: Callable[[Any], object]) -> Result:
    common = {"negative": asked.negative, "seed": asked.seed, "callback": callback, **asked.settings}
    if asked.way == "generate":
        made = generate(model, asked.item, asked.seconds, **common).audio
        assert made is not None
        samples, rate, keep = made[0].float().cpu().numpy(), model.config.rate, asked.keep
    else:
        assert asked.source
        given = recording(asked.source)
        samples, rate = _edited(model, asked, given, common), given.rate
        keep = ((0.0, given.samples.shape[1] / rate),) if asked.way == "continue" else asked.keep
    prompt = str(asked.item.get("prompt", ""))
    name = f"{files.Prompt(asked.item).stem}-{asked.seed}"
    return Result(np.ascontiguousarray(samples), rate, asked.seed, asked.way, prompt, name, keep)


def _edited(model: Any, asked: Request, given: audio.Audio, common: Mapping[str, Any]) -> np.ndarray:
    start = (model, given.samples, given.rate)
    if asked.way == "inpaint":
        if not asked.keep:
            raise InputError("keep: is empty; say what stays, in seconds, such as 0:4 8:12")
        return editing.inpaint(*start, asked.keep, asked.item, **common)
    if asked.way == "continue":
        if asked.seconds is None:
            raise InputError("seconds to add: is empty; give a number")
        return editing.continued(*start, asked.seconds, asked.item, **common)
    return editing.varied(*start, asked.strength, asked.item, **common)


def preview(model: Diffusion | LM, step: Any) -> str | None:
    """A picture of what a step has come to, every few steps; a language model has none before its end."""
    if not isinstance(step, Step) or isinstance(model, LM):
        return None
    apart = _UNKNOWN if step.steps is None else max(1, -(-step.steps // _PREVIEWS))
    if not step.index or step.index % apart:
        return None
    samples = model.decode(step.denoised[:1], step.denoised.shape[2] * model.config.hop)[0]
    return pictures.spectrogram(samples.float().cpu().numpy(), model.config.rate)


class _Stopped(Exception):
    pass


def run(model: Diffusion | LM, asked: Request, lock: threading.Lock) -> Iterator[Progress | Result]:
    """Progress, and at the end the result. Whoever closes the iterator ends the work before its next step.

    `lock` is the model's: where one generation is just ending, the next one waits for it.
    """
    reports: queue.Queue[Progress | Result | BaseException] = queue.Queue()
    stopped = threading.Event()

    def callback(step: Any) -> None:
        if stopped.is_set():
            raise _Stopped
        reports.put(Progress(step.index + 1, step.steps, preview(model, step)))

    def work() -> None:
        try:
            with lock:
                reports.put(perform(model, asked, callback))
        except BaseException as error:  # it belongs to whoever waits for the result
            reports.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        while True:
            report = reports.get()
            if isinstance(report, BaseException):
                raise report
            yield report
            if isinstance(report, Result):
                return
    finally:
        stopped.set()


def write(result: Result, folder: Path, ending: str) -> Path:
    """A file of a result in one of the FORMATS."""
    path = folder / f"{result.name}.{ending}"
    try:
        files.write(path, result.samples, result.rate)
    except InputError as error:
        raise InputError(str(error).replace(str(path), path.name)) from None
    return path
