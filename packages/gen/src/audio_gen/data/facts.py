"""What describes an item: its own facts, a .txt and a .json beside it, and a table."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audio_core.audio import Section
from audio_core.data.seeds import mix
from audio_core.files import InputError, reason

from .metadata import Table
from .places import Place

REJECT = "__reject__"
"""An item is left out where this fact is true."""
_LARGEST = 1 << 24  # bytes of a text


def facts_of(place: Place, own: Mapping[str, Any], table: Table | None) -> dict[str, Any]:
    """All facts of an item."""
    return described(place, beside(place, own), table)


def beside(place: Place, own: Mapping[str, Any]) -> dict[str, Any]:
    """An item's own facts, and those of files beside it: a .json has more to say than a .txt."""
    facts = {**_prompted(own)}
    if text := place.part(".txt"):
        facts["prompt"] = _text(text).strip()
    if part := place.part(".json"):
        facts |= _prompted(_object(part))
    return facts


def described(place: Place, facts: dict[str, Any], table: Table | None) -> dict[str, Any]:
    """The facts together with those of a table, which count most."""
    if table is not None:
        facts |= _prompted(table.of(place.name, facts.get("relpath")))
    if isinstance(prompts := facts.get("prompt"), list) and not prompts:
        raise InputError(f"{place}: prompt: the list is empty")
    return facts


def cropped(facts: Mapping[str, Any], rate: int, samples: int, start: int, length: float) -> dict[str, Any]:
    """Facts of a stretch of `length` samples that begins at sample `start` of an item of `samples`.

    The item may itself be a stretch of a recording; then its facts say where it begins. Seconds are whole ones.
    """
    first, last = _span(facts.get("timestamps"))
    begin = _number(facts, "seconds_start", 0)
    total = _number(facts, "seconds_total", math.ceil(samples / rate))
    share = (last - first) / samples
    return {
        **facts,
        "timestamps": (first + share * start, min(1.0, first + share * (start + length))),
        "seconds_start": math.floor(begin + start / rate),
        "seconds_total": total,
    }


def drawn(facts: Mapping[str, Any], seed: int, index: int) -> Mapping[str, Any]:
    """The facts with one prompt, where there are several."""
    prompts = facts.get("prompt")
    if not isinstance(prompts, list):
        return facts
    return {**facts, "prompt": prompts[mix(seed, index, 2) % len(prompts)]}


def _prompted(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"prompt": facts["text"], **facts} if "text" in facts else facts


def _text(part: Path | Section) -> str:
    try:
        if part.stat().st_size > _LARGEST:
            raise InputError(f"{part}: larger than {_LARGEST} bytes, which no such file should be")
        return part.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{part}: is not a text file") from None
    except OSError as error:
        raise InputError(f"{part}: {reason(error)}") from None


def _object(part: Path | Section) -> dict[str, Any]:
    try:
        facts = json.loads(_text(part))
    except (ValueError, RecursionError):
        raise InputError(f"{part}: is no JSON") from None
    if not isinstance(facts, dict):
        raise InputError(f"{part}: is no JSON object")
    return facts


def _span(value: Any) -> tuple[float, float]:
    if isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(each, int | float) for each in value):
        return value[0], value[1]
    return 0.0, 1.0


def _number(facts: Mapping[str, Any], key: str, default: float) -> float:
    """Tables in .csv hold texts alone."""
    try:
        return default if facts.get(key) in (None, "") else _plain(float(facts[key]))
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{key}: expected a number, got {facts[key]!r:.60}") from None


def _plain(number: float) -> float:
    return int(number) if number == int(number) else number
