"""The integer model as C99 sources: the engine in `device/`, the same for every model, and a model's numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from audio_core.export import c_text

from .. import cost
from ..config import FIRST_KERNELS, POOL_AFTER, SECOND_BLOCK, ACDNetConfig, frames, pools
from .quantise import IntegerLayer, IntegerModel, average_window

ENGINE = Path(__file__).with_name("device")
FILES = ("acdnet.h", "acdnet.c", "main.c", "acdnet_model.h", "acdnet_model.c")
_NOTICE = "/* Made by audio-acdnet; the engine is in acdnet.c. */\n"


def sources(model: IntegerModel) -> dict[str, str]:
    """Names and texts of the files that, compiled together, are the model and an example of its use."""
    if model.input_type != "int16":
        raise ValueError(f"the C engine takes 16-bit audio, this model {model.input_type}")
    return {**c_text.engine(ENGINE, FILES[:3]), "acdnet_model.h": _header(model), "acdnet_model.c": _numbers(model)}


def memory_of(model: IntegerModel) -> dict[str, int]:
    """Bytes of each part of the memory that the C code needs."""
    return cost.device_memory(model.config, _map_bytes(model))


def _map_bytes(model: IntegerModel) -> int:
    return np.dtype(model.map_type).itemsize


def flash(model: IntegerModel) -> int:
    """Bytes of all numbers that the C code keeps in read-only memory."""
    return sum(
        part.nbytes
        for layer in model.layers
        for part in (layer.weight, layer.bias, layer.multiplier, layer.shift.astype(np.int8))
    )


def _header(model: IntegerModel) -> str:
    config, plan = model.config, pools(model.config)
    memory = memory_of(model)
    (first, one), (second, other) = FIRST_KERNELS
    rows = [
        ("RATE", config.rate, "samples a second"),
        ("SAMPLES", _window_samples(config), "of a window, after which it can be classified"),
        ("STEP", one * other * plan.first, "samples of a column"),
        ("CLASSES", len(config.labels), ""),
        ("INPUT_SCALE", repr(model.input_scale / config.gain), "audio within -1 to 1 is this times (sample - zero)"),
        ("INPUT_ZERO", model.input_zero, ""),
        ("LOGIT_SCALE", repr(model.output_scale), "a logit is this times its integer"),
        ("LAYERS", len(model.layers), ""),
        ("KERNEL1", first, "of conv1, whose input is the audio"),
        ("FILTERS", config.channels[0], "outputs of conv1"),
        ("KERNEL2", second, "of conv2"),
        ("POOL", plan.first, "outputs of conv2 that become one column"),
        ("ROWS", config.channels[1], "outputs of conv2: the height of the picture"),
        ("COLUMNS", frames(config), "the width of the picture"),
        ("VALUE", model.map_type + "_t", "of the maps"),
        ("LOW", model.layers[0].output_limits[0], ""),
        ("HIGH", model.layers[0].output_limits[1], ""),
        ("EVEN", memory["even maps"] // _map_bytes(model), "values of the largest map of conv3, conv5, ..."),
        ("ODD", memory["odd maps"] // _map_bytes(model), "and of conv4, conv6, ..."),
        ("SUMS", memory["lines of sums"] // 4, "values of the longest lines that are pooled together"),
    ]
    total = f"/* In all {sum(memory.values()):,} bytes of memory and {flash(model):,} of constants. */\n"
    return _NOTICE + total + c_text.header("ACDNET_MODEL_H", c_text.defines("ACDNET", rows))


def _window_samples(config: ACDNetConfig) -> int:
    """Samples of a crop that the columns are computed from; no model uses the few behind them."""
    length = frames(config) * pools(config).first
    for kernel, stride in reversed(FIRST_KERNELS):
        length = (length - 1) * stride + kernel
    return length


def _numbers(model: IntegerModel) -> str:
    parts = [_NOTICE + '#include "acdnet.h"\n']
    rows = []
    shapes = {layer.name: layer.shape for layer in cost.layers(model.config)}
    maps = [(1, 1, 0), (model.config.channels[0], 1, 0), (1, model.config.channels[1], frames(model.config))]
    for name in SECOND_BLOCK:
        maps.append(shapes.get(POOL_AFTER.get(name, ""), shapes[name]))
    for layer, (channels, height, width) in zip(model.layers, maps, strict=True):
        shift = layer.shift.astype(np.int8)
        for kind, values in (
            ("weight", layer.weight),
            ("bias", layer.bias),
            ("multiplier", layer.multiplier),
            ("shift", shift),
        ):
            parts.append(c_text.array(f"{layer.name}_{kind}", values))
        rows.append(_row(model.config, layer, channels, height, width))
    labels = ",\n".join(f"    {_quoted(label)}" for label in model.config.labels)
    parts.append(c_text.table("acdnet_layer", "acdnet_layers", "ACDNET_LAYERS", "".join(rows)))
    parts.append(c_text.table("char *const", "acdnet_labels", "ACDNET_CLASSES", labels + "\n"))
    return "\n".join(parts)


def _row(config: ACDNetConfig, layer: IntegerLayer, channels: int, height: int, width: int) -> str:
    """The fields of an acdnet_layer, in their order."""
    pool = average_window(config) if layer.name == "output" else layer.pool
    arrays = ", ".join(f"{layer.name}_{kind}" for kind in ("weight", "bias", "multiplier", "shift"))
    numbers = [channels, len(layer.weight), height, width]
    numbers += [layer.weight.shape[3], layer.stride, layer.padding, *pool, layer.input_zero, layer.output_zero]
    return f"    {{{arrays}, {', '.join(map(str, numbers))}}},\n"


def _quoted(label: str) -> str:
    """A C string of a label, whatever characters it has."""
    octal = "".join(chr(c) if 32 <= c < 127 and chr(c) not in '"\\?' else f"\\{c:03o}" for c in label.encode())
    return f'"{octal}"'
