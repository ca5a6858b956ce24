"""The selective scan of Mamba and the short convolution before it, each by the fastest way that a device has.

`backend(device)` tells which way was chosen, `use("torch")` or the environment variable AUDIO_SEMAMBA_SCAN forces one.
Tensors are time-major, (rows, L, channels), and float32 whatever autocast says; float64 is computed by the torch loop.
"""

import functools
import importlib
import os
import warnings
from collections.abc import Sequence
from types import ModuleType

import torch
from audio_core.dsp.precision import full_precision
from audio_core.files import InputError, note, reason
from torch import Tensor

from . import loop

# The backends by name, fastest first: the module of each, and the only kind of device that it works on.
MODULES = {"mamba-ssm": "mamba_ssm", "triton": "triton_cuda", "numba": "numba_cpu", "torch": "loop"}
DEVICES = {"mamba-ssm": "cuda", "triton": "cuda", "numba": "cpu"}
WIDEST, MOST = 64, 1024  # channels and positions up to which one kernel is faster than many operations
VARIABLE = "AUDIO_SEMAMBA_SCAN"

_forced: str | None = None


def use(name: str | None) -> None:
    """Force a backend for this process by its name; None leaves the choice to each device again."""
    global _forced
    _forced = None if name is None else known(name, "scan backend")
    _chosen.cache_clear()


def backend(device: torch.device | str) -> str:
    """The name of the backend that scans on this device."""
    return _chosen(torch.device(device).type)[0]


@full_precision
def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    z: Tensor | None = None,
    *,
    reverse: bool = False,
) -> Tensor:
    """y_t = (sum_n C_t s_t + D u_t) * silu(z_t), where s_t = exp(delta_t A) s_{t-1} + delta_t u_t B_t begins at zero.

    u, z and delta (after softplus) are (rows, L, D), B and C (rows, L, N), A (D, N) negative, D (D,), y (rows, L, D).
    Views with any strides of rows and steps are read in place. `reverse` runs from the last step to the first.
    """
    _check_scan(u, delta, A, B, C, D, z)
    return _module(u).selective_scan(u, delta, A, B, C, D, z, reverse)


@full_precision
@torch.no_grad()
def selective_scan_stateful(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor | None, state: Tensor
) -> tuple[Tensor, Tensor]:
    """The scan that begins at `state` (rows, N, D) and also returns the last state; for inference only."""
    _check_scan(u, delta, A, B, C, D, z, state)
    return _module(u).selective_scan_stateful(u, delta, A, B, C, D, z, state)


@full_precision
def causal_conv_silu(x: Tensor, weight: Tensor, bias: Tensor, *, reverse: bool = False) -> Tensor:
    """silu of a depthwise convolution: x (rows, L, D), weight (D, K), of which the last column multiplies x_t.

    Step t sees t - K + 1 to t, with zeros before the first step; in reverse it sees t to t + K - 1.
    """
    _check_conv(x, weight, bias)
    return _module(x).causal_conv_silu(x, weight, bias, reverse)


