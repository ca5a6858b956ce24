"""Float32 where half precision would lose small constants, also under autocast; and bf16 where that is faster."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.amp import is_autocast_available

from ..files import InputError

P = ParamSpec("P")
R = TypeVar("R")
Precision = Literal["float32", "bf16"]
"""As users name it."""


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


def computed_in(precision: Precision, device: torch.device) -> torch.dtype:
    """The type in which a network computes. bf16 is refused where it is emulated, which takes longer than float32."""
    if precision == "float32":
        return torch.float32
    if device.type == "cuda":
        able = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # Older versions of PyTorch do not tell.
        known: Callable[[], Mapping[str, Any]] = getattr(torch.cpu, "get_capabilities", dict)
        able = device.type == "cpu" and any(known().get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    if not able:
        raise InputError(f"precision: {device.type} does not compute bf16 here; leave it at float32")
    return torch.bfloat16
