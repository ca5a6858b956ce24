"""Files with the features of texts, so that an encoder runs once, here or on another machine.

A file is in the safetensors format: the tensors `values.0`, `mask.0`, `values.1`, ..., and in the metadata `texts` a
JSON list of the texts. Loading it runs no code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from audio_core.files import InputError, reason, replacing
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes
from torch import Tensor


class Features(NamedTuple):
    """Of one text or other item."""

    values: Tensor  # (N, W)
    mask: Tensor  # (N,), true where they count


def save(path: str | Path, features: Mapping[str, Features], force: bool = True) -> None:
    """Write the features by their texts, in float32."""
    arrays: dict[str, np.ndarray] = {}
    for at, each in enumerate(features.values()):
        arrays[f"values.{at}"] = each.values.detach().cpu().float().contiguous().numpy()
        arrays[f"mask.{at}"] = each.mask.cpu().bool().numpy()
    with replacing(path, force) as temporary:
        temporary.write_bytes(to_bytes(arrays, {"texts": json.dumps([*features], ensure_ascii=False)}))


def load(path: str | Path) -> dict[str, Features]:
    """What `save` wrote."""
    try:
        with safe_open(path, "pt") as file:
            texts = json.loads((file.metadata() or {})["texts"])
            pairs = [(file.get_tensor(f"values.{at}"), file.get_tensor(f"mask.{at}")) for at in range(len(texts))]
        features = {text: Features(*pair) for text, pair in zip(texts, pairs, strict=True)}
    except OSError as error:
        raise InputError(f"{path}: {reason(error)}") from None
    except SafetensorError as error:
        raise InputError(f"{path}: is cut short or holds no features: {reason(error)}") from None
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: holds no features of texts: {reason(error)}") from None
    for text, (values, mask) in features.items():
        if values.ndim != 2 or mask.dtype != torch.bool or mask.shape != values.shape[:1]:
            raise InputError(f"{path}: the features of {text!r:.60} have the shape {tuple(values.shape)}")
    return features
