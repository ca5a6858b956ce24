"""Float32 for transforms whose small constants vanish in half precision, also under autocast."""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.amp import is_autocast_available

P = ParamSpec("P")
R = TypeVar("R")


def at_least_float32(value: Any) -> Any:
    if isinstance(value, Tensor) and value.dtype in (torch.float16, torch.bfloat16):
        return value.float()
    return value


def full_precision(function: Callable[P, R]) -> Callable[P, R]:
    """Run `function` without autocast, with half-precision tensors converted to float32; float64 is kept."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        device = next(value.device.type for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
        wide = [at_least_float32(value) for value in args]
        named = {name: at_least_float32(value) for name, value in kwargs.items()}
        if is_autocast_available(device) and torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                return function(*wide, **named)
        return function(*wide, **named)  # entering autocast costs more than a small transform

    return run
