"""Checkpoints of the original programs -> our models, and back to the authors' names.

Three kinds are read: the authors' PyTorch files, under their present and older names; those of uverd, whose network
differs and is rebuilt exactly; and Keras HDF5 files of the authors' second implementation. None of them holds the
sampling rate, the crop length, the names of the classes or the folds: overrides do.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from audio_core import config
from audio_core.bundle import read_checkpoint
from audio_core.files import InputError, reason
from audio_core.weights import expect_values
from torch import Tensor

from .config import FIRST_KERNELS, POOL_AFTER, ACDNetConfig, pools
from .labels import ESC50
from .model import ACDNet

_WRAPPERS = ("weight", "model_state_dict", "state_dict", "model")
_OLDER = {"filterbank.": "sfeb.", "features.": "tfeb.", "classifier.0.": "tfeb.38."}
_BUFFERED = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def convert(path: str | Path, overrides: Iterable[str] = ()) -> ACDNet:
    """The model of an original's file, ready for inference.

    `overrides` are `rate=22050`, `samples=33000`, `labels=[dog, cat]`, ... (`model.rate=...` is the same). Without them
    it is taken to be a model of 20 kHz and 30225 samples; fifty classes are ESC-50's, others get numbers.
    """
    path = Path(path)
    overrides = [text.removeprefix("model.") for text in overrides]
    if path.is_dir():
        raise InputError(f"{path}: is a folder, and a checkpoint is a file; a bundle needs no conversion")
    if _is_hdf5(path):
        state, facts = _read_keras(path)
        expect_values(state, path)
        return _filled(_settings(state, facts, path, overrides), state, path)
    stored = read_checkpoint(path, _WRAPPERS)
    stored = {name.removeprefix("module."): tensor for name, tensor in stored.items()}  # of several GPUs
    expect_values(stored, path)
    if any(name.startswith("sfeb.conv1.") for name in stored):
        state, facts = _from_uverd(stored, path)
        settings = _with_uverd_pools(_settings(state, facts, path, overrides), path)
        return _filled(settings, state, path)
    ordered = _in_order({_newer(name): tensor for name, tensor in stored.items()}, path)
    settings = _settings(ordered, {}, path, overrides)
    return _filled(settings, _renamed(stored, settings, path), path)


def summary(model: ACDNet) -> tuple[str, str]:
    """Title and summary for the card of a converted model."""
    config = model.config
    return f"ACDNet, {len(config.labels)} classes", f"{config.samples} samples at {config.rate} Hz"


def _is_hdf5(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == b"\x89HDF"
    except OSError as error:
        raise InputError(f"{path}: {reason(error)}") from None


def modules(settings: ACDNetConfig) -> list[str]:
    """What each module of the authors' two blocks, one after the other, is called here; "" has no name here.

    Theirs are numbered, so a pool that is left out shifts the numbers of all that follow.
    """
    plan = pools(settings)
    first = [f"hearing.{part}" for part in ("conv1", "norm1", "relu1", "conv2", "norm2", "relu2", "pool")]
    second = []
    for at in range(3, 13):
        second += ["seeing.dropout"] if at == 12 else []
        second += [f"seeing.{part}{at}" for part in ("conv", "norm", "relu")]
        pool = POOL_AFTER.get(f"conv{at}")
        second += [f"seeing.{pool}"] if pool and plan.maxima[int(pool[-1]) - 1] != (1, 1) else []
    second += [] if plan.average == (1, 1) else ["seeing.average"]
    return [*first, *second, "", "output"]


def names(settings: ACDNetConfig) -> dict[str, str]:
    """Each name in the state of our model -> the authors' name of the same tensor."""
    pairs: dict[str, str] = {}
    for index, ours in enumerate(modules(settings)):
        theirs = f"sfeb.{index}" if index < 7 else f"tfeb.{index - 7}"
        leaves: tuple[str, ...] = ()
        if ".norm" in ours:
            leaves = _BUFFERED
        elif ".conv" in ours:
            leaves = ("weight",)
        elif ours == "output":
            leaves = ("weight", "bias")
        pairs |= {f"{ours}.{leaf}": f"{theirs}.{leaf}" for leaf in leaves}
    return pairs


# --- the authors' files ------------------------------------------------------------------------------------


def _newer(name: str) -> str:
    for old, new in _OLDER.items():
        if name.startswith(old):
            return new + name[len(old) :]
    return name


