"""The files of stable-audio-tools' models: for use, and those of a training, with its wrapper around."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from audio_core.bundle import named_tensors, read_contents
from audio_core.files import InputError
from audio_core.weights import expect_values, shortened
from torch import Tensor

_ENDINGS = (".ckpt", ".pt", ".pth", ".safetensors")
# DistributedDataParallel, torch.compile.
_WRAPPED = re.compile(r"(?:(?<=\.)|^)(?:module|_orig_mod)\.")
_CODEC = re.compile(r"(?:diffusion\.|diffae\.|model\.|(?:model|diffae)_ema\.ema_model\.)?pretransform\.")
# How names of other files begin, and what these are.
_FOREIGN = {
    r"autoencoder(?:_ema)?\.": "is the training of an autoencoder, which `audio-codec-vae convert` reads",
    r"backbone\.": "is of a bundle of audio-gen, which needs no conversion; give its folder",
    r"transformer_blocks\.|time_proj\.": "is of diffusers; take the same model's checkpoint of stable-audio-tools",
}


class Training(NamedTuple):
    """How a training names its model."""

    mark: str
    """How a name of the network begins."""
    last: str
    """Before the last weights."""
    averaged: str
    """Before averaged weights."""
    of: str
    """What averaged names lack: of diffusion only the network is averaged."""


_TRAININGS = (
    Training("diffae.", "diffae.", "diffae_ema.ema_model.", ""),
    Training("diffusion.model.", "diffusion.", "diffusion_ema.ema_model.", "model."),
    Training("model.lm.", "model.", "model_ema.ema_model.", ""),
)
_MARKS = ("model.model.", "model.net.", "lm.")
"""How names of networks begin in a file for use."""


class Checkpoint(NamedTuple):
    path: Path
    state: dict[str, Tensor]
    """By the names of a file for use: `model.` or `lm.`, and `conditioner.`; of a diffusion autoencoder `diffusion.`,
    `encoder.` and `bottleneck.`."""
    contents: Mapping[str, Any]
    """All that the file holds, also beside tensors, such as its configuration."""
    has_codec: bool
    remark: str = ""


def read(path: Path, averaged: bool = True) -> Checkpoint:
    """A model; of a training, its averaged weights where there are such, or the last ones."""
    if path.is_dir():
        files = sorted(each.name for each in path.iterdir() if each.suffix in _ENDINGS)
        hint = f"; it holds {shortened(files)}" if files else ""
        raise InputError(f"{path}: is a folder, and a checkpoint is a file{hint}")
    names: list[str] = []

    def wanted(all_names: list[str]) -> list[str]:
        names.extend(all_names)
        kept = [name for name in all_names if not _CODEC.match(_plain(name))]
        return kept or all_names

    return checkpoint_of(path, read_contents(path, wanted), averaged, names)


def checkpoint_of(path: Path, contents: Any, averaged: bool = True, names: Iterable[str] = ()) -> Checkpoint:
    """From the contents of a file, where it also holds tensors of these `names`."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in named_tensors(contents, path).items():
        if _plain(name) in tensors:
            raise InputError(f"{path}: holds {_plain(name)} twice, once as {name}")
        tensors[_plain(name)] = tensor
    has_codec = any(_CODEC.match(_plain(name)) for name in (*names, *tensors))
    _expect_model(path, tensors)
    remark = ""
    for training in () if _decodes(tensors) else _TRAININGS:
        if any(name.startswith((training.mark, training.averaged)) for name in tensors):
            tensors, remark = _unwrapped(tensors, training, averaged)
            break
    state = {name: tensor for name, tensor in tensors.items() if not _CODEC.match(name)}
    expect_values(state, path)
    return Checkpoint(path, state, contents, has_codec, remark)


def _unwrapped(tensors: Mapping[str, Tensor], training: Training, averaged: bool) -> tuple[dict[str, Tensor], str]:
    """What of a training is the model, under the names of a file for use; and what is to be said of it."""

    def below(place: str, of: str = "") -> dict[str, Tensor]:
        return {of + name.removeprefix(place): each for name, each in tensors.items() if name.startswith(place)}

    last, average = below(training.last), below(training.averaged, training.of)
    if not average:
        return last, "the last weights of a training are taken, which has no averaged ones"
    if not averaged:
        return last, "the last weights of a training are taken, and not the averaged ones (EMA)"
    others = {name: each for name, each in last.items() if not name.startswith(training.of)}
    return others | average, "the averaged weights (EMA) of a training are taken"


def _decodes(names: Iterable[str]) -> bool:
    """Whether a file for use is of a diffusion autoencoder, whose network has the name of a diffusion training's."""
    return {"diffusion", "encoder"} <= {name.partition(".")[0] for name in names}


def described(state: Mapping[str, Tensor]) -> str:
    """What kind of model the weights of a file are of, for a person who has mixed up files."""
    if any(name.startswith("diffusion.") for name in state):
        nested = {re.sub(r"^diffusion\.(?:model\.(?=net\.))?", "model.", name): each for name, each in state.items()}
        return f"a diffusion autoencoder with {described(nested)}"

    def count(pattern: str) -> int:
        return len({match[1] for name in state if (match := re.match(pattern, name))})

    if blocks := count(r"model\.model\.transformer\.layers\.(\d+)\."):
        inner = state.get("model.model.transformer.project_in.weight")
        what = f"a transformer (dit) of {blocks} blocks{f' and {len(inner)} channels' if inner is not None else ''}"
    elif levels := count(r"model\.model\.downsamples\.(\d+)\."):
        what = f"an ADP U-Net of {levels} levels"
    elif codebooks := count(r"lm\.quantizer_heads\.(\d+)\."):
        what = f"a language model (lm) of {codebooks} codebooks"
    elif any(name.startswith("model.net.") for name in state):
        what = "the U-Net of Dance Diffusion (DAU1d)"
    else:
        what = "no network that is known here"
    keys = sorted({name.split(".")[2] for name in state if name.startswith("conditioner.conditioners.")})
    return f"{what}, with weights of {f'the conditioners {shortened(keys)}' if keys else 'no conditioners'}"


# --- other files ---------------------------------------------------------------------------------------------


def _expect_model(path: Path, names: Iterable[str]) -> None:
    """Refuse a file that holds no model of those that are read, and say what it is."""
    names = [*names]
    beginnings = {name.partition(".")[0] for name in names}
    if all(_CODEC.match(name) for name in names) or beginnings <= {"encoder", "decoder", "bottleneck"}:
        raise InputError(f"{path}: is a codec alone, which `audio-codec-vae convert` reads")
    for pattern, what in _FOREIGN.items():
        if any(re.match(pattern, name) for name in names):
            raise InputError(f"{path}: {what}")
    known = (*_MARKS, *(mark for each in _TRAININGS for mark in (each.mark, each.averaged)))
    if not any(name.startswith(known) for name in names):
        raise InputError(f"{path}: is no model of stable-audio-tools that generates; it holds {shortened(names)}")


def _plain(name: str) -> str:
    return _WRAPPED.sub("", name)
