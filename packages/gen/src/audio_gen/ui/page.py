"""The page of a model, in gradio: fields, what happens on the way, the result, and the results of this session."""

from __future__ import annotations

import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from audio_core.files import InputError, reason

from ..config import LMConfig
from ..models.diffusion import Diffusion
from ..models.lm import LM
from . import actions, pictures, style
from .actions import Progress, Result
from .form import Form, Setting, form

LABELS = {"generate": "Generate", "vary": "Vary", "inpaint": "Inpaint", "continue": "Continue"}
HISTORY = 20
"""Results that a session keeps."""
CACHE_SECONDS = (3600, 86400)
"""How often gradio looks for old files, and how old they get; all are deleted when the server ends."""
_START = "What you make appears here."


def build(model: Diffusion | LM, name: str) -> gr.Blocks:
    return _Page(model, form(model.config), name).blocks


def status(text: str, kind: str = "", progress: Progress | None = None) -> str:
    bar = ""
    if progress is not None:
        known = f' max="{progress.steps}" value="{progress.index}"' if progress.steps else ""
        bar = f"<progress{known}></progress>"
    role = "alert" if kind == "error" else "status"
    return f'<p class="status {kind}" role="{role}">{escape(text)}</p>{bar and f"<div class=status>{bar}</div>"}'


