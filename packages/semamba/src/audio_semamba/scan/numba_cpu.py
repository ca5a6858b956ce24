"""The selective scan on a processor by kernels that Numba compiles; threads share the rows.

The threads are Python's, not Numba's: its OpenMP teams do not survive a fork (as for the workers of a DataLoader), and
its own queue does not allow calls from two threads.
"""

import functools
import hashlib
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from . import backward, conv, forward, fused, steps
from .compiled import LANES
from .forward import EVERY

WORTH_A_THREAD = 200_000  # state updates; fewer take less time than handing them over


def renew(kernel: Any) -> None:
    """Drop what Numba kept if any file of this folder changed; by itself it looks at the file of a kernel only."""
    if not (folder := kernel.stats.cache_path):
        return
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    stamp = Path(folder) / "audio_semamba.sources"
    with suppress(OSError):  # a folder that cannot be written holds nothing new
        if stamp.is_file() and stamp.read_text() == digest.hexdigest():
            return
        for kept in Path(folder).glob("*.nb[ic]"):
            kept.unlink(missing_ok=True)
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.write_text(digest.hexdigest())


def remark() -> str:
    """What the first use costs, where no earlier one is kept."""
    folder = forward.scan.stats.cache_path
    kept = folder and any(Path(folder).glob("*.nbi"))
    return "" if kept else " (its kernels are compiled at their first use, for some seconds each)"


def selective_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor | None, reverse: bool
) -> Tensor:
    inputs = readable(u, delta, A.contiguous(), B, C, D, z)
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs):
        return SelectiveScan.apply(*inputs, reverse)
    return run_forward(inputs, reverse)


def selective_scan_stateful(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor | None, state: Tensor
) -> tuple[Tensor, Tensor]:
    last_state = state.new_empty(state.shape)
    return run_forward(
        readable(u, delta, A.contiguous(), B, C, D, z), False, state.contiguous(), last_state
    ), last_state


