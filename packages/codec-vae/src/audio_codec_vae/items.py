"""How latents for the training of other models lie on disk: a tensor and a .json for each item, in two layouts.

.safetensors  the format of `audio_core.latents`, complete in itself
.npy          stable-audio-tools': an array alone, whose .json has `padding_mask`, one 0 or 1 for each frame
"""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from audio_core import latents as stored
from audio_core.data.manifest import find_audio
from audio_core.files import InputError, read_json, reason, replacing, write_text
from audio_core.latents import Latents

from .models.autoencoder import Autoencoder

ENDINGS = (".safetensors", ".npy")
DETAILS = "details.json"
"""In the root of a folder: the settings of all that was encoded into it."""


def save(path: Path, item: Latents, half: bool = False, mask: bool = False) -> None:
    """Write an item in the layout that the ending of `path` names; `mask` adds `padding_mask` to the .json.

    The tensor comes last, so that none is without its .json.
    """
    facts = dict(item.facts)
    if mask:
        facts["padding_mask"] = [int(frame * item.hop < item.samples) for frame in range(item.frames)]
    write_json(path.with_suffix(".json"), facts)
    if path.suffix != ".npy":
        stored.save(path, item, half)
        return
    content = io.BytesIO()  # numpy would add an ending to the temporary name
    np.save(content, _halved(path, item.values) if half else item.values, allow_pickle=False)
    with replacing(path) as temporary:
        temporary.write_bytes(content.getvalue())


def _halved(path: Path, values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        halves = values.astype(np.float16)
    if not np.isfinite(halves).all():
        raise InputError(f"{path}: values up to {np.abs(values).max():g} do not fit into float16; leave --half")
    return halves


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(values, ensure_ascii=False) + "\n")


def find(folder: str | Path) -> list[Path]:
    """The tensors of all items below a folder, sorted. A folder has one layout; .safetensors are looked for first."""
    files = next((paths for ending in ENDINGS if (paths := find_audio(folder, ending))), None)
    if files is None:
        raise InputError(f"{folder}: holds no latents; known are files that end in {' and '.join(ENDINGS)}")
    return files


def read(path: str | Path, model: Autoencoder) -> Latents:
    """Latents or codes of `model`, in either layout. Those of other models are refused.

    An .npy names no model: without `details.json` of this package only its shape can be checked. Its length is what the
    .json beside it says, or without one that of all frames.
    """
    path = Path(path)
    if path.suffix.lower() != ".npy":
        return stored.load(path, model.fingerprint())
    try:
        values = np.load(path, allow_pickle=False)
        values = values.astype(np.float32 if values.dtype.kind == "f" else np.int64, casting="same_kind")
    except (OSError, ValueError, EOFError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: is cut short or no array of numbers: {reason(error)}") from None
    facts = read_facts(path)
    mask = facts.pop("padding_mask", None)
    if mask is not None and not (isinstance(mask, list) and all(each in (0, 1) for each in mask)):
        raise InputError(f"{path.with_suffix('.json')}: padding_mask: expected a list of 0 and 1")
    length = None if mask is None else int(sum(mask)) * model.hop
    try:
        item = stored.from_array(model, values, facts.get("samples", length), facts)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    if mark := _mark(path):
        stored.expect_model(dataclasses.replace(item, fingerprint=mark), model.fingerprint(), str(path))
    return item


def read_facts(path: Path) -> dict[str, Any]:
    """What the .json beside an item says; nothing without one."""
    beside = path.with_suffix(".json")
    facts = read_json(beside) if beside.exists() else {}
    if not isinstance(facts, dict):
        raise InputError(f"{beside}: expected facts by name, got {facts!r:.60}")
    return facts


def _mark(path: Path) -> bytes | None:
    """The fingerprint in the details of the folder that an item lies in, or of the one above."""
    for folder in path.absolute().parents[:2]:
        if (folder / DETAILS).exists():
            details = read_json(folder / DETAILS)
            text = details.get("model") if isinstance(details, dict) else None
            try:
                return bytes.fromhex(text)
            except (TypeError, ValueError):  # stable-audio-tools' own, or another program's
                return None
    return None
