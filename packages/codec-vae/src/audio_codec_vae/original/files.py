"""The files of the original programs: what they hold, and whose they are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from audio_core.bundle import named_tensors, read_contents
from audio_core.files import InputError
from audio_core.weights import expect_values, shortened
from torch import Tensor

from .names import INTEGERS

Program = Literal["stable-audio-tools", "LyraCodec", "diffusers", "descript-audio-codec"]

# Where an autoencoder lies in a file, the better weights first, and what is to be said of it.
_PLACES = {
    "autoencoder_ema.ema_model.": "the averaged weights (EMA) of a training are taken",
    "autoencoder.": "the last weights of a training are taken, which has no averaged ones",
    "pretransform.model.": "the autoencoder of a model that generates is taken",
    "diffusion.pretransform.model.": "the autoencoder of the training of a diffusion model is taken",
    "model.pretransform.model.": "the autoencoder of the training of a language model is taken",
    "": "",
}
# How the first names of each program's networks begin.
_MARKS: dict[Program, tuple[str, ...]] = {
    "LyraCodec": ("encoder_init.", "decoder_projection."),
    "diffusers": ("encoder.conv1.", "decoder.conv1."),
    "descript-audio-codec": ("encoder.block.", "decoder.model.", "quantizer."),
    "stable-audio-tools": ("encoder.", "decoder."),
}
# DistributedDataParallel, torch.compile.
_WRAPPED = re.compile(r"(?:(?<=\.)|^)(?:module|_orig_mod)\.")
_FOREIGN = {
    r"(?:.*\.)?discriminators?\.": "is a discriminator without its autoencoder",
    r"(?:model|diffusion)\.model\.": "is a diffusion model without its autoencoder; that is a file of its own",
    r"singer_": "is a network for the identity of singers",
}


class Checkpoint(NamedTuple):
    path: Path
    program: Program
    state: dict[str, Tensor]
    """The autoencoder's tensors, without what was put before their names."""
    contents: Mapping[str, Any]
    """All that the file holds, also beside them, such as its configuration."""
    remark: str


def read(path: Path) -> Checkpoint:
    """The autoencoder in a checkpoint of one of the programs."""
    if path.is_dir():
        files = sorted(each.name for each in path.iterdir() if each.suffix in (".ckpt", ".pt", ".pth", ".safetensors"))
        hint = f"; it holds {shortened(files)}" if files else ""
        raise InputError(f"{path}: is a folder, and a checkpoint is a file{hint}")
    return checkpoint_of(path, read_contents(path, lambda names: _taken(path, names)))


def checkpoint_of(path: Path, contents: Any) -> Checkpoint:
    """The autoencoder in the contents of a checkpoint."""
    tensors = named_tensors(contents, path)
    place, program = _place(path, tensors)
    state = {}
    for name in _taken(path, tensors):
        plain = _WRAPPED.sub("", name).removeprefix(place)
        if plain in state:
            raise InputError(f"{path}: holds {plain} twice, once as {name}")
        state[plain] = tensors[name]
    expect_values(state, path, INTEGERS)
    return Checkpoint(path, program, state, contents, _PLACES[place])


def _taken(path: Path, names: Iterable[str]) -> list[str]:
    """The names of the autoencoder's tensors."""
    names = [*names]
    place, _ = _place(path, names)
    return [name for name in names if _WRAPPED.sub("", name).startswith(place)]


def _place(path: Path, names: Iterable[str]) -> tuple[str, Program]:
    """What stands before the autoencoder's names, and whose they are."""
    plain = [_WRAPPED.sub("", name) for name in names]
    for place in _PLACES:
        for program, marks in _MARKS.items():
            if all(any(name.startswith(place + mark) for name in plain) for mark in marks):
                return place, program
    raise InputError(f"{path}: {_looks_like(plain)}")


def _looks_like(names: Sequence[str]) -> str:
    """What a file is that holds no autoencoder in a known place."""
    for pattern, text in _FOREIGN.items():
        if names and all(re.match(pattern, name) for name in names):
            return text
    elsewhere = [name.partition("encoder.layers.")[0] for name in names if ".encoder.layers." in name]
    for place in dict.fromkeys(elsewhere):
        if any(name.startswith(f"{place}decoder.") for name in names):
            return f"holds an autoencoder under names that begin with {place!r:.60}, as no program writes them"
    for side, other in (("encoder", "decoder"), ("decoder", "encoder")):
        if any(re.match(rf"(?:.*\.)?{side}[._]", name) for name in names):
            return f"holds an {side} without its {other}" if side == "encoder" else f"holds a {side} without an {other}"
    return f"is no autoencoder of {', '.join(_MARKS)}; it holds {shortened(names) or 'nothing'}"
