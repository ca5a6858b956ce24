"""Checkpoints of the original program -> our models.

The names and shapes of the tensors tell the model and its sizes. The names of the sources, and the order in which
earlier subband models have the planes of the head, are taken from the published file's name, or are settings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from audio_core import config
from audio_core.bundle import read_checkpoint
from audio_core.files import InputError, note
from audio_core.weights import Undrawn, expect_values, no_values, shortened
from torch import Tensor

from .config import (
    ConditionalUNetConfig,
    MobileNetSubbandTimeConfig,
    ResUNet143Config,
    ResUNet143DecouplePlusConfig,
    ResUNet143SubbandTimeConfig,
    SeparatorConfig,
    UNetConfig,
    UNetSubbandTimeConfig,
    original_type,
)
from .models import MODELS
from .models.separator import SpectrogramSeparator
from .original_recipe import read_recipe

_WRAPPERS = ("model", "state_dict", "model_state_dict")
# Of Lightning's module, DistributedDataParallel and torch.compile.
_PREFIXES = re.compile(r"^(?:model\.|module\.|_orig_mod\.)+")
# Fourier matrices, of the model and of a loss.
_CONSTANTS = re.compile(r"(?:.*\.)?i?stft\.(?:conv_(?:real|imag)\.weight|ola_window)")
_SOURCES = re.compile(r"(?<![a-z])(vocals|accompaniment|bass|drums|other|speech|piano|violin)(?![a-z])")
_ABN_EPS = 1e-5


@dataclass(frozen=True)
class Settings:
    """What a checkpoint does not say."""

    sources: tuple[str, ...] = ()
    """Names of what it separates; by default the one in the file's name."""
    rate: int = 44100
    model_type: str = ""
    """The original's name of the model, to be checked."""
    layout: Literal["", "v1", "v2"] = ""
    """The order of planes of a subband model: v1 of code before December 2021, v2 since; by default as the file's
    name says, or as the model's behaviour shows."""


def convert(path: str | Path, settings: Sequence[str] = ()) -> SpectrogramSeparator:
    """The model of an original's checkpoint, ready for use.

    `settings` are those of `Settings`, as `rate=48000`, and `config=FILE` names the recipe that it was trained with.
    """
    path = Path(path)
    recipes = [text.removeprefix("config=") for text in settings if text.startswith("config=")]
    overrides = [text.removeprefix("model.") for text in settings if not text.startswith("config=")]
    stated = {}
    if recipes:
        recipe = read_recipe(recipes[-1]).train
        stated = {"sources": recipe.target_source_types, "rate": recipe.sample_rate, "model_type": recipe.model_type}
    return model_of(read_checkpoint(path, _WRAPPERS), path, config.build(Settings, stated, overrides))


def model_of(tensors: Mapping[str, Tensor], path: Path, settings: Settings) -> SpectrogramSeparator:
    """The model with these tensors, which have the original's names."""
    state = {}
    for full_name, tensor in tensors.items():
        name = _PREFIXES.sub("", full_name)
        if not _CONSTANTS.fullmatch(name):
            state[name] = tensor
    expect_values(state, path)
    model_config = _config(state, path, settings)
    has_layout = isinstance(model_config, ResUNet143SubbandTimeConfig | MobileNetSubbandTimeConfig)
    if settings.layout and not has_layout:
        raise InputError(f"{path}: layout={settings.layout} is of subband models with a fourth plane, and this is none")
    model = _filled(state, model_config, path)
    if has_layout and settings.layout != "v2":
        layout = settings.layout or _named_layout(path) or _seen_layout(model, path)
        if layout == "v1" and len(model_config.sources) > 1:
            raise InputError(f"{path}: code of layout v1 mixes up several sources, and only one can be converted")
        if layout == "v1":
            by_plane(model)
    elif isinstance(model_config, UNetSubbandTimeConfig):
        by_plane(model)
    return model


def summary(model: SpectrogramSeparator) -> tuple[str, str]:
    """Title and summary for the card of a converted model."""
    values = sum(parameter.numel() for parameter in model.parameters())
    c = model.config
    what = f"{', '.join(c.sources)} of {c.channels} channels at {c.rate} Hz, {values} parameters"
    return type(model).__name__, f"separates {what}"


# --- what the file tells -----------------------------------------------------------------------------------


