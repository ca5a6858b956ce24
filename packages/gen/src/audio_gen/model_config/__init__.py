"""Configurations of stable-audio-tools -> ours. They are of use without a checkpoint, too: to train by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from audio_core import config
from audio_core.files import InputError, read_json
from audio_core.train.stated import build, unknown

from ..recipe import Recipe
from . import training
from .autoencoder import decoding
from .diffusion import conditioned, unconditioned
from .file import File
from .language import language
from .stated import ModelConfig

__all__ = ["ModelConfig", "migrated", "read", "understood"]

_KINDS: Mapping[str, Callable[[File], tuple[dict[str, Any], bool, list[str]]]] = {
    "diffusion_uncond": unconditioned,
    "diffusion_cond": conditioned,
    "diffusion_cond_inpaint": conditioned,
    "diffusion_autoencoder": decoding,
    "lm": language,
}
_AVERAGED = ("diffusion_uncond", "diffusion_autoencoder")
"""Whose weights the original averages, whatever is stated."""
_ELSEWHERE = {
    "autoencoder": "which audio-codec-vae reads",
    "diffusion_prior": "which later versions of the original do not have",
    "clap": "which generates nothing",
}


def read(path: str | Path) -> ModelConfig:
    """What a model_config.json says."""
    data = read_json(path)
    try:
        return understood(data)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def migrated(path: str | Path, settings: Sequence[str] = ()) -> str:
    """The recipe to train as a model_config.json says, with further `settings`: YAML with remarks."""
    stated = read(path)
    try:
        recipe = config.build(Recipe, {**stated.training, "model": stated.model}, settings)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    head = [f"From {Path(path).name}, a configuration of stable-audio-tools", *stated.remarks]
    if stated.has_codec and recipe.model.codec_user.codec is None:
        place = "model.latents.codec" if stated.kind == "diffusion_autoencoder" else "model.codec"
        head.append(f"its latents become audio by a codec, which {place}.name and {place}.path name")
    return "".join(f"# {line}\n" for line in head) + config.dump(recipe)


def understood(data: Any) -> ModelConfig:
    """What the content of such a file says. The content stays as it is."""
    if not isinstance(data, Mapping) or "model_type" not in data:
        raise InputError("is no configuration of stable-audio-tools: it has no model_type")
    kind = str(data["model_type"])
    if kind not in _KINDS:
        raise InputError(f"model_type: {unknown(kind, _KINDS, _ELSEWHERE.get(kind, ''))}")
    file = build(File, data)
    model, has_codec, remarks = _KINDS[kind](file)
    settings: dict[str, Any] = {}
    if file.training is not None:
        if kind == "lm":
            settings, more = training.language_settings(file.training)
        else:
            settings, more = training.settings(file.training, averages=kind in _AVERAGED)
            if model.get("latents", {}).get("reconstruction"):
                more = [line for line in more if not line.startswith("training.use_reconstruction_loss")]
        remarks += more
    return ModelConfig(kind, model, has_codec, settings, tuple(remarks))
