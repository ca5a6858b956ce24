"""What configurations check of their numbers; a ValueError says what is wrong."""

from __future__ import annotations

from typing import Any


def within(config: Any, least: float, *names: str, most: float = float("inf")) -> None:
    """The settings `names`, numbers or tuples of numbers, lie from `least` to `most`, and no tuple is empty."""
    for name in names:
        value = getattr(config, name)
        numbers = value if isinstance(value, tuple) else (value,)
        if not numbers or not all(least <= number <= most for number in numbers):
            limits = f"at least {least}" if most == float("inf") else f"from {least} to {most}"
            raise ValueError(f"{name} must be {limits}, got {list(value) if isinstance(value, tuple) else value}")