def _config(state: Mapping[str, Tensor], path: Path, settings: Settings) -> SeparatorConfig:
    """The configuration that shapes and settings give."""
    cls = recognized(state, path)
    if settings.model_type and original_type(settings.model_type) is not cls:
        raise InputError(f"{path}: is a {config.kind(cls)}, and model_type={settings.model_type} is another model")
    first_layers = {UNetConfig: "conv_block.conv1", MobileNetSubbandTimeConfig: "conv_block.conv1a"}
    layer = first_layers.get(cls, "conv_block.conv1" if cls.planes == 3 else "conv_block1.conv1")
    try:
        inputs = state[f"encoder_block1.{layer}.weight"].shape[1]
        rows = len(state["after_conv2.bias"])
        conditions = state["conv_block7.beta1.weight"].shape[1] if cls is ConditionalUNetConfig else 0
    except (KeyError, IndexError, TypeError):  # IndexError and TypeError of tensors without axes
        raise InputError(f"{path}: looks like a {config.kind(cls)}, but its first or last layer is missing") from None
    channels, odd_inputs = divmod(inputs, cls.bands * cls.slices)
    sources, odd_rows = divmod(rows, cls.planes * inputs) if inputs else (0, 0)
    if odd_inputs or odd_rows or not channels or not sources:
        raise InputError(f"{path}: a {config.kind(cls)} has no {inputs} inputs together with {rows} planes")
    if cls is UNetSubbandTimeConfig and sources > 1:
        raise InputError(f"{path}: the original mixes up the {sources} sources of a UNetSubbandTime; train it anew")
    names = settings.sources or _source_names(path)
    if len(names) != (conditions or sources):
        example = "sources=[vocals,bass,drums,other]" if (conditions or sources) > 1 else "sources=[vocals]"
        text = f"{len(names)} are given" if settings.sources else "its name does not say which"
        raise InputError(f"{path}: separates {conditions or sources} sources, and {text}; name them as {example}")
    try:
        return cls(settings.rate, channels, names)
    except ValueError as error:
        raise InputError(f"{path}: {error}") from None


def recognized(state: Mapping[str, Tensor], path: Path) -> type[SeparatorConfig]:
    bins = state["bn0.weight"].numel() if "bn0.weight" in state else 0
    in_subbands = "pqmf.ana_conv_filter.weight" in state or bins == ResUNet143SubbandTimeConfig().bins
    if "encoder_block1.conv_block.conv1a.weight" in state:
        return MobileNetSubbandTimeConfig
    if "encoder_block1.conv_block.beta1.weight" in state:
        return ConditionalUNetConfig
    if "encoder_block1.conv_block.conv1.weight" in state:
        return UNetSubbandTimeConfig if in_subbands else UNetConfig
    if "encoder_block1.conv_block1.abn2.weight" in state:
        return ResUNet143Config
    if "encoder_block1.conv_block1.conv1.weight" in state:
        return ResUNet143SubbandTimeConfig if in_subbands else ResUNet143DecouplePlusConfig
    raise InputError(f"{path}: is no model of Bytesep; it holds {shortened(state) or 'nothing'}")


def _source_names(path: Path) -> tuple[str, ...]:
    names = {*_SOURCES.findall(path.name.lower())}
    return tuple(names) if len(names) == 1 else ()


def _named_layout(path: Path) -> str:
    """The order of planes that the name of a published file says; the earlier ones had 350000 steps of training."""
    if re.search(r"_v2(?![0-9])", path.name):
        return "v2"
    return "v1" if "_350k_steps" in path.name else ""


@torch.inference_mode()
def _seen_layout(model: SpectrogramSeparator, path: Path) -> str:
    """The order of planes with which the model rotates phases little and to either side, as all trained models do.

    In the wrong order, rotations are made of masks, and go to one side. The score is 1 without any rotation. On a
    small model of 150 training steps it was 0.79 in the right order and -1.35 in the wrong one, after 100 steps 0.63
    and -1.14, and without training 0.42 and 0.25.
    """
    mixture = model.analysis(_chord(model))
    mixed = torch.complex(mixture.magnitude * mixture.cos, mixture.magnitude * mixture.sin)[:, None]
    features, sources = model.features(mixture.magnitude), [*range(len(model.config.sources))]

    def score() -> float:
        spectra = model.spectra(features, mixture, sources)
        weights = (spectra.abs() * mixed.abs()).sum().clamp(min=1e-20)
        rotation = (spectra * mixed.conj()).sum() / weights
        return float(rotation.real - rotation.imag.abs())

    scores = {"v2": score(), "v1": -2.0}
    if len(sources) == 1:
        by_plane(model)
        scores["v1"] = score()
        by_plane(model)  # with as many bands as planes this is its own inverse
    best, other = sorted(scores, key=lambda layout: -scores[layout])
    if scores[best] < 0.5 or scores[best] - scores[other] < 0.4:
        raise InputError(
            f"{path}: does not show in which order it has the planes of its head; give layout=v2, "
            "or layout=v1 if it is from code before December 2021"
        )
    note(f"{path}: its behaviour shows that its head has the layout {best}")
    return best


