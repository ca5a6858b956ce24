"""Checkpoints of the original programs -> our models.

Read are those of LyraCodec, of stable-audio-tools (trainings, autoencoders alone, and models that generate), of
diffusers' AutoencoderOobleck, and of the Descript Audio Codec.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audio_core import config
from audio_core.bundle import at_most
from audio_core.files import InputError, note
from audio_core.weights import Undrawn, no_values, shortened
from torch import Tensor, nn

from .. import model_config
from ..config import AutoencoderConfig, LearningEncoderConfig, SEANetEncoderConfig
from ..model_config import ModelConfig, descript, lyra
from ..models.autoencoder import Autoencoder
from ..models.weight_norm import fit_weight_norm
from .files import Checkpoint, Program, checkpoint_of, read
from .names import CONSTANT, SHIFT, joined, our_name

_CONFIGS = (".json", ".yaml", ".yml")


def convert(path: str | Path, settings: Sequence[str] = ()) -> Autoencoder:
    """The autoencoder of an original's checkpoint, ready for use.

    Its configuration lies inside it or beside it, or is named: `config=FILE`, or the configuration and the checkpoint
    as the first two arguments, in any order. Further settings such as `rate=48000` say what neither does.
    """
    paths = [Path(path), *(Path(text) for text in settings if "=" not in text)]
    paths += [Path(text.removeprefix("config=")) for text in settings if text.startswith("config=")]
    configs = [each for each in paths if each.suffix.lower() in _CONFIGS]
    checkpoints = [each for each in paths if each not in configs]
    if len(checkpoints) != 1 or len(configs) > 1:
        raise InputError(f"{path}: expected one checkpoint and at most one configuration, got {shortened(paths)}")
    overrides = [text.removeprefix("model.") for text in settings if "=" in text and not text.startswith("config=")]
    checkpoint = read(checkpoints[0])
    stated = _stated(checkpoint, configs[0] if configs else None)
    for remark in (checkpoint.remark, *stated.remarks):
        if remark:
            note(f"{checkpoint.path}: {remark}")
    try:
        settled = config.build(AutoencoderConfig, config.plain(stated.model), overrides)
    except InputError as error:
        raise InputError(f"{checkpoint.path}: {error}") from None
    return filled(checkpoint, settled)


def summary(model: Autoencoder) -> tuple[str, str]:
    """Title and summary for the card of a converted model."""
    values, c = sum(parameter.numel() for parameter in model.parameters()), model.config
    encoder = config.kind(type(c.encoder)).removesuffix("Encoder")
    bottleneck = config.kind(type(c.bottleneck)) if c.bottleneck else "no"
    codes = f", {len(model.codebooks)} codebooks" if model.codebooks else ""
    latents = f"{model.width} latents every {model.hop} samples{codes}"
    return (
        f"{encoder} autoencoder",
        f"{bottleneck} bottleneck, {c.channels} channels at {c.rate} Hz, {latents}, {values} parameters",
    )


# --- the configuration -------------------------------------------------------------------------------------


def _stated(checkpoint: Checkpoint, given: Path | None) -> ModelConfig:
    """What is known of the model: from the file that is given, from the checkpoint, or from a file beside it."""
    path, contents = checkpoint.path, checkpoint.contents
    try:
        if checkpoint.program == "LyraCodec":
            return _of_lyra(checkpoint, given)
        if given is None and checkpoint.program == "descript-audio-codec":
            metadata = contents.get("metadata")
            arguments = metadata.get("kwargs") if isinstance(metadata, Mapping) else None
            if not isinstance(arguments, Mapping):
                raise InputError("lacks the `metadata` that say how its network is built; take the file as published")
            return descript.understood(arguments)
        if given is None and isinstance(contents.get("model_config"), Mapping):
            return _in_order(model_config.understood(contents["model_config"]), checkpoint.state)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    if given is None:
        given = next((each for each in _beside(path) if each.exists()), None)
    if given is None:
        raise InputError(f"{path}: does not say how its network is built; give config=model_config.json, its own")
    stated = model_config.read(given)
    if stated.origin != checkpoint.program:
        raise InputError(f"{given}: is of {stated.origin}, and {path} of {checkpoint.program}")
    return stated


def _beside(path: Path) -> list[Path]:
    """Where published models have their configuration."""
    return [path.with_suffix(".json"), path.with_name("model_config.json"), path.with_name("config.json")]


def _of_lyra(checkpoint: Checkpoint, given: Path | None) -> ModelConfig:
    """The weights tell the network, and a configuration the rate alone."""
    network, group_norm = lyra.from_weights({name: tuple(each.shape) for name, each in checkpoint.state.items()})
    inside: Any = checkpoint.contents.get("config")
    stated = model_config.read(given) if given else lyra.understood(inside) if lyra.recognized(inside) else None
    rate = stated.model.rate if stated else 44100
    model = network.autoencoder(rate, group_norm)
    if stated is None:
        remark = "does not say its rate, and 44100 Hz are assumed; config=config.yaml or rate=48000 say otherwise"
        return ModelConfig(model, "LyraCodec", remarks=(remark,))
    differing = [each for each in config.differences(model, stated.model) if not each.endswith("group_norm")]
    if differing:
        raise InputError(f"its weights are of another network than its configuration, which differs in {differing[0]}")
    return dataclasses.replace(stated, model=model, remarks=())


def _in_order(stated: ModelConfig, state: Mapping[str, Tensor]) -> ModelConfig:
    """stable-audio-tools reverses the ratios of a SEANet encoder whenever it builds one, and so they may be saved."""
    encoder = stated.model.encoder
    if not isinstance(encoder, SEANetEncoderConfig):
        return stated
    # A convolution that downsamples by r has 2 r taps and twice as many outputs as inputs.
    layer = re.compile(r"encoder\.model\.(\d+)\.conv\.conv\.(?:weight|weight_v|parametrizations\.weight\.original1)")
    shapes = {int(match[1]): each.shape for name, each in state.items() if (match := layer.fullmatch(name))}
    ratios = tuple(shape[2] // 2 for _, shape in sorted(shapes.items()) if len(shape) == 3 and shape[0] == 2 * shape[1])
    if ratios == encoder.ratios or ratios[::-1] != encoder.ratios:
        return stated
    model = dataclasses.replace(stated.model, encoder=dataclasses.replace(encoder, ratios=ratios))
    remark = f"its configuration has the ratios of its encoder reversed; by its weights they are {[*ratios]}"
    return dataclasses.replace(stated, model=model, remarks=(remark,))


# --- weights -----------------------------------------------------------------------------------------------


def filled(checkpoint: Checkpoint, settled: AutoencoderConfig) -> Autoencoder:
    """The model with these weights. Each must have its place, and each place its weight."""
    path = checkpoint.path
    state, published_names = _ours(checkpoint.state, path, settled, checkpoint.program)
    values = sum(tensor.numel() for tensor in state.values())
    with at_most(4 * values + 1000, path), no_values():
        try:
            empty = Autoencoder(settled)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
    fitted = _fitted(state, published_names, path, settled, empty)
    with Undrawn():
        model = Autoencoder(settled)
    model.load_state_dict(fitted)
    return model.eval()


def fill(module: nn.Module, config: LearningEncoderConfig, published: Mapping[str, Tensor], path: Path) -> None:
    """Set an encoder and its bottleneck to their weights in stable-audio-tools, all of them."""
    state, published_names = _ours(published, path, config, "stable-audio-tools")
    module.load_state_dict(_fitted(state, published_names, path, config, module))


Config = AutoencoderConfig | LearningEncoderConfig


def _ours(
    published: Mapping[str, Tensor], path: Path, config: Config, program: Program
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The weights of a program by our names, and by these theirs."""
    published_names: dict[str, str] = {}
    state: dict[str, Tensor] = {}
    for name, tensor in published.items():
        if CONSTANT.fullmatch(name) or (config.pretransform and name.startswith("pretransform.")):
            continue  # the pretransforms here learn nothing
        if SHIFT.fullmatch(name):
            if tensor.count_nonzero():
                raise InputError(f"{path}: {name} holds shifts of a norm, which these networks have not")
            continue
        ours = our_name(name, program, config)
        if ours in published_names:
            raise InputError(f"{path}: holds {name} twice, once as {published_names[ours]}")
        published_names[ours] = name
        # diffusers' Snake has the shape (1, C, 1), as DAC's.
        squeezed = program == "diffusers" and ours.endswith((".alpha", ".beta"))
        state[ours] = (tensor.flatten() if squeezed else tensor).float()
    return state, published_names


