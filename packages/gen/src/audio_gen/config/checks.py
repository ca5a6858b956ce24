"""What configurations check of their numbers; a ValueError tells what is wrong."""

from __future__ import annotations

from typing import Any


def at_least(least: float, config: Any, *names: str) -> None:
    """The settings `names` are numbers, or tuples of one or more numbers, from `least` on."""
    for name in names:
        value = getattr(config, name)
        numbers = value if isinstance(value, tuple) else (value,)
        if not numbers:
            raise ValueError(f"{name} needs one number or more, got none")
        if min(numbers) < least:
            shown = list(value) if isinstance(value, tuple) else value
            raise ValueError(f"{name} must be at least {least}, got {shown}")


def as_many(count: int, config: Any, *names: str) -> None:
    """The settings `names` are tuples of `count` numbers."""
    for name in names:
        if len(getattr(config, name)) != count:
            raise ValueError(f"{name} needs {count} numbers, got {len(getattr(config, name))}")


def shares_heads(name: str, width: int, unprojected: str, heads: int, head: int) -> None:
    """`width` channels, which the setting `unprojected` leaves as they are, make heads that divide all `heads`.

    Each head of keys and values then belongs to as many heads of queries.
    """
    fewer, rest = divmod(width, head)
    if rest or not fewer or heads % fewer:
        raise ValueError(
            f"{name} must make heads of {head} channels that divide the {heads} heads where {unprojected} is off, "
            f"got {width}"
        )
