"""The ONNX file of a causal model, and the page beside it that says how to use it.

The file computes one frame of one channel: `frame.py` says how. Its metadata holds what a program needs to feed it.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from string import Template

import torch
from audio_core.export.onnx import Graph, save
from torch import Tensor

from ..__about__ import __version__
from ..config import SEMambaConfig
from ..model import SEMamba
from .frame import ENHANCED, SPECTRUM, FrameGraph, following, states

_EXTRA = "audio-semamba[onnx]"
_GUIDE = Path(__file__).with_name("onnx.md")
_BEFORE = 3  # frames before the one on which file and model are compared, so that no state is zero


@torch.no_grad()
def write(model: SEMamba, path: Path) -> None:
    model = copy.deepcopy(model).cpu().eval()
    inputs, outputs = _example(model)
    graph = Graph(_EXTRA)
    FrameGraph(graph, model).write()
    ends = (
        [graph.helper.make_tensor_value_info(name, graph.kinds.FLOAT, value.shape) for name, value in values.items()]
        for values in (inputs, outputs)
    )
    save(graph.file(*ends, "audio-semamba", __version__), path, [(inputs, outputs)], _metadata(model), _EXTRA)


def guide(config: SEMambaConfig, file: str) -> str:
    """The page, in Markdown, for a file of this name."""
    facts = {"file": file, "rate": config.rate, "n_fft": config.n_fft, "hop": config.hop, "bins": config.bins}
    return Template(_GUIDE.read_text(encoding="utf-8")).substitute(facts, latency=f"{config.latency_ms:g}")


def _metadata(model: SEMamba) -> dict[str, str]:
    config = model.config
    sizes = {name: getattr(config, name) for name in ("rate", "n_fft", "hop", "window")}
    shapes = {name: list(value.shape) for name, value in states(model.start()).items()}
    facts = {**sizes, "latency": config.n_fft, "states": json.dumps(shapes)}
    return {name: str(value) for name, value in facts.items()}


def _example(model: SEMamba) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Inputs and outputs of a frame."""
    config, generator = model.config, torch.Generator().manual_seed(0)
    state = model.start()
    for _ in range(_BEFORE + 1):
        before = state
        spectrum = torch.randn(1, config.bins, 1, dtype=torch.complex64, generator=generator)
        estimate, state = model.stream(spectrum.abs() ** config.compress, spectrum.angle(), before)
    enhanced = torch.polar(estimate.magnitude ** (1 / config.compress), estimate.phase)
    inputs = {SPECTRUM: _parts(spectrum), **states(before)}
    return inputs, {ENHANCED: _parts(enhanced)} | {following(name): after for name, after in states(state).items()}


def _parts(spectrum: Tensor) -> Tensor:
    """Complex (1, F, 1) -> (2, F)"""
    return torch.view_as_real(spectrum)[0, :, 0].T.contiguous()
