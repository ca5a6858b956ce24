"""Checkpoints of the original program -> our models.

Three kinds of checkpoints are read: generators (`SEMamba_advanced.pth`, `g_*.pth`), discriminators in training states
(`do_*.pth`), and bare discriminators (`pretrained_discriminator.pth`). Shapes tell the architecture. The rest is taken
from the recipe `config.yaml` beside the file, which the original writes, or is as published.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from audio_core import config
from audio_core.bundle import read_checkpoint
from audio_core.files import InputError, note
from audio_core.weights import expect_values, no_values, shortened
from torch import Tensor

from .config import DiscriminatorConfig, SEMambaConfig
from .discriminator import MetricDiscriminator, load
from .model import SEMamba
from .original_recipe import read_recipe

_WRAPPERS = ("generator", "discriminator", "state_dict", "model_state_dict", "model")
# What other libraries put before names: DistributedDataParallel, torch.compile.
_PREFIXES = re.compile(r"^(?:module\.|_orig_mod\.)+")


def convert(path: str | Path, settings: Sequence[str] = ()) -> SEMamba | MetricDiscriminator:
    """The generator of an original's file, or the discriminator where it holds no generator, ready for use.

    `settings` such as `rate=16000` (`model.rate=...` is the same) say what the file does not, and `config=FILE` names
    the recipe it was trained with.
    """
    path = Path(path)
    _expect_checkpoint(path)
    state = {_PREFIXES.sub("", name): tensor for name, tensor in read_checkpoint(path, _WRAPPERS).items()}
    expect_values(state, path)
    if "layers.0.weight_orig" in state:
        if settings:
            raise InputError(f"{path}: is a discriminator, which has no settings to change, and {settings[0]} is given")
        width = max((1, *state["layers.0.weight_orig"].shape[:1]))
        return _filled(MetricDiscriminator, DiscriminatorConfig(width), state, discriminator_names(), path)
    given = [text.removeprefix("config=") for text in settings if text.startswith("config=")]
    overrides = [text.removeprefix("model.") for text in settings if not text.startswith("config=")]
    beside = path.with_name("config.yaml")
    recipe = Path(given[-1]) if given else beside if beside.exists() else None
    model_config = _settings(state, path, recipe, overrides)
    return _filled(SEMamba, model_config, state, names(model_config.blocks), path)


def summary(model: SEMamba | MetricDiscriminator) -> tuple[str, str]:
    """Title and summary for the card of a converted model."""
    values = sum(parameter.numel() for parameter in model.parameters())
    if isinstance(model, MetricDiscriminator):
        return (
            "SEMamba's metric discriminator",
            f"{model.config.width} channels in its first layer, {values} parameters",
        )
    c = model.config
    layers = f"{c.channels} channels, {c.blocks} TF-Mamba blocks, {values} parameters"
    return "SEMamba", f"generator of {layers}, {c.rate} Hz, STFT of {c.n_fft} points every {c.hop} samples"


def discriminator_weights(path: str | Path, wanted: DiscriminatorConfig) -> dict[str, Tensor]:
    """The state of a discriminator to begin a training with: of an original's file, or of a bundle."""
    if Path(path).suffix == ".pth" and not Path(path).exists():
        raise InputError(f"discriminator.pretrained={path}: there is no such file")
    model = convert(path) if Path(path).is_file() else load(path)
    if not isinstance(model, MetricDiscriminator):
        raise InputError(f"{path}: holds a generator, where a discriminator is expected")
    if model.config != wanted:
        raise InputError(f"{path}: has discriminator.width={model.config.width}, and {wanted.width} is asked for")
    return model.state_dict()


def _expect_checkpoint(path: Path) -> None:
    if path.is_dir():
        newest = sorted(path.glob("g_*.pth"))
        hint = f"; its newest generator is {newest[-1]}" if newest else ""
        raise InputError(f"{path}: is a folder, and a checkpoint is a file{hint}")
    if path.suffix.lower() in (".yaml", ".yml"):
        read_recipe(path)
        raise InputError(f"{path}: is a recipe without weights; give the checkpoint, and this as config={path}")