@full_precision
@torch.no_grad()
def causal_conv_silu_stateful(x: Tensor, weight: Tensor, bias: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
    """The convolution that begins after `past`, the K - 1 inputs before x, and also returns the last K - 1 inputs."""
    window = torch.cat([past, x], 1)
    _check_conv(window, weight, bias)
    return _module(x).conv_silu(window, weight, bias), window[:, x.shape[1] :]


def fuses(x: Tensor) -> bool:
    """Whether `mixer` has a kernel for inputs like x (rows, L, D), and is the faster way: for inference of a frame."""
    few = x.shape[-1] <= WIDEST and x.shape[0] * x.shape[1] <= MOST
    return few and not torch.is_grad_enabled() and hasattr(_module(x), "mixer")


@full_precision
def mixer(
    x: Tensor,
    z: Tensor,
    *weights: Tensor,
    reverse: bool = False,
    past: Tensor | None = None,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The convolution, the choice of the scan's parameters, the scan and its gate at once, where `fuses(x)`.

    `weights` are those of the convolution (D, K) and its bias, of x_proj (rank + 2 N, D), of dt_proj (D, rank) and its
    bias, A_log (D, N) and D. `past` and `state` continue a stream, as in `causal_conv_silu_stateful` and
    `selective_scan_stateful`, forwards only. Returns y (rows, L, D), and the next past and state.
    """
    if reverse and (past is not None or state is not None):
        raise ValueError("a stream has no way back: reverse, and past or state, exclude each other")
    _check_mixer(x, z, *weights, past, state)
    taps, length = weights[0].shape[1], x.shape[1]
    if past is not None:
        x = torch.cat([past, x], 1)
    if reverse:
        weights = weights[0].flip(1), *weights[1:]
    before = taps - 1 if past is None and not reverse else 0
    y, state = _module(x).mixer(x, z, weights, reverse, before, state)
    return y, x[:, length:], state


@full_precision
def softplus(x: Tensor) -> Tensor:
    """log(1 + e^x) for the step sizes of a scan, (rows, L, D)."""
    return _module(x).softplus(x)


def _check_scan(*inputs: Tensor | None) -> None:
    (rows, length, width), N = inputs[0].shape, inputs[2].shape[-1]
    steps, mixes = (rows, length, width), (rows, length, N)
    shapes = (steps, steps, (width, N), mixes, mixes, (width,), steps, (rows, N, width))
    _check(("u", "delta", "A", "B", "C", "D", "z", "state"), inputs, shapes)


def _check_conv(x: Tensor, weight: Tensor, bias: Tensor) -> None:
    width, size = x.shape[2], weight.shape[-1]
    _check(("x", "weight", "bias"), (x, weight, bias), (x.shape, (width, size), (width,)))


def _check_mixer(*inputs: Tensor | None) -> None:
    names = "x", "z", "conv weight", "conv bias", "x_proj", "dt_proj", "dt bias", "A_log", "D", "past", "state"
    (rows, length, width), (_, taps), (_, N) = inputs[0].shape, inputs[2].shape, inputs[7].shape
    rank = inputs[5].shape[-1]
    steps, channels = (rows, length, width), (width,)
    projections = (width, taps), channels, (rank + 2 * N, width), (width, rank), channels, (width, N), channels
    _check(names, inputs, (steps, steps, *projections, (rows, taps - 1, width), (rows, N, width)))


def _check(names: Sequence[str], inputs: Sequence[Tensor | None], shapes: Sequence[tuple[int, ...]]) -> None:
    """Kernels read by addresses, so that nothing else would notice what does not fit together."""
    first = inputs[0]
    if not first.is_floating_point():
        raise InputError(f"{names[0]}: expected floats, got {first.dtype}")
    for name, x, shape in zip(names, inputs, shapes, strict=False):
        if x is not None and (x.shape != shape or x.dtype != first.dtype or x.device != first.device):
            expected = f"{tuple(shape)} of {first.dtype} on {first.device}"
            raise InputError(f"{name}: expected {expected}, got {tuple(x.shape)} of {x.dtype} on {x.device}")


def known(name: str, what: str) -> str:
    if name not in MODULES:
        raise InputError(f"{what}: {name!r} is not one of {', '.join(MODULES)}")
    return name


def _module(x: Tensor) -> ModuleType:
    return loop if x.dtype == torch.float64 else _chosen(x.device.type)[1]


@functools.cache
def _chosen(device: str) -> tuple[str, ModuleType]:
    """Name and module for a device, chosen once and told in one line."""
    forced = _forced or os.environ.get(VARIABLE)
    if forced:
        name = known(forced, "scan backend" if _forced else VARIABLE)
        if DEVICES.get(name, device) != device:
            raise InputError(f"scan backend {name}: works on {DEVICES[name]}, not on {device}; take torch")
        try:
            module = _imported(name)
        except ImportError as error:
            problem = f"scan backend {name}: cannot be imported ({reason(error)})"
            raise InputError(f"{problem}; install it, or take torch") from None
    else:
        name, module = _fastest(device)
    remark = ""
    if name == "numba":
        module.renew(module.forward.scan)
        remark = module.remark()
    note(f"selective scan on {device}: {name}{remark}")
    return name, module


def _fastest(device: str) -> tuple[str, ModuleType]:
    for name in [name for name in DEVICES if DEVICES[name] == device]:
        try:
            return name, _imported(name)
        except ImportError as error:
            if name == "numba":
                text = f"numba cannot be imported ({reason(error)}): the scan falls back to torch, which is slow"
                warnings.warn(text, stacklevel=2)
    return "torch", loop


def _imported(name: str) -> ModuleType:
    return importlib.import_module(f".{MODULES[name]}", __name__)
