"""The ONNX files of an autoencoder, and the page beside them that says how to use them.

encoder.onnx      audio to latents, and where these are discrete to codes
decoder.onnx      latents to audio
dequantizer.onnx  codes to latents, where they are discrete

Batch and length are free. Each file is kept only if onnxruntime computes the same as the model, for two lengths.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from audio_core.export.onnx import Graph, compare, save
from audio_core.files import InputError
from torch import Tensor

from ..__about__ import __version__
from ..models.autoencoder import Autoencoder, folded
from ..models.lyra import LyraEncoder
from ..models.pretransform import Wavelet
from ..models.transformer import Attention
from . import bottlenecks, guide, pretransforms
from .layers import layer, length, longer

ENCODER, DECODER, DEQUANTIZER, GUIDE = "encoder.onnx", "decoder.onnx", "dequantizer.onnx", "README.md"
FILES = ENCODER, DECODER, DEQUANTIZER, GUIDE
_EXTRA = "audio-codec-vae[onnx]"
_PRODUCER = "audio-codec-vae", __version__
_MOST_VALUES = 2**29 - 2**20  # float32 in 2 GB, with room for everything else
_FRAMES = 5, 12  # of the examples, beyond the fewest possible


@torch.no_grad()
def write(model: Autoencoder, folder: Path) -> None:
    """Into a new folder."""
    _refuse(model)
    model, facts = folded(model), metadata(model)  # a copy on the CPU
    folder.mkdir()
    texts = {name: json.dumps(value) if isinstance(value, list) else str(value) for name, value in facts.items()}
    _write_encoder(model, folder / ENCODER, texts)
    _write_decoder(model, folder / DECODER, texts)
    if model.codebooks:
        _write_dequantizer(model, folder / DEQUANTIZER, texts)
    page = guide.page(facts, isinstance(model.encoder, LyraEncoder))
    (folder / GUIDE).write_text(page, encoding="utf-8")


def _refuse(model: Autoencoder) -> None:
    """What has no place in a file."""
    for part in (model.encoder, model.decoder):
        if any(isinstance(each, Attention) and each.window is None for each in part.modules()):
            raise InputError(
                "--format onnx: takes attention with a window, and this model attends to the whole audio, which takes "
                "memory with the square of its length; set sliding_window of encoder and decoder, and train"
            )
        values = sum(each.numel() for each in part.parameters())
        if values > _MOST_VALUES:
            size = f"the {'encoder' if part is model.encoder else 'decoder'} has {4 * values / 1e9:.1f} GB of weights"
            raise InputError(f"--format onnx: a file holds 2 GB at most, and {size}")


def metadata(model: Autoencoder) -> dict[str, Any]:
    """What a program needs to feed the files."""
    sizes = {name: getattr(model, name) for name in ("channels", "hop", "width")}
    return {
        "rate": model.sample_rate,
        **sizes,
        "codebooks": list(model.codebooks),
        "least_frames": least_frames(model),
        "context": list(model.receptive_field or ()),
        "fingerprint": model.fingerprint().hex(),
    }


def least_frames(model: Autoencoder) -> int:
    """Fewer cannot be encoded or decoded: the ends of wavelets are reflected."""
    part = model.pretransform
    return math.ceil((part.margin // 2 + 1) / model.encoder.ratio) if isinstance(part, Wavelet) else 1


# --- the files ---------------------------------------------------------------------------------------------


def _write_encoder(model: Autoencoder, path: Path, facts: Mapping[str, str]) -> None:
    graph = Graph(_EXTRA)
    unit = model.pretransform.ratio if isinstance(model.encoder, LyraEncoder) else model.hop
    rest = graph.node("Mod", graph.node("Neg", length(graph, "audio")), graph.integers(unit))  # silence fills a frame
    waves = pretransforms.encoded(graph, model.pretransform, longer(graph, "audio", 0, rest))
    names = bottlenecks.encoded(graph, model.bottleneck, layer(graph, "encoder", model.encoder, waves))
    outputs = [_output(graph, "latents", names.latents, model.width)]
    if names.codes:
        outputs.append(_output(graph, "codes", names.codes, len(model.codebooks)))
    audio = [0.1 * _drawn(at, model.channels, frames * model.hop - at) for at, frames in enumerate(_lengths(model))]
    examples = [({"audio": each}, _expected(model, each)) for each in audio]
    file = graph.file([_input(graph, "audio", model.channels)], outputs, *_PRODUCER)
    for result in save(file, path, examples, facts, _EXTRA):
        if names.codes:  # rounding may change a few of them, which give other latents
            expected = model.from_codes(torch.from_numpy(result["codes"]))
            compare("latents", expected.numpy(), result["latents"])


def _expected(model: Autoencoder, audio: Tensor) -> dict[str, Tensor]:
    """What the encoder's file must give."""
    return {"codes": model.codes(audio)} if model.codebooks else {"latents": model.encode(audio)}


def _write_decoder(model: Autoencoder, path: Path, facts: Mapping[str, str]) -> None:
    graph = Graph(_EXTRA)
    waves = layer(graph, "decoder", model.decoder, bottlenecks.decoded(graph, model.bottleneck, "latents"))
    # A transposed convolution of an odd stride loses its last sample.
    whole = graph.node("Mul", length(graph, "latents"), graph.integers(model.decoder.ratio))
    waves = longer(graph, waves, 0, graph.node("Sub", whole, length(graph, waves)))
    audio = pretransforms.decoded(graph, model.pretransform, waves)
    outputs = [_output(graph, "audio", graph.node("Tanh", audio) if model.config.soft_clip else audio, model.channels)]
    latents = [_drawn(at, model.width, frames) for at, frames in enumerate(_lengths(model))]
    examples = [({"latents": each}, {"audio": model.decode(each)}) for each in latents]
    save(graph.file([_input(graph, "latents", model.width)], outputs, *_PRODUCER), path, examples, facts, _EXTRA)


def _write_dequantizer(model: Autoencoder, path: Path, facts: Mapping[str, str]) -> None:
    graph, sizes = Graph(_EXTRA), torch.tensor(model.codebooks)[:, None]
    latents = bottlenecks.entries(graph, model.bottleneck, "codes")
    outputs = [_output(graph, "latents", latents, model.width)]
    drawn = [_drawn(at, len(sizes), frames) for at, frames in enumerate(_lengths(model))]
    codes = [(each.abs() * sizes).long() % sizes for each in drawn]
    examples = [({"codes": each}, {"latents": model.from_codes(each)}) for each in codes]
    save(graph.file([_input(graph, "codes", len(sizes))], outputs, *_PRODUCER), path, examples, facts, _EXTRA)


def _input(graph: Graph, name: str, rows: int) -> Any:
    kind = graph.kinds.INT64 if name == "codes" else graph.kinds.FLOAT
    return graph.helper.make_tensor_value_info(name, kind, ("batch", rows, "samples" if name == "audio" else "frames"))


def _output(graph: Graph, name: str, value: str, rows: int) -> Any:
    graph.node("Identity", value, name=name)
    return _input(graph, name, rows)


def _lengths(model: Autoencoder) -> list[int]:
    """Of the examples, in frames."""
    return [least_frames(model) + frames for frames in _FRAMES]


def _drawn(at: int, rows: int, count: int) -> Tensor:
    """Normal noise for the example `at`, (at + 1, rows, count)."""
    return torch.randn(at + 1, rows, count, generator=torch.Generator().manual_seed(at))
