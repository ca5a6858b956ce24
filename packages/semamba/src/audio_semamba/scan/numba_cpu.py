"""The selective scan on a processor by kernels that Numba compiles; threads share the rows.

The threads are Python's, not Numba's: its OpenMP teams do not survive a fork (as for the workers of a DataLoader), and
its own queue does not allow calls from two threads.
"""

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import forward, loop

EMPTY = np.empty(0, np.float32)
WORTH_A_THREAD = 200_000  # state updates; fewer take less time than handing them over


def selective_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor | None, reverse: bool
) -> Tensor:
    inputs = (u, delta, A, B, C, D, z)
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs):
        return loop.selective_scan(*inputs, reverse)
    return run_forward(*inputs, reverse)


def selective_scan_stateful(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor | None, state: Tensor
) -> tuple[Tensor, Tensor]:
    last_state = torch.empty_like(state, memory_format=torch.contiguous_format)
    y = run_forward(u, delta, A, B, C, D, z, False, EMPTY, flat(state), flat(last_state))
    return y, last_state


def run_forward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    z: Tensor | None,
    reverse: bool,
    kept: np.ndarray = EMPTY,
    first_state: np.ndarray = EMPTY,
    last_state: np.ndarray = EMPTY,
) -> Tensor:
    y = u.new_empty(u.shape)
    size = (*u.shape, A.shape[1])
    gate = (EMPTY, 0, 0) if z is None else strided(z)
    inputs = (strided(u), strided(delta), flat(A), strided(B), strided(C), flat(D), gate)
    share(forward.scan, size, *inputs, flat(y), first_state, last_state, kept, size, reverse)
    return y


def share(kernel: Callable[..., None], size: tuple[int, ...], *args: Any) -> None:
    """Run the kernel on all rows, each thread on a range of them."""
    rows, parts = size[0], threads(size)
    bounds = [rows * part // parts for part in range(parts + 1)]
    waiting = [pool(os.getpid()).submit(kernel, *args, part, *bounds[part : part + 2]) for part in range(1, parts)]
    kernel(*args, 0, *bounds[:2])
    for each in waiting:
        each.result()


def threads(size: tuple[int, ...]) -> int:
    work = int(np.prod(size)) // WORTH_A_THREAD
    return max(1, min(torch.get_num_threads(), size[0], work))


@functools.cache
def pool(process: int) -> ThreadPoolExecutor:
    """Threads of this process. A child that was forked has none of its parent's and so gets its own."""
    return ThreadPoolExecutor(os.cpu_count())


def strided(x: Tensor) -> tuple[np.ndarray, int, int]:
    """The memory of (rows, L, D) from its first element to its last, and the strides of rows and steps in it."""
    x = x.detach()
    x = x if x.stride(2) == 1 else x.contiguous()
    (rows, length, width), (row, step, _) = x.shape, x.stride()
    span = (rows - 1) * row + (length - 1) * step + width if x.numel() else 0
    return x.as_strided((span,), (1,)).numpy(), row, step


def flat(x: Tensor) -> np.ndarray:
    return x.detach().contiguous().view(-1).numpy()


causal_conv_silu, conv_silu = loop.causal_conv_silu, loop.conv_silu
