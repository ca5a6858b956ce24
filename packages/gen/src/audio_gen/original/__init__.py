"""Checkpoints of stable-audio-tools' models that generate -> ours: those for use, and those of trainings."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audio_core import config
from audio_core.bundle import at_most
from audio_core.files import InputError, note
from audio_core.weights import Undrawn, no_values, shortened

from .. import model_config
from ..config import LMConfig
from ..config.diffusion_autoencoder import DiffusionAutoencoderConfig
from ..model_config import ModelConfig
from ..model_config.stated import Settled
from ..models.diffusion import Diffusion
from ..models.diffusion_autoencoder import DiffusionAutoencoder
from ..models.lm import LM
from ..models.with_codec import open_codec
from .files import Checkpoint, checkpoint_of, described, read
from .names import left_out, their_name

Model = Diffusion | DiffusionAutoencoder | LM

__all__ = ["checkpoint_of", "convert", "filled", "read", "summary"]


def convert(path: str | Path, settings: Sequence[str] = ()) -> Model:
    """The model of a checkpoint, ready for use.

    Its configuration lies inside it or beside it, or is named: `config=MODEL_CONFIG.json`, or the configuration and the
    checkpoint as the first two arguments, in any order. A model of latents or codes also needs a codec,
    `codec.name=codec-vae codec.path=FOLDER`, or `codec=null` where these are all that is wanted. `ema=false` takes the
    last weights of a training and not the averaged ones. Further settings are the model's, such as `samples=441000`.
    """
    paths = [Path(path), *(Path(text) for text in settings if "=" not in text)]
    paths += [Path(text.removeprefix("config=")) for text in settings if text.startswith("config=")]
    configs = [each for each in paths if each.suffix.lower() == ".json"]
    checkpoints = [each for each in paths if each not in configs]
    if len(checkpoints) != 1 or len(configs) > 1:
        raise InputError(f"{path}: expected one checkpoint and at most one model_config.json, got {shortened(paths)}")
    overrides = [text.removeprefix("model.") for text in settings if "=" in text and not text.startswith("config=")]
    chosen = config.build(_Choice, {}, [text for text in overrides if text.startswith("ema=")])
    overrides = [text for text in overrides if not text.startswith("ema=")]
    checkpoint = read(checkpoints[0], chosen.ema)
    stated = _stated(checkpoint, configs[0] if configs else None)
    _expect_codec(checkpoint, stated, overrides)
    for remark in (checkpoint.remark, *stated.remarks):
        if remark:
            note(f"{checkpoint.path}: {remark}")
    return filled(checkpoint, _settled(checkpoint, stated, overrides))


def summary(model: Model) -> tuple[str, str]:
    """Title and summary for the card of a converted model."""
    c, values = model.config, sum(parameter.numel() for parameter in model.parameters())
    keys = ", ".join(c.conditioning.conditioners) or "nothing"
    if isinstance(c, LMConfig):
        title, network = (
            "Language model of codes",
            f"{c.lm.codebooks} codebooks in a {config.kind(type(c.lm.pattern))} pattern",
        )
    elif isinstance(c, DiffusionAutoencoderConfig):
        title, keys = "Autoencoder that decodes by diffusion", "the code of its own encoder"
        network = f"{config.kind(type(c.backbone))} with objective v"
    else:
        title = f"Diffusion of {'latents' if c.hop > 1 else 'audio'}"
        network = f"{config.kind(type(c.backbone))} with objective {c.objective}"
    length = f"{c.samples / c.rate:.3g} s of {c.channels} channels"
    return f"{title}, {c.rate / 1000:g} kHz", f"{network}, generates up to {length} from {keys}, {values} parameters"


# --- the configuration ---------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Choice:
    """Of the weights in the file of a training."""

    ema: bool = True


def _stated(checkpoint: Checkpoint, given: Path | None) -> ModelConfig:
    """What is known of the model: from the file that is given, from the checkpoint, or from a file beside it."""
    path, inside = checkpoint.path, checkpoint.contents.get("model_config")
    if given is None and isinstance(inside, Mapping):
        try:
            return model_config.understood(inside)
        except InputError as error:
            raise InputError(f"{path}: model_config: {error}") from None
    beside = (path.with_suffix(".json"), path.with_name("model_config.json"))
    given = given or next((each for each in beside if each.exists()), None)
    if given is None:
        raise InputError(f"{path}: does not say how its network is built; give config=model_config.json, its own")
    return model_config.read(given)


def _expect_codec(checkpoint: Checkpoint, stated: ModelConfig, settings: Sequence[str]) -> None:
    """Refuse a model with a codec without a word on that: what it generated would be noise, or nothing."""
    path = checkpoint.path
    if checkpoint.has_codec and not stated.has_codec:
        raise InputError(f"{path}: holds a codec, and its configuration has no model.pretransform; give its own one")
    place = "latents.codec" if stated.kind == "diffusion_autoencoder" else "codec"
    if not stated.has_codec or any(text.startswith((f"{place}.", f"{place}=")) for text in settings):
        return
    name = f"then name it here: {place}.name=codec-vae {place}.path=codec; or {place}=null to do without"
    if checkpoint.has_codec:
        raise InputError(
            f"{path}: holds a codec, a model of its own: first `audio-codec-vae convert {path} -o codec`, {name}"
        )
    raise InputError(
        f"{path}: holds no codec (no pretransform.*) for what it generates, and with another one it would make noise: "
        f"`audio-codec-vae convert CODEC -o codec` of the checkpoint of its own codec, {name}"
    )


def _settled(checkpoint: Checkpoint, stated: ModelConfig, settings: Sequence[str]) -> Settled:
    """With what only the weights say; and with the fingerprint of the codec, so that no other takes its place."""
    model: dict[str, Any] = {**stated.model}
    conditioning = {**model.get("conditioning", {})}
    conditioners = {**conditioning.get("conditioners", {})}
    for key, each in conditioners.items():
        table = checkpoint.state.get(f"conditioner.conditioners.{key}.token_embedder.weight")
        if each["kind"] == "LUT" and table is not None:
            conditioners[key] = {"vocab_size": len(table), **each}
    if conditioners:
        model["conditioning"] = {**conditioning, "conditioners": conditioners}
    try:
        settled = dataclasses.replace(stated, model=model).settled(settings)
    except InputError as error:
        raise InputError(f"{checkpoint.path}: {error}") from None
    source = settled.codec_user.codec
    if source is None:
        return settled
    return settled.with_codec(dataclasses.replace(source, fingerprint=open_codec(settled).fingerprint().hex()))


# --- weights -------------------------------------------------------------------------------------------------


def filled(checkpoint: Checkpoint, settled: Settled) -> Model:
    """The model with these weights. Each must have its place, and each place its weight."""
    constant, path = left_out(settled), checkpoint.path
    state = {name: tensor for name, tensor in checkpoint.state.items() if not constant.fullmatch(name)}
    try:
        with at_most(4 * sum(tensor.numel() for tensor in state.values()) + 1000, path), no_values():
            shapes = {name: tensor.shape for name, tensor in _built(settled).state_dict().items()}
    except InputError as error:
        text = str(error).removeprefix(f"{path}: ")
        raise InputError(f"{path}: {text}; by its names it is {described(state)}") from None
    kind, encoder = described(state), {}
    if isinstance(settled, DiffusionAutoencoderConfig) and settled.encoder:  # which knows its own names
        encoder = {name: state.pop(name) for name in [*state] if name.startswith(("encoder.", "bottleneck."))}
        shapes = {name: shape for name, shape in shapes.items() if not name.startswith("encoder.")}
    names = {name: their_name(name, settled) for name in shapes}
    missing = [each for each in names.values() if each not in state]
    unexpected = sorted({*state} - {*names.values()})
    other = [
        f"{theirs} {tuple(state[theirs].shape)} for {tuple(shapes[name])}"
        for name, theirs in names.items()
        if theirs in state and state[theirs].shape != shapes[name]
    ]
    wrong = ((missing, "missing"), (unexpected, "unexpected"), (other, "of another shape"))
    problems = [f"{len(found)} {what} ({shortened(found)})" for found, what in wrong if found]
    if problems:
        raise InputError(f"{path}: does not fit its configuration: {', '.join(problems)}; by its names it is {kind}")
    with Undrawn():
        model = _built(settled)
    weights = {name: state[theirs] for name, theirs in names.items()}
    if isinstance(model, DiffusionAutoencoder) and model.encoder:
        model.encoder.load_original(encoder, path)
        weights |= {f"encoder.{name}": each for name, each in model.encoder.state_dict().items()}
    model.load_state_dict(weights)
    return model.eval()


def _built(settled: Settled) -> Model:
    if isinstance(settled, DiffusionAutoencoderConfig):
        return DiffusionAutoencoder(settled)
    return LM(settled) if isinstance(settled, LMConfig) else Diffusion(settled)