def mixer(
    x: Tensor, z: Tensor, weights: Sequence[Tensor], reverse: bool, before: int, state: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """See `scan.mixer`; step t sees the inputs from t - before on."""
    x, z, *weights = readable(x, z, *(weight.contiguous() for weight in weights))
    width, K = weights[0].shape
    rank, N = weights[3].shape[1], weights[5].shape[1]
    if state is not None:
        state = state.contiguous()
    last_state = None if state is None else state.new_empty(state.shape)
    states = address(state), address(last_state)
    y = z.new_empty(z.shape)
    size = (len(x), x.shape[1], z.shape[1], width, N, K, rank)
    scratch = fused.scratch(width, N, K, rank)
    parts = threads((*z.shape, N))
    outputs = (address(y), states, before, reverse)
    share(fused.mixer, scratch, parts, size, strided(x), strided(z), *map(address, weights), *outputs)
    return y, last_state


class SelectiveScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        *inputs, ctx.reverse = inputs
        (rows, length, width), N = inputs[0].shape, inputs[2].shape[1]
        kept = inputs[0].new_empty(rows, -(-width // LANES), -(-length // EVERY), N, LANES)
        ctx.save_for_backward(*inputs, kept)
        return run_forward(inputs, ctx.reverse, kept=kept)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        u, delta, A, B, C, D, z, kept = ctx.saved_tensors
        size = (*u.shape, A.shape[1])
        parts = threads(size)
        (grad,) = readable(grad)
        du, ddelta, dz = (None if x is None else x.new_empty(x.shape) for x in (u, delta, z))
        dA, dB, dC, dD = (
            A.new_zeros(parts, *A.shape),
            B.new_zeros(B.shape),
            C.new_zeros(C.shape),
            D.new_zeros(parts, len(D)),
        )
        inputs = addresses((u, delta, A, B, C, D, z))
        outputs = [address(x) for x in (kept, du, ddelta, dA, dB, dC, dD, dz)]
        scratch = backward.scratch(*size[2:])
        share(backward.scan, scratch, parts, size, *inputs, strided(grad), *outputs, ctx.reverse)
        return du, ddelta, dA.sum(0), dB, dC, dD.sum(0), dz, None


def run_forward(
    inputs: Sequence[Tensor | None],
    reverse: bool,
    first_state: Tensor | None = None,
    last_state: Tensor | None = None,
    kept: Tensor | None = None,
) -> Tensor:
    u, A = inputs[0], inputs[2]
    y = u.new_empty(u.shape)
    outputs = [address(x) for x in (y, first_state, last_state, kept)]
    size = (*u.shape, A.shape[1])
    scratch = forward.scratch(*size[2:])
    share(forward.scan, scratch, threads(size), size, *addresses(inputs), *outputs, reverse)
    return y


def causal_conv_silu(x: Tensor, weight: Tensor, bias: Tensor, reverse: bool) -> Tensor:
    weight, before = (weight.flip(1), 0) if reverse else (weight, weight.shape[1] - 1)
    inputs = readable(x, weight.contiguous(), bias)
    if torch.is_grad_enabled() and any(each.requires_grad for each in inputs):
        return ConvSiLU.apply(*inputs, before)
    return run_conv(*inputs, before, x.shape[1])


def conv_silu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(rows, L + K - 1, D) -> (rows, L, D), for inference only."""
    return run_conv(*readable(x, weight.contiguous(), bias), 0, x.shape[1] - weight.shape[1] + 1)


class ConvSiLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, before: int) -> Tensor:
        ctx.save_for_backward(x, weight, bias)
        ctx.before = before
        return run_conv(x, weight, bias, before, x.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias = ctx.saved_tensors
        size = (*x.shape, weight.shape[1])
        parts = threads(size)
        (grad,) = readable(grad)
        dx, dweight, dbias = x.new_zeros(x.shape), x.new_zeros(parts, *weight.shape), x.new_zeros(parts, len(bias))
        inputs = (strided(x), address(weight), address(bias), strided(grad))
        outputs = (address(dx), address(dweight), address(dbias))
        share(conv.backward, conv.scratch(*size[2:]), parts, size, *inputs, *outputs, ctx.before)
        return dx, dweight.sum(0), dbias.sum(0), None


def run_conv(x: Tensor, weight: Tensor, bias: Tensor, before: int, outputs: int) -> Tensor:
    rows, _, width = x.shape
    y = x.new_empty(rows, outputs, width)
    size = (*x.shape, weight.shape[1])
    args = (strided(x), address(weight), address(bias), address(y), before, outputs)
    share(conv.forward, conv.scratch(*size[2:]), threads(size), size, *args)
    return y


def softplus(x: Tensor) -> Tensor:
    x = x.contiguous()
    return Softplus.apply(x) if torch.is_grad_enabled() and x.requires_grad else run_softplus(x)


class Softplus(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = run_softplus(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (y,) = ctx.saved_tensors  # whose slope is 1 - e^-y
        return torch.expm1(-y).neg_().mul_(grad)


def run_softplus(x: Tensor) -> Tensor:
    y = torch.empty_like(x)
    rows, length, width = x.shape
    share(steps.forward, 0, threads(x.shape), (rows, length * width), address(x), address(y))
    return y


def share(kernel: Callable[..., None], scratch: int, parts: int, size: tuple[int, ...], *args: Any) -> None:
    """Run a kernel on all rows, each thread on a range of them, with `scratch` zeros of its own."""
    bounds = [size[0] * part // parts for part in range(parts + 1)]
    memory = torch.zeros(parts, scratch)

    def run(part: int) -> None:
        arguments = (size, *args, memory[part].data_ptr(), part, bounds[part], bounds[part + 1])
        try:
            kernel(*arguments)
        except OSError:  # the disk of Numba's cache is full: nothing ran yet, and what was compiled is in memory
            kernel(*arguments)

    others = [pool(os.getpid()).submit(run, part) for part in range(1, parts)]
    try:
        run(0)
    finally:
        wait(others)  # they write to memory that nobody holds after this
    for each in others:
        each.result()


def threads(size: tuple[int, ...]) -> int:
    return max(1, min(torch.get_num_threads(), size[0], math.prod(size) // WORTH_A_THREAD))


@functools.cache
def pool(process: int) -> ThreadPoolExecutor:
    """Threads of this process. A child that was forked has none of its parent's and so gets its own."""
    return ThreadPoolExecutor(os.cpu_count())


def readable(*tensors: Tensor | None) -> list[Tensor | None]:
    """Tensors with neighbouring channels."""
    return [x if x is None or x.stride(-1) == 1 else x.contiguous() for x in tensors]


def addresses(inputs: Sequence[Tensor | None]) -> tuple[Any, ...]:
    u, delta, A, B, C, D, z = inputs
    return strided(u), strided(delta), address(A), strided(B), strided(C), address(D), strided(z)


def strided(x: Tensor | None) -> tuple[int, int, int]:
    return (0, 0, 0) if x is None else (x.data_ptr(), x.stride(0), x.stride(1))


def address(x: Tensor | None) -> int:
    return 0 if x is None else x.data_ptr()