def _settings(state: Mapping[str, Tensor], path: Path, recipe: Path | None, overrides: list[str]) -> SEMambaConfig:
    """The configuration: what the shapes tell, then the recipe, then the overrides, which cannot change the shapes."""
    shapes = _from_shapes(state, path)
    if recipe:
        known = config.plain(read_recipe(recipe).model)
        wrong = [f"{key} {known[key]} for {value}" for key, value in shapes.items() if known[key] != value]
        if wrong:
            raise InputError(f"{recipe}: is not the recipe of {path}: it has {shortened(wrong)}; give config=FILE")
        note(f"{path}: settings from {recipe}")
    else:
        n_fft = shapes["n_fft"]
        known = {"hop": n_fft // 4, "window": n_fft}
        assumed = f"hop={n_fft // 4} window={n_fft} compress=0.3 beta=2 rate=16000"
        note(f"{path}: its weights do not tell {assumed}, which are assumed; config=RECIPE.yaml or these say otherwise")
    try:
        settings = config.build(SEMambaConfig, {**known, **shapes}, overrides)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    changed = [key for key, value in shapes.items() if getattr(settings, key) != value]
    if changed or settings.causal or settings.phase != "absolute":
        fixed = changed[0] if changed else "causal" if settings.causal else "phase"
        raise InputError(f"{path}: {fixed} follows from its weights, and no setting can change it")
    return settings


def _from_shapes(state: Mapping[str, Tensor], path: Path) -> dict[str, int]:
    blocks = {name.split(".")[1] for name in state if name.startswith("TSMamba.")}
    mixer = "TSMamba.0.time_mamba.forward_blocks.0.mixer."
    try:
        channels, inputs = state["dense_encoder.dense_conv_1.0.weight"].shape[:2]
        inner, values = state[f"{mixer}A_log"].shape
        taps, bins = state[f"{mixer}conv1d.weight"].shape[-1], len(state["mask_decoder.lsigmoid.slope"])
    except (KeyError, ValueError, IndexError, TypeError):  # IndexError and TypeError of tensors without axes
        shown = shortened(state)
        raise InputError(f"{path}: is neither a generator nor a discriminator of SEMamba; it holds {shown}") from None
    if inputs != 2 or not channels or inner % channels:
        raise InputError(
            f"{path}: is no SEMamba: {inputs} input channels, and {inner} in a scan for {channels} outside"
        )
    sizes = {"n_fft": 2 * (bins - 1), "channels": channels, "dense": _DENSE, "blocks": len(blocks)}
    return {**sizes, "state": values, "conv": taps, "expand": inner // channels}


def _filled(
    cls: type[SEMamba] | type[MetricDiscriminator],
    settings: Any,
    state: Mapping[str, Tensor],
    pairs: Mapping[str, list[str]],
    path: Path,
) -> SEMamba | MetricDiscriminator:
    """The model with these weights. Each must have its place, and each place its weight."""
    known = {name for theirs in pairs.values() for name in theirs}
    missing, unknown = [name for name in known if name not in state], [name for name in state if name not in known]
    if missing or unknown:
        lists = ((sorted(missing), "are missing"), (unknown, "are unknown"))
        wrong = " and ".join(f"{len(which)} tensors {what} ({shortened(which)})" for which, what in lists if which)
        raise InputError(f"{path}: looks like the {cls.__name__} of the original, but {wrong}")
    with no_values():  # shapes first: those of a wrong file may be those of a model that no memory holds
        expected = cls(settings).state_dict()
    tensors = {}
    for name in pairs:
        try:
            ((_, tensor),) = renamed(state, {name: pairs[name]})
        except (RuntimeError, IndexError):  # of what has too few axes, or two that do not join
            shapes = " and ".join(f"{each} {tuple(state[each].shape)}" for each in pairs[name])
            raise InputError(f"{path}: has shapes that do not fit: {shapes}") from None
        if tensor.shape != expected[name].shape:
            shapes = f"{tuple(tensor.shape)}, expected {tuple(expected[name].shape)}"
            raise InputError(f"{path}: {pairs[name][0]}, which is {name} here, has the shape {shapes}")
        tensors[name] = tensor
    model = cls(settings)
    model.load_state_dict(tensors)
    return model.eval()


def renamed(state: Mapping[str, Tensor], pairs: Mapping[str, list[str]]) -> Iterator[tuple[str, Tensor]]:
    """The original's tensors under our names, in our layout."""
    for ours, theirs in pairs.items():
        tensor = torch.cat([state[name] for name in theirs])
        if ours.endswith(".project.weight"):  # of a transposed convolution over one step, (in, out, 1)
            tensor = tensor[..., 0].transpose(0, 1)
        if ours.endswith((".conv_weight", ".slope")):  # (inner, 1, taps) and (bins, 1)
            tensor = tensor.squeeze(1)
        yield ours, tensor


# --- names -------------------------------------------------------------------------------------------------

_MIXER = {  # the leaves of one direction of a Mamba block
    "norm": "norm.weight",
    "A_log": "mixer.A_log",
    "D": "mixer.D",
    "conv_weight": "mixer.conv1d.weight",
    "conv_bias": "mixer.conv1d.bias",
    **{f"{layer}.weight": f"mixer.{layer}.weight" for layer in ("in_proj", "x_proj", "dt_proj", "out_proj")},
    "dt_proj.bias": "mixer.dt_proj.bias",
}
_DENSE = 4  # convolutions of a dense block
_UNIT = {"conv.weight": "0.weight", "conv.bias": "0.bias", "norm.weight": "1.weight", "norm.bias": "1.bias"}
_UNIT |= {"prelu.weight": "2.weight"}


def names(blocks: int) -> dict[str, list[str]]:
    """Each name in the state of our model -> the original's names of the same numbers.

    They are several where the original has two layers in place of one.
    """
    pairs = dict(_dense("encoder", "dense_encoder"))
    for ours, theirs in (("first", "dense_conv_1"), ("down", "dense_conv_2")):
        pairs |= {f"encoder.{ours}.{leaf}": f"dense_encoder.{theirs}.{name}" for leaf, name in _UNIT.items()}
    for at in range(blocks):
        pairs |= _block(f"blocks.{at}", f"TSMamba.{at}")
    pairs |= _dense("magnitude_decoder", "mask_decoder")
    for at, layer in enumerate(("up", "mix.conv", "mix.norm", "mix.prelu", "last")):
        leaves = ("weight",) if layer == "mix.prelu" else ("weight", "bias")
        pairs |= {f"magnitude_decoder.{layer}.{leaf}": f"mask_decoder.mask_conv.{at}.{leaf}" for leaf in leaves}
    pairs["magnitude_decoder.slope"] = "mask_decoder.lsigmoid.slope"
    pairs |= _dense("phase_decoder", "phase_decoder")
    pairs |= {f"phase_decoder.up.{leaf}": f"phase_decoder.phase_conv.{name}" for leaf, name in _UNIT.items()}
    several = {ours: [theirs] for ours, theirs in pairs.items()}
    for leaf in ("weight", "bias"):
        several[f"phase_decoder.last.{leaf}"] = [f"phase_decoder.phase_conv_{part}.{leaf}" for part in "ri"]
    return several


def _dense(ours: str, theirs: str) -> dict[str, str]:
    layers = [(f"{ours}.dense.units.{at}", f"{theirs}.dense_block.dense_block.{at}") for at in range(_DENSE)]
    return {f"{unit}.{leaf}": f"{layer}.{name}" for unit, layer in layers for leaf, name in _UNIT.items()}


def _block(ours: str, theirs: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for axis, mamba, linear in (("time", "time_mamba", "tlinear"), ("frequency", "freq_mamba", "flinear")):
        for at, direction in enumerate(("forward_blocks", "backward_blocks")):
            layers = f"{ours}.{axis}.mixers.{at}", f"{theirs}.{mamba}.{direction}.0"
            pairs |= {f"{layers[0]}.{leaf}": f"{layers[1]}.{name}" for leaf, name in _MIXER.items()}
        pairs |= {f"{ours}.{axis}.project.{leaf}": f"{theirs}.{linear}.{leaf}" for leaf in ("weight", "bias")}
    return pairs


def discriminator_names() -> dict[str, list[str]]:
    """The same for the discriminator, with the vectors of the spectral norm."""
    normed = {"original": "weight_orig", "0.u": "weight_u", "0.v": "weight_v"}
    pairs = {"slope": "layers.18.slope", "prelu.weight": "layers.16.weight"}
    for at in range(4):
        pairs |= {f"convs.{at}.1.{leaf}": f"layers.{3 * at + 1}.{leaf}" for leaf in ("weight", "bias")}
        pairs[f"convs.{at}.2.weight"] = f"layers.{3 * at + 2}.weight"
    layers = {**{f"convs.{at}.0": 3 * at for at in range(4)}, "hidden": 14, "last": 17}
    for ours, theirs in layers.items():
        pairs |= {f"{ours}.parametrizations.weight.{leaf}": f"layers.{theirs}.{name}" for leaf, name in normed.items()}
    pairs |= {f"{ours}.bias": f"layers.{layers[ours]}.bias" for ours in ("hidden", "last")}
    return {ours: [theirs] for ours, theirs in pairs.items()}