def _chord(model: SpectrogramSeparator) -> Tensor:
    """Half a second of three voices with overtones, (1, C, T)."""
    time = torch.arange(model.config.rate // 2 + model.shortest) / model.config.rate
    tones = [torch.sin(2 * torch.pi * pitch * n * time) / n for pitch in (98, 277, 523) for n in range(1, 9)]
    return 0.05 * torch.stack(tones).sum(0).expand(1, model.config.channels, -1)


# --- weights -----------------------------------------------------------------------------------------------


def _filled(state: Mapping[str, Tensor], model_config: SeparatorConfig, path: Path) -> SpectrogramSeparator:
    """The model with these weights. Each must have its place, and each place its weight."""
    cls = MODELS[config.kind(type(model_config))]
    with no_values():
        expected = cls(model_config).state_dict()
    original_names = {name: original_name(name, cls is MODELS["ResUNet143"]) for name in expected}
    optional = {
        name
        for name, original in original_names.items()
        if name.startswith("bank.") or original.endswith("abn2.num_batches_tracked")
    }
    missing = sorted(
        original for name, original in original_names.items() if original not in state and name not in optional
    )
    unknown = [original for original in state if original not in {*original_names.values()}]
    if missing or unknown:
        lists = ((missing, "are missing"), (unknown, "are unknown"))
        wrong = " and ".join(f"{len(names)} tensors {what} ({shortened(names)})" for names, what in lists if names)
        raise InputError(f"{path}: looks like a {cls.__name__}, but {wrong}")
    for name, original in original_names.items():
        if original in state and state[original].shape != expected[name].shape:
            shapes = f"{tuple(state[original].shape)}, and a {cls.__name__} has {tuple(expected[name].shape)}"
            raise InputError(f"{path}: {original} has the shape {shapes}")
    with Undrawn():
        model = cls(model_config)
    tensors = model.state_dict()
    tensors |= {name: state[original] for name, original in original_names.items() if original in state}
    for name, original in original_names.items():
        if original.endswith(".abn2.weight"):
            tensors[name] = in_place_scale(tensors[name])
    model.load_state_dict(tensors)
    return model.eval()


def in_place_scale(weight: Tensor) -> Tensor:
    """By what an in-place activated norm scales."""
    return weight.abs() + _ABN_EPS


def by_plane(model: SpectrogramSeparator) -> None:
    """Reorder the head's rows from (channel, band, plane) to (channel, plane, band)."""
    sizes = model.config.channels, model.config.bands, model.config.planes
    for values in (model.planes.weight, model.planes.bias):
        values.data = values.data.unflatten(0, sizes).transpose(1, 2).flatten(0, 2).contiguous()


# --- names -------------------------------------------------------------------------------------------------

_WHOLE = {"norm": "bn0", "planes": "after_conv2"}
_WHOLE |= {
    "bank.analysis_weight": "pqmf.ana_conv_filter.weight",
    "bank.synthesis_weight": "pqmf.syn_conv_filter.weight",
}
_STAGES = {  # blocks of ResUNets are numbered inside a stage; a decoder's upsampling counts as the first of its stage
    r"body\.encoders\.(\d+)\.(\d+)\.": lambda at, block: f"encoder_block{at + 1}.conv_block{block + 1}.",
    r"body\.encoders\.(\d+)\.": lambda at: f"encoder_block{at + 1}.conv_block.",
    r"body\.centre\.(\d+)\.(\d+)\.": lambda at, block: f"conv_block7{'abcd'[at]}.conv_block{block + 1}.",
    r"body\.centre\.0\.": lambda: "conv_block7.",
    r"body\.decoders\.(\d+)\.block\.(\d+)\.": lambda at, block: f"decoder_block{at + 1}.conv_block{block + 2}.",
    r"body\.decoders\.(\d+)\.block\.": lambda at: f"decoder_block{at + 1}.conv_block2.",
    r"body\.decoders\.(\d+)\.up\.": lambda at: f"decoder_block{at + 1}.",
    r"body\.after\.(\d+)\.": lambda block: f"after_conv_block1.conv_block{block + 1}.",
    r"body\.after\.": lambda: "after_conv_block1.",
}
_KINDS = {"conv": "conv", "convs": "conv", "norm": "bn", "norms": "bn", "shift": "beta"}
_LAYERS = {  # inside a block or an upsampling
    r"(first|second)\.(convs|norms)\.(\d)": lambda which, kind, at: (
        f"{_KINDS[kind]}{1 + (which == 'second')}{'abc'[at]}"
    ),
    r"(first|second)\.(conv|norm|shift)": lambda which, kind: f"{_KINDS[kind]}{1 + (which == 'second')}",
    r"(conv|norm)(\d)": lambda kind, at: f"{_KINDS[kind]}{at}",
    r"(conv|norm|shift)": lambda kind: f"{_KINDS[kind]}1",
    r"0": lambda: "bn1",
    r"2": lambda: "conv1",
    r"shortcut": lambda: "shortcut",
}


def original_name(name: str, in_place: bool = False) -> str:
    """The original's name for a tensor of our models, `in_place` for the one with in-place activated norms."""
    if name in _WHOLE:
        return _WHOLE[name]
    layer, _, leaf = name.rpartition(".")
    if layer in _WHOLE:
        return f"{_WHOLE[layer]}.{leaf}"
    stage, layer = _translated(_STAGES, layer)
    original_layer, _ = _translated(_LAYERS, layer)
    if in_place and original_layer == "bn2":
        original_layer = "abn2"
    return f"{stage}{original_layer}.{leaf}"


def _translated(table: Mapping[str, Callable[..., str]], name: str) -> tuple[str, str]:
    """What the first fitting row makes of the beginning of a name, and the rest of the name."""
    for pattern, translate in table.items():
        if match := re.match(pattern, name):
            parts = (int(part) if part.isdigit() else part for part in match.groups())
            return translate(*parts), name[match.end() :]
    raise ValueError(f"{name} has no place in the original")
