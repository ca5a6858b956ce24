"""Checkpoints of the original programs: their shapes tell which codec they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from audio_core import bundle
from audio_core.files import InputError
from torch import Tensor

from .layout import SoundStreamConfig, TinyStreamConfig
from .model import NeuralCodec, SoundStream, TinyStream

_BOOK = re.compile(r"quantizer\.quantizers\.(\d+)\.(embeddings\.weight|ema_cluster_size|ema_w)")


def convert(path: str | Path) -> NeuralCodec:
    """The codec of a checkpoint (`.pt`) of uverd's SoundStream or TinyStream, of any size."""
    path = Path(path)
    state = bundle.read_checkpoint(path)
    return from_state(state, path, _rate(path))


def from_state(state: Mapping[str, Tensor], path: Path = Path("checkpoint"), rate: int | None = None) -> NeuralCodec:
    """The codec with these weights, under the original's names."""
    if any(".res_unit." in name for name in state):
        raise InputError(f"{path}: is a TinyStream from before it had three residual units a block, which is not known")
    config = settings(state, path, rate)
    model = SoundStream(config) if isinstance(config, SoundStreamConfig) else TinyStream(config)
    pairs = names(model)
    missing = [theirs for theirs in pairs.values() if theirs not in state]
    unknown = [name for name in state if name not in set(pairs.values()) and not _BOOK.fullmatch(name)]
    if missing or unknown:
        which = f"lacks {missing[0]}" if missing else f"holds {unknown[0]}, which no such codec has"
        raise InputError(f"{path}: looks like a {type(model).__name__}, but {which}")
    wanted = model.state_dict()
    for ours, theirs in pairs.items():
        if state[theirs].shape != wanted[ours].shape:
            found, expected = tuple(state[theirs].shape), tuple(wanted[ours].shape)
            raise InputError(f"{path}: {theirs} has the shape {found}, expected {expected}")
    for name, tensor in state.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise InputError(f"{path}: {name} holds values that are not finite")
    model.load_state_dict({ours: state[theirs] for ours, theirs in pairs.items()}, strict=False)
    books = [state[f"quantizer.quantizers.{at}.embeddings.weight"] for at in range(config.layers)]
    if any(book.shape != (config.size, config.width) for book in books):
        raise InputError(f"{path}: its codebooks differ in shape, which no such codec has")
    model.quantizer.load_codebooks(torch.stack(books))
    return model.eval()


def settings(state: Mapping[str, Tensor], path: Path, rate: int | None = None) -> SoundStreamConfig | TinyStreamConfig:
    """The configuration that the shapes tell; the rate is in none of them."""
    tiny = any(".depthwise." in name for name in state)
    first = "encoder.initial_conv.weight" if tiny else "encoder.initial_conv.conv.weight"
    layer = "depthwise" if tiny else "conv"
    try:
        size, width = state["quantizer.quantizers.0.embeddings.weight"].shape
        channels = state[first].shape[0]
        strides = tuple(state[f"encoder.blocks.{at}.downsample.{layer}.weight"].shape[2] // 2 for at in range(4))
        layers = len([name for name in state if name.endswith(".embeddings.weight")])
        cls = TinyStreamConfig if tiny else SoundStreamConfig
        return cls(channels, width, strides, layers, size, rate or cls.rate, learning="none")
    except (KeyError, ValueError, IndexError) as error:
        shown = ", ".join(list(state)[:3])
        what = f"{error}" if isinstance(error, ValueError) else f"it holds {shown}, ..."
        raise InputError(f"{path}: is no SoundStream or TinyStream of uverd: {what}") from None


def names(model: NeuralCodec) -> dict[str, str]:
    """Each convolution tensor of the model -> the original's name of it: both list them from input to output."""
    ours = [name for name in model.state_dict() if not name.startswith("quantizer.")]
    return dict(zip(ours, _theirs(isinstance(model, TinyStream)), strict=True))


def _theirs(tiny: bool) -> list[str]:
    leaves = ("weight",) if tiny else ("weight", "bias")
    wrapped = "" if tiny else ".conv"  # its causal convolutions keep theirs inside
    units = ("conv1.depthwise", "conv1.pointwise", "conv2") if tiny else ("conv1.conv", "conv2.conv")
    down = ("downsample.depthwise", "downsample.pointwise") if tiny else ("downsample.conv",)
    inside = [f"res_units.{unit}.{part}" for unit in range(3) for part in units]
    encoder = [f"encoder.initial_conv{wrapped}"]
    encoder += [f"encoder.blocks.{at}.{part}" for at in range(4) for part in (*inside, *down)]
    decoder = [f"decoder.initial_conv{wrapped}"]
    decoder += [f"decoder.blocks.{at}.{part}" for at in range(4) for part in ("upsample", *inside)]
    modules = [*encoder, f"encoder.final_conv{wrapped}", *decoder]
    last = [f"decoder.final_conv{wrapped}.{leaf}" for leaf in ("weight", "bias")]
    return [f"{module}.{leaf}" for module in modules for leaf in leaves] + last


def _rate(path: Path) -> int | None:
    """The sampling rate in the checkpoint's own notes, where it has such."""
    if path.suffix.lower() == ".safetensors":
        return None
    found = torch.load(path, map_location="cpu", weights_only=True)
    notes = found.get("config") if isinstance(found, Mapping) else None
    rate = notes.get("sample_rate") if isinstance(notes, Mapping) else None
    return rate if isinstance(rate, int) and 1 <= rate <= 1_000_000 else None
