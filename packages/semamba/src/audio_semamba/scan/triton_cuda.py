"""The selective scan on CUDA by kernels in Triton: one program for each row and tile of channels, a loop over time.

There are rows enough to fill a device, so that no step waits for another tile. Sums over rows and tiles are written
part by part and added afterwards: the same inputs give the same gradients, to the last bit.
"""

from contextlib import nullcontext
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from .loop import causal_conv_silu, conv_silu, selective_scan_stateful, softplus

__all__ = ["causal_conv_silu", "conv_silu", "selective_scan", "selective_scan_stateful", "softplus"]

TILE = 64  # channels of a program
EVERY = 8  # steps from one kept state to the next


def selective_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor | None, reverse: bool
) -> Tensor:
    inputs = [x if x is None or x.stride(-1) == 1 else x.contiguous() for x in (u, delta, A.contiguous(), B, C, D, z)]
    return SelectiveScan.apply(*inputs, reverse)


class SelectiveScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        u, delta, A, B, C, D, z, ctx.reverse = inputs
        y = u.new_empty(u.shape)
        kept = u.new_empty(len(u), -(-u.shape[1] // EVERY), *A.shape) if any(ctx.needs_input_grad) else None
        memory = (u, delta, A, B, C, D, u if z is None else z, y, u if kept is None else kept)
        with on_device(u):
            forward_kernel[grid(u)](
                *memory, *sizes(u, A, delta, B, C, z), **options(A, z, ctx.reverse), KEEPS=kept is not None
            )
        ctx.save_for_backward(*inputs[:7], kept)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        u, delta, A, B, C, D, z, kept = ctx.saved_tensors
        rows, tiles = grid(u)
        grad = grad.contiguous()
        du, ddelta, dz = u.new_empty(u.shape), u.new_empty(u.shape), None if z is None else u.new_empty(u.shape)
        dB, dC = u.new_empty(tiles, *B.shape), u.new_empty(tiles, *C.shape)
        dA, dD = u.new_empty(rows, *A.shape), u.new_empty(rows, *D.shape)
        states = u.new_empty(rows * tiles, EVERY, TILE, triton.next_power_of_2(A.shape[1]))
        memory = (u, delta, A, B, C, D, u if z is None else z, grad, kept, states)
        outputs = (du, ddelta, dA, dB, dC, dD, u if dz is None else dz)
        with on_device(u):
            backward_kernel[rows, tiles](*memory, *outputs, *sizes(u, A, delta, B, C, z), **options(A, z, ctx.reverse))
        return du, ddelta, dA.sum(0), dB.sum(0), dC.sum(0), dD.sum(0), dz, None


def grid(u: Tensor) -> tuple[int, int]:
    return len(u), triton.cdiv(u.shape[2], TILE)


def sizes(u: Tensor, A: Tensor, delta: Tensor, B: Tensor, C: Tensor, z: Tensor | None) -> list[int]:
    """Length and width, then the strides of rows and steps."""
    strides = [stride for x in (u, delta, B, C, u if z is None else z) for stride in x.stride()[:2]]
    return [u.shape[1], u.shape[2], *strides]


def options(A: Tensor, z: Tensor | None, reverse: bool) -> dict[str, Any]:
    """What a kernel is compiled for."""
    N = A.shape[1]
    fixed = {"N": N, "STATES": triton.next_power_of_2(N), "TILE": TILE, "EVERY": EVERY}
    return fixed | {"GATED": z is not None, "REVERSE": reverse}


def on_device(x: Tensor) -> Any:
    """Triton launches on the current device, which need not be that of the tensor."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


@triton.jit
def forward_kernel(
    u, delta, A, B, C, D, z, y, kept,
    length, width, u_row, u_step, delta_row, delta_step, B_row, B_step, C_row, C_step, z_row, z_step,
    N: tl.constexpr, STATES: tl.constexpr, TILE: tl.constexpr, EVERY: tl.constexpr,
    GATED: tl.constexpr, REVERSE: tl.constexpr, KEEPS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * TILE + tl.arange(0, TILE)
    n = tl.arange(0, STATES)
    inside, states = channel < width, n < N
    both = inside[:, None] & states[None, :]
    place = channel[:, None] * N + n[None, :]  # in (D, N)
    exponent = tl.load(A + place, mask=both, other=0.0) * 1.4426950408889634  # for exp2
    skip = tl.load(D + channel, mask=inside, other=0.0)
    state = tl.zeros([TILE, STATES], tl.float32)
    segments = tl.cdiv(length, EVERY)
    for step in range(length):
        t = length - 1 - step if REVERSE else step
        if KEEPS:  # noqa: SIM102  decided when the kernel is compiled, unlike the next
            if step % EVERY == 0:
                tl.store(kept + (row * segments + step // EVERY) * width * N + place, state, mask=both)
        delta_t = tl.load(delta + row * delta_row + t * delta_step + channel, mask=inside, other=0.0)
        u_t = tl.load(u + row * u_row + t * u_step + channel, mask=inside, other=0.0)
        B_t = tl.load(B + row * B_row + t * B_step + n, mask=states, other=0.0)
        C_t = tl.load(C + row * C_row + t * C_step + n, mask=states, other=0.0)
        state = tl.exp2(delta_t[:, None] * exponent) * state + (delta_t * u_t)[:, None] * B_t[None, :]
        y_t = tl.sum(state * C_t[None, :], 1) + skip * u_t
        if GATED:
            z_t = tl.load(z + row * z_row + t * z_step + channel, mask=inside, other=0.0)
            y_t *= z_t * tl.sigmoid(z_t)
        tl.store(y + (row * length + t) * width + channel, y_t, mask=inside)


@triton.jit
def backward_kernel(
    u, delta, A, B, C, D, z, grad, kept, past, du, ddelta, dA, dB, dC, dD, dz,
    length, width, u_row, u_step, delta_row, delta_step, B_row, B_step, C_row, C_step, z_row, z_step,
    N: tl.constexpr, STATES: tl.constexpr, TILE: tl.constexpr, EVERY: tl.constexpr,
    GATED: tl.constexpr, REVERSE: tl.constexpr,
):  # fmt: skip
    row, tile = tl.program_id(0).to(tl.int64), tl.program_id(1)
    rows, tiles = tl.num_programs(0), tl.num_programs(1)
    channel = tile * TILE + tl.arange(0, TILE)
    n = tl.arange(0, STATES)
    inside, states = channel < width, n < N
    both = inside[:, None] & states[None, :]
    place = channel[:, None] * N + n[None, :]
    exponent = tl.load(A + place, mask=both, other=0.0) * 1.4426950408889634
    skip = tl.load(D + channel, mask=inside, other=0.0)
    # The states of one segment, for this program only: (EVERY, TILE, STATES).
    past += (row * tiles + tile) * EVERY * TILE * STATES + tl.arange(0, TILE)[:, None] * STATES + n[None, :]
    reaching = tl.zeros([TILE, STATES], tl.float32)  # the gradient that reaches the state of the step before
    grad_A = tl.zeros([TILE, STATES], tl.float32)
    grad_D = tl.zeros([TILE], tl.float32)
    segments = tl.cdiv(length, EVERY)
    for done in range(segments):
        segment = segments - 1 - done
        begin = segment * EVERY
        steps = min(EVERY, length - begin)
        state = tl.load(kept + (row * segments + segment) * width * N + place, mask=both, other=0.0)
        for i in range(steps):
            t = length - 1 - begin - i if REVERSE else begin + i
            tl.store(past + i * TILE * STATES, state)
            delta_t = tl.load(delta + row * delta_row + t * delta_step + channel, mask=inside, other=0.0)
            u_t = tl.load(u + row * u_row + t * u_step + channel, mask=inside, other=0.0)
            B_t = tl.load(B + row * B_row + t * B_step + n, mask=states, other=0.0)
            state = tl.exp2(delta_t[:, None] * exponent) * state + (delta_t * u_t)[:, None] * B_t[None, :]
        tl.debug_barrier()  # other threads of this program read what was stored
        for i_back in range(steps):
            i = steps - 1 - i_back
            t = length - 1 - begin - i if REVERSE else begin + i
            out = (row * length + t) * width + channel
            delta_t = tl.load(delta + row * delta_row + t * delta_step + channel, mask=inside, other=0.0)
            u_t = tl.load(u + row * u_row + t * u_step + channel, mask=inside, other=0.0)
            B_t = tl.load(B + row * B_row + t * B_step + n, mask=states, other=0.0)
            C_t = tl.load(C + row * C_row + t * C_step + n, mask=states, other=0.0)
            grad_t = tl.load(grad + out, mask=inside, other=0.0)
            before = tl.load(past + i * TILE * STATES)
            decay = tl.exp2(delta_t[:, None] * exponent)
            inflow = delta_t * u_t
            state = decay * before + inflow[:, None] * B_t[None, :]
            if GATED:
                z_t = tl.load(z + row * z_row + t * z_step + channel, mask=inside, other=0.0)
                half = tl.sigmoid(z_t)
                y_t = tl.sum(state * C_t[None, :], 1) + skip * u_t
                tl.store(dz + out, grad_t * y_t * half * (1 + z_t * (1 - half)), mask=inside)
                grad_t *= z_t * half
            grad_state = reaching + grad_t[:, None] * C_t[None, :]
            reaching = grad_state * decay
            grad_exponent = reaching * before
            grad_inflow = tl.sum(grad_state * B_t[None, :], 1)
            grad_A += grad_exponent * delta_t[:, None]
            grad_D += grad_t * u_t
            grad_delta = tl.sum(grad_exponent * exponent, 1) * 0.6931471805599453 + u_t * grad_inflow
            tl.store(ddelta + out, grad_delta, mask=inside)
            tl.store(du + out, delta_t * grad_inflow + grad_t * skip, mask=inside)
            mix = ((tile * rows + row) * length + t) * N + n  # in (tiles, rows, L, N)
            tl.store(dB + mix, tl.sum(grad_state * inflow[:, None], 0), mask=states)
            tl.store(dC + mix, tl.sum(state * grad_t[:, None], 0), mask=states)
        tl.debug_barrier()  # before the next segment's states take the places of these
    tl.store(dA + row * width * N + place, grad_A, mask=both)
    tl.store(dD + row * width + channel, grad_D, mask=inside)