def _fitted(
    state: Mapping[str, Tensor], published_names: Mapping[str, str], path: Path, config: Config, module: nn.Module
) -> dict[str, Tensor]:
    """What `load_state_dict` of the module takes."""
    try:
        fitted = fit_weight_norm(joined(state, config.bottleneck), module)
    except (RuntimeError, IndexError, KeyError):  # too few axes, parts that do not join, a missing layer
        raise InputError(f"{path}: has weights in shapes that no network has") from None
    _expect_all(
        path, fitted, {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}, published_names
    )
    return fitted


def _expect_all(
    path: Path, state: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], published_names: Mapping[str, str]
) -> None:
    missing = [_shown(name) for name in expected if name not in state]
    unknown = [published_names.get(name, _shown(name)) for name in state if name not in expected]
    if missing or unknown:
        lists = ((missing, "are missing"), (unknown, "are unknown"))
        wrong = " and ".join(f"{len(names)} tensors {what} ({shortened(names)})" for names, what in lists if names)
        raise InputError(f"{path}: does not fit its configuration: {wrong}")
    for name, shape in expected.items():
        if tuple(state[name].shape) != shape:
            given = f"{published_names.get(name, _shown(name))} has the shape {tuple(state[name].shape)}"
            raise InputError(f"{path}: does not fit its configuration: {given}, expected {shape}")


def _shown(name: str) -> str:
    """The name of a part of a weight norm in the shorter layout."""
    return re.sub(r"parametrizations\.weight\.original([01])", lambda match: "weight_" + "gv"[int(match[1])], name)


__all__ = ["checkpoint_of", "convert", "fill", "filled", "summary"]