class _Page:
    def __init__(self, model: Diffusion | LM, asked: Form, name: str):
        self.model, self.form, self.lock = model, asked, threading.Lock()
        self.values: dict[str, Any] = {}
        """The fields, by the names that `actions.request` knows them by."""
        with gr.Blocks(title=f"audio-gen: {name}", analytics_enabled=False, delete_cache=CACHE_SECONDS) as self.blocks:
            gr.HTML(f"<h1>audio-gen</h1><p>{escape(name)} · {escape(_facts(model))}</p>", elem_id="head")
            self.results = gr.State([])
            with gr.Row(equal_height=False):
                with gr.Column(min_width=340):
                    self._fields()
                with gr.Column(min_width=340):
                    self._outputs()
            self._events()

    # --- what there is on the page ----------------------------------------------------------------------------

    def _fields(self) -> None:
        values, asked = self.values, self.form
        ways = [(LABELS[way], way) for way in asked.ways]
        values["way"] = gr.Radio(ways, value="generate", label="What to do", elem_id="way", show_label=False)
        for each in asked.fields:
            key, common = f"condition.{each.key}", {"label": each.label, "info": each.hint or None}
            place: dict[str, Any] = {"elem_id": each.key, **common}
            if each.kind == "text":
                values[key] = gr.Textbox("", lines=2, **place)
            elif each.kind == "choice":
                values[key] = gr.Dropdown([*each.options], value=each.value, **place)
            else:
                values[key] = gr.Number(each.value, precision=0 if each.kind == "whole" else None, **place)
        if asked.negative:
            hint = "What the result shall be unlike; needs a CFG other than 1."
            values["negative"] = gr.Textbox("", label="Negative prompt", info=hint, lines=1, elem_id="negative")
        with gr.Group(visible=False) as self.source_box:
            values["source"] = gr.Audio(
                label="Audio",
                type="filepath",
                sources=["upload", "microphone"],
                editable=False,
                buttons=[],
                elem_id="source",
            )
            self.waveform = gr.HTML(js_on_load=style.DRAWING, elem_id="waveform", visible=False, padding=True)
            hint = "Regions in seconds, such as 0:4 8:12; drag over the waveform to add one. All else is made anew."
            values["keep"] = gr.Textbox("", label="Keep", info=hint, visible=False, elem_id="keep")
            values["strength"] = gr.Slider(
                0.01, 1, 0.5, step=0.01, label="Strength", info="how unlike", visible=False, elem_id="strength"
            )
            more = gr.Number(round(asked.seconds / 2, 3), label="Seconds to add", visible=False, elem_id="more")
            values["more"] = more
        with gr.Row():
            hint = "any length" if asked.any_length else f"up to {asked.seconds:.4g}"
            values["seconds"] = self._number("seconds", "Seconds", round(asked.seconds, 3), hint)
            values["seed"] = self._number("seed", "Seed", -1, "-1: random", whole=True)
        with gr.Row():
            self._settings(asked.main)
            if asked.samplers:
                values["sampler"] = gr.Dropdown(
                    [*asked.samplers],
                    value=asked.sampler,
                    label="Sampler",
                    info="the solver",
                    min_width=140,
                    elem_id="sampler",
                )
        if asked.guidance:
            with gr.Accordion("Further guidance", open=False), gr.Row():
                self._settings(asked.guidance)
        with gr.Row():
            self.go = gr.Button("Generate", variant="primary", elem_id="go", scale=3)
            self.stop = gr.Button("Stop", elem_id="stop", scale=1, min_width=80)

    def _number(self, name: str, label: str, value: float, hint: str, whole: bool = False) -> gr.Number:
        precision = 0 if whole else None
        return gr.Number(value, label=label, info=hint or None, precision=precision, min_width=110, elem_id=name)

    def _settings(self, settings: tuple[Setting, ...]) -> None:
        for each in settings:
            self.values[each.name] = self._number(each.name, each.label, each.value, each.hint, each.whole)

    def _outputs(self) -> None:
        self.status = gr.HTML(status(_START), elem_id="status", elem_classes="told")
        self.player = gr.Audio(
            label="Result",
            interactive=False,
            visible=False,
            buttons=[],
            elem_id="player",
            waveform_options=gr.WaveformOptions(show_recording_waveform=False),
        )
        self.picture = gr.HTML(elem_id="picture")
        with gr.Column(visible=False) as self.result_box:
            self.format = gr.Radio([*actions.FORMATS], value="wav", label="Download as", elem_id="format")
            with gr.Row():
                self.download = gr.DownloadButton("Download", size="md", min_width=120, elem_id="download")
                self.use = gr.Button("Use as input", size="md", min_width=120, elem_id="use")
        self.history = gr.Radio([], label="Results of this session", visible=False, elem_id="history")

    # --- what happens -----------------------------------------------------------------------------------------

    def _events(self) -> None:
        values = self.values
        hidden: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        shown = [self.player, self.picture, self.download, self.result_box, self.status]
        waiting = f"() => `{status('Waiting for the model.')}`"  # others may be before us
        self.go.click(None, None, self.status, js=waiting, **hidden)
        start = self.go.click(
            self._go,
            [self.results, self.format, *values.values()],
            [self.results, self.history, *shown],
            concurrency_limit=1,
            trigger_mode="once",
            **hidden,
        )
        stopped = self.stop.click(None, cancels=start, queue=False, **hidden)
        stopped.then(lambda: status("Stopped."), None, self.status, queue=False, **hidden)
        self.history.input(self._show, [self.results, self.history, self.format], shown, **hidden)
        self.format.input(
            self._download, [self.results, self.history, self.format], [self.download, self.status], **hidden
        )
        source, keep = values["source"], values["keep"]
        boxes = [self.source_box, self.waveform, keep, values["strength"], values["more"], values["seconds"], self.go]
        values["way"].change(self._way, values["way"], boxes, **hidden)
        self.use.click(self._use, [self.results, self.history, values["way"]], [source, values["way"]], **hidden)
        for changed in (source, keep):
            changed.change(self._waveform, [source, keep], self.waveform, trigger_mode="always_last", **hidden)
        self.waveform.select(_drawn, keep, keep, **hidden)

    def _go(self, results: list[Result], ending: str, *values: Any) -> Iterator[dict[Any, Any]]:
        begun = time.monotonic()
        try:
            asked = actions.request(self.form, dict(zip(self.values, values, strict=True)))
            for report in actions.run(self.model, asked, self.lock):
                if isinstance(report, Progress):
                    of = f" of {report.steps}" if report.steps else ""
                    update = {self.status: status(f"Step {report.index}{of}", progress=report)}
                    yield update | ({} if report.picture is None else {self.picture: report.picture})
                    continue
                results = [*results, report][-HISTORY:]
                lines = [(result.line, at) for at, result in enumerate(results)]
                chosen = gr.update(choices=lines[::-1], value=len(results) - 1, visible=True)
                took = f"{report.line} · made in {time.monotonic() - begun:.1f} s"
                yield from self._shown(report, ending, {self.results: results, self.history: chosen}, took)
        except Exception as error:
            yield {self.status: _error_line(error)}

    def _show(self, results: list[Result], at: int, ending: str) -> Iterator[dict[Any, Any]]:
        yield from self._shown(results[at], ending, {}, results[at].line)

    def _shown(self, result: Result, ending: str, more: dict[Any, Any], line: str) -> Iterator[dict[Any, Any]]:
        """gradio copies files when they are yielded, and ours are deleted then."""
        drawn = pictures.waveform(result.samples, result.rate, result.keep)
        with tempfile.TemporaryDirectory() as folder:
            path = actions.write(result, Path(folder), "wav")
            update, problem = self._file(result, Path(folder), ending)
            yield {
                self.player: gr.update(value=str(path), visible=True),
                self.picture: drawn + pictures.spectrogram(result.samples, result.rate),
                self.download: update,
                self.result_box: gr.update(visible=True),
                self.status: problem or status(line),
                **more,
            }

    def _file(self, result: Result, folder: Path, ending: str) -> tuple[Any, str]:
        """What the button gives, and what is wrong with it: not every format has every rate."""
        try:
            path = actions.write(result, folder, ending)
        except InputError as error:
            return gr.update(value=None, interactive=False), _error_line(error)
        return gr.update(value=str(path), label=f"Download {ending}", interactive=True), ""

    def _download(self, results: list[Result], at: int, ending: str) -> Iterator[tuple[Any, str]]:
        with tempfile.TemporaryDirectory() as folder:
            update, problem = self._file(results[at], Path(folder), ending)
            yield update, problem or status(results[at].line)

    def _use(self, results: list[Result], at: int, way: str) -> Iterator[tuple[str, str]]:
        other = next(each for each in self.form.ways if each != "generate")
        with tempfile.TemporaryDirectory() as folder:
            yield str(actions.write(results[at], Path(folder), "wav")), other if way == "generate" else way

    def _way(self, way: str) -> list[Any]:
        shown = [way != "generate", way == "inpaint", way == "inpaint", way == "vary", way == "continue"]
        return [gr.update(visible=each) for each in (*shown, way == "generate")] + [gr.update(value=LABELS[way])]

    def _waveform(self, source: str | None, keep: str) -> str:
        if source is None:
            return ""
        try:
            given = actions.recording(Path(source))
            return pictures.waveform(given.samples, given.rate, actions.regions(keep))
        except InputError as error:
            return status(str(error), "error")


def _drawn(keep: str, event: gr.EventData) -> str:
    """The regions with one more."""
    return f"{keep} {float(event.start):.2f}:{float(event.end):.2f}".strip()


def _error_line(error: Exception) -> str:
    if isinstance(error, InputError):
        return status(" ".join(str(error).split()), "error")
    traceback.print_exception(error)
    return status(f"{type(error).__name__}: {reason(error)} (a fault of ours; the terminal shows where)", "error")


def _facts(model: Diffusion | LM) -> str:
    config = model.config
    kind = "language model" if isinstance(config, LMConfig) else "diffusion model"
    channels = {1: "mono", 2: "stereo"}.get(config.channels, f"{config.channels} channels")
    return f"{kind}, {config.samples / config.rate:.4g} s, {config.rate / 1000:g} kHz, {channels}"