def _in_order(stored: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The weights of convolutions and output under our names: their order tells, whatever their numbers are."""
    numbered = [name for name in stored if re.fullmatch(r"[st]feb\.\d+\.weight", name)]
    numbered.sort(key=lambda name: (name[0], int(name.split(".")[1])))
    filters = [name for name in numbered if stored[name].ndim == 4]
    linear = [name for name in numbered if stored[name].ndim == 2]
    if len(filters) != 12 or len(linear) != 1:
        shown = ", ".join(list(stored)[:3])
        expected = "twelve convolutions (sfeb.0.weight, ...) and a linear layer"
        raise InputError(f"{path}: is not an ACDNet: expected {expected}, got {shown}, ...")
    return {f"{_block(at)}.conv{at}.weight": stored[name] for at, name in enumerate(filters, 1)} | {
        "output.weight": stored[linear[0]]
    }


def _renamed(stored: Mapping[str, Tensor], settings: ACDNetConfig, path: Path) -> dict[str, Tensor]:
    """All tensors under our names; each must have its place in a model of these settings."""
    tensors, pairs = {_newer(name): tensor for name, tensor in stored.items()}, names(settings)
    absent = [name for name in pairs.values() if name not in tensors]
    superfluous = sorted(set(tensors) - set(pairs.values()))
    if absent or superfluous:
        lists = ((absent, "missing"), (superfluous, "of no use"))
        wrong = " and ".join(f"{len(which)} tensors {what} ({', '.join(which[:2])})" for which, what in lists if which)
        length = f"a model of {settings.samples} samples at {settings.rate} Hz"
        raise InputError(f"{path}: {wrong} for {length}; give model.rate and model.samples if it is of another length")
    return {ours: tensors[authors] for ours, authors in pairs.items()}


# --- what all have in common -------------------------------------------------------------------------------


def _block(at: int) -> str:
    return "hearing" if at < 3 else "seeing"


def _settings(state: Mapping[str, Tensor], facts: dict[str, Any], path: Path, overrides: list[str]) -> ACDNetConfig:
    """The configuration, from the shapes of the tensors, what else the file says, and the overrides."""
    layers = {
        name: state[name] for name in [*(f"{_block(at)}.conv{at}.weight" for at in range(1, 13)), "output.weight"]
    }
    if scalars := [name for name, weight in layers.items() if not weight.ndim]:
        raise InputError(f"{path}: what is {scalars[0]} here is a single number")
    *channels, classes = map(len, layers.values())
    try:
        known = {"labels": _default_labels(classes), **facts, "channels": channels}
        settings = config.build(ACDNetConfig, known, overrides)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    if len(settings.labels) != classes:
        raise InputError(f"{path}: labels: {len(settings.labels)} are given, but the file has {classes} classes")
    if list(settings.channels) != channels:
        raise InputError(f"{path}: channels: the file has {channels}, which no override can change")
    return settings


def _default_labels(classes: int) -> list[str]:
    return list(ESC50) if classes == len(ESC50) else [f"class_{number}" for number in range(classes)]


def _filled(settings: ACDNetConfig, state: Mapping[str, Tensor], path: Path) -> ACDNet:
    """A model with these weights, all of the right shape, which runs."""
    model, tensors = ACDNet(settings), {}
    for name, expected in model.state_dict().items():
        if name not in state:
            raise InputError(f"{path}: lacks what is {name} here")
        tensor = state[name]
        if expected.ndim == 3 and tensor.ndim == 4 and tensor.shape[2] == 1:
            tensor = tensor.squeeze(2)  # (O, I, 1, k): the originals write the first block as images one pixel high
        if tensor.shape != expected.shape:
            shapes = f"the shape {tuple(state[name].shape)}, expected {tuple(expected.shape)}"
            raise InputError(f"{path}: what is {name} here has {shapes}")
        tensors[name] = tensor
    model.load_state_dict(tensors)
    model.eval()
    with torch.inference_mode():  # the pools fit the length
        model(torch.zeros(1, 1, settings.samples))
    return model


# --- uverd -------------------------------------------------------------------------------------------------


def _from_uverd(stored: Mapping[str, Tensor], path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The same function in layers without biases, under our names, and the settings that make it so.

    Its convolutions have biases and its twelfth has no normalisation.
    """
    if tuple(stored.get("sfeb.conv2.weight", torch.empty(0)).shape) != (64, 8, 5):
        raise InputError(
            f"{path}: is a Micro-ACDNet of uverd, which never ran: it swaps axes once too often and then pools a "
            "height of 1, so there is no output to be equal to; only uverd's ACDNet can be converted"
        )
    state: dict[str, Tensor] = {}
    used = set()

    def take(name: str) -> Tensor:
        if name not in stored:
            raise InputError(f"{path}: looks like an ACDNet of uverd, but lacks {name}")
        used.add(name)
        return stored[name]

    for at in range(1, 13):
        block = "sfeb" if at < 3 else "tfeb"
        state[f"{_block(at)}.conv{at}.weight"] = take(f"{block}.conv{at}.weight")
        bias = take(f"{block}.conv{at}.bias")
        if at < 12:  # the mean that is taken away loses what is no longer added
            norm = {leaf: take(f"{block}.bn{at}.{leaf}") for leaf in _BUFFERED}
            if norm["running_mean"].shape != bias.shape:
                shapes = f"{tuple(bias.shape)}, and that of the norm behind it {tuple(norm['running_mean'].shape)}"
                raise InputError(f"{path}: {block}.conv{at}.bias has the shape {shapes}")
            norm["running_mean"] = (norm["running_mean"].double() - bias.double()).float()
        else:  # a normalisation that only adds the bias
            ones, zeros = torch.ones_like(bias), torch.zeros_like(bias)
            root = (1 + ACDNetConfig.eps) ** 0.5
            norm = dict(zip(_BUFFERED, (ones * root, bias, zeros, ones, torch.tensor(0)), strict=True))
        state |= {f"{_block(at)}.norm{at}.{leaf}": tensor for leaf, tensor in norm.items()}
    state |= {f"output.{leaf}": take(f"tfeb.dense.{leaf}") for leaf in ("weight", "bias")}
    if unknown := sorted(set(stored) - used):
        raise InputError(f"{path}: {unknown[0]} is in no ACDNet of uverd")
    classes = len(state["output.weight"])
    labels = sorted(ESC50) if classes == len(ESC50) else _default_labels(classes)  # it sorts the names of ESC-50
    return state, {"normalisation": "full_scale_twice", "last_pool": "global", "labels": labels}


def _with_uverd_pools(settings: ACDNetConfig, path: Path) -> ACDNetConfig:
    """Its first pool is the width of the second convolution over the frames of 10 ms, which are not a whole number."""
    width = settings.samples
    for kernel, stride in FIRST_KERNELS:
        width = (width - kernel) // stride + 1
    pool = int(width / (settings.samples / settings.rate * 100))
    settings = dataclasses.replace(settings, first_pool=pool)
    if settings.samples / settings.rate < 0.5:  # it stops halving at 2, the authors at 1
        raise InputError(f"{path}: uverd pools crops of {settings.samples} samples in another way; 0.5 s is the least")
    return settings


# --- Keras -------------------------------------------------------------------------------------------------

_KERAS_LEAVES = {
    "conv2d": {"kernel": "weight"},
    "dense": {"kernel": "weight", "bias": "bias"},
    "batch_normalization": {
        **{"gamma": "weight", "beta": "bias"},
        **{"moving_mean": "running_mean", "moving_variance": "running_var"},
    },
}


def _read_keras(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors of a Keras file under the authors' names, and its settings."""
    try:
        import h5py
    except ImportError:
        raise InputError('Keras files need h5py: pip install "audio-core[hdf5]"') from None
    layers_of: dict[str, dict[int, dict[str, Tensor]]] = {kind: {} for kind in _KERAS_LEAVES}

    def collect(name: str, item: Any) -> None:
        *parents, leaf = name.split("/")
        match = re.fullmatch(r"(conv2d|batch_normalization|dense)(?:_(\d+))?", parents[-1] if parents else "")
        if isinstance(item, h5py.Dataset) and match:
            place = _KERAS_LEAVES[match[1]].get(leaf.partition(":")[0])
            if place is None:
                raise InputError(f"{path}: {name} is in no ACDNet of the authors")
            layer = layers_of[match[1]].setdefault(int(match[2] or 0), {})
            layer[place] = torch.from_numpy(item[()])

    try:
        with h5py.File(path, "r") as file:
            file.get("model_weights", file).visititems(collect)
            facts = {"eps": 1e-3, **_keras_length(file)}
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise InputError(f"{path}: cannot be read as a Keras file: {reason(error)}") from None
    counts = [len(layers) for layers in layers_of.values()]
    if counts != [12, 1, 12]:
        expected = "12 conv2d, 1 dense and 12 batch_normalization"
        raise InputError(f"{path}: is not an ACDNet of Keras: expected {expected}, got {counts}")
    state: dict[str, Tensor] = {}
    for (
        kind,
        layers,
    ) in layers_of.items():  # Keras numbers layers on and on: only their order counts
        for at, (_, leaves) in enumerate(sorted(layers.items()), 1):
            ours = "output" if kind == "dense" else f"{_block(at)}.{'conv' if kind == 'conv2d' else 'norm'}{at}"
            for leaf, tensor in leaves.items():
                # (H, W, I, O) -> (O, I, H, W); (I, O) -> (O, I)
                tensor = tensor.permute(3, 2, 0, 1) if tensor.ndim == 4 else tensor.T if tensor.ndim == 2 else tensor
                state[f"{ours}.{leaf}"] = tensor.contiguous()
            if kind == "batch_normalization":
                state[f"{ours}.num_batches_tracked"] = torch.tensor(0)
    return state, facts


def _keras_length(file: Any) -> dict[str, int]:
    """{"samples": length of the input}, where the file describes its network."""
    text = file.attrs.get("model_config", "{}")
    shape = re.search(r'"batch_(?:input_)?shape": (\[[^\]]*\])', text.decode() if isinstance(text, bytes) else text)
    sizes = [size for size in json.loads(shape[1]) if size and size > 1] if shape else []
    return {"samples": sizes[0]} if sizes else {}
