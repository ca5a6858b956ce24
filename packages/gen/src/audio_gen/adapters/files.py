"""Files of adapters: safetensors with the tensors by layer, and in the metadata `adapter` their settings as JSON.

The settings say which base weights an adapter was trained on: it means nothing to others.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
from audio_core import codec, config
from audio_core.files import InputError, reason, replacing
from audio_core.weights import expect_shapes, expect_values, metadata, read_shapes
from safetensors import SafetensorError
from torch import Tensor, nn

from ..config.adapters import AdapterConfig
from .layers import (
    adapter_names,
    add,
    expect_adapter,
    expect_new,
    expect_strength,
    factors_of,
    matching,
    shapes,
)

FORMAT = 1


def base_fingerprint(model: nn.Module) -> bytes:
    """Eight bytes that identify the model's own weights, whatever adapters it has, and its class."""
    added = {id(tensor) for name in adapter_names(model) for tensor in _tensors(model, name).values()}
    own = [name for name, tensor in model.state_dict(keep_vars=True).items() if id(tensor) not in added]
    return codec.fingerprint(model, type(model).__name__, *own)


def adapter_state(model: nn.Module, name: str = "adapter") -> dict[str, Tensor]:
    """The tensors of one adapter, `<layer>.down`, `<layer>.up` and with DoRA `<layer>.magnitude`."""
    expect_adapter(model, name)
    return {key: tensor.detach() for key, tensor in _tensors(model, name).items()}


def _tensors(model: nn.Module, name: str) -> dict[str, nn.Parameter]:
    layers = factors_of(model, name).items()
    return {f"{at}.{key}": tensor for at, factors in layers for key, tensor in factors.named_parameters()}


def save_adapter(path: str | Path, model: nn.Module, base: bytes, name: str = "adapter", force: bool = True) -> None:
    """Write one adapter of a model, whose base weights have the fingerprint `base`."""
    state = {key: tensor.cpu().contiguous() for key, tensor in adapter_state(model, name).items()}
    settings = next(iter(factors_of(model, name).values())).config
    head = json.dumps({"format": FORMAT, "base": base.hex(), "config": config.plain(settings)}, ensure_ascii=False)
    with replacing(path, force) as temporary:
        temporary.write_bytes(safetensors.torch.save(state, {"adapter": head}))


def load_adapter(path: str | Path, model: nn.Module, strength: float = 1.0, name: str | None = None) -> str:
    """Add a stored adapter to the model that it was trained on, and give its name, else that of the file.

    It does not learn. Weights of lower precision are other weights: load adapters first, and convert the model then.
    """
    path = Path(path)
    name = path.stem if name is None else name
    expect_new(model, name)
    expect_strength(strength)
    stored = read_shapes(path)
    settings, base = _read_head(path)
    try:
        layers = matching(model, settings)
    except InputError as error:
        raise InputError(f"{path}: does not fit this model: {error}") from None
    expected = {f"{at}.{key}": size for at, layer in layers.items() for key, size in shapes(layer, settings).items()}
    expect_shapes(path, type(model).__name__, stored, expected)
    actual = base_fingerprint(model)
    if base != actual:
        models = f"model {base.hex()}, not of {actual.hex()}"
        raise InputError(f"{path}: is an adapter of {models}; load the weights that it was trained on")
    try:
        tensors = safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: holds tensors that cannot be loaded: {reason(error)}") from None
    expect_values(tensors, path)
    keys = {at: shapes(layer, settings) for at, layer in layers.items()}
    add(layers, name, settings, {at: {key: tensors[f"{at}.{key}"] for key in keys[at]} for at in layers}, strength)
    return name


def _read_head(path: Path) -> tuple[AdapterConfig, bytes]:
    """The settings of a file, and the fingerprint of its base weights."""
    text = metadata(path).get("adapter")
    if text is None:
        raise InputError(f"{path}: is no adapter; give the adapter.safetensors of a `finetune` with --lora or --dora")
    try:
        head: Any = json.loads(text)
        version, base, settings = head["format"], bytes.fromhex(head["base"]), head["config"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: its settings are damaged: {reason(error)}") from None
    if version != FORMAT:
        raise InputError(f"{path}: has the format {version!r:.20}, and this version reads {FORMAT}; upgrade audio-gen")
    try:
        return config.build(AdapterConfig, settings), base
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
