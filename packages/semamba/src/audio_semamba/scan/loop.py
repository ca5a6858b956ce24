"""The selective scan in plain torch, a loop over time: for every device and for float64, and the measure of the others.

For each row, channel d and state n:
    s_t = exp(delta_t A) s_{t-1} + delta_t u_t B_t        y_t = (sum_n C_t s_t + D u_t) * silu(z_t)
The backward pass keeps the state of every 16th step only, and repeats the steps between them.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

EVERY = 16  # steps from one kept state to the next


def selective_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor | None, reverse: bool
) -> Tensor:
    y = SelectiveScan.apply(u, delta, A, B, C, D, reverse)
    return y if z is None else y * F.silu(z)


def selective_scan_stateful(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor | None, state: Tensor
) -> tuple[Tensor, Tensor]:
    ys = []
    for t in range(u.shape[1]):
        state = state * torch.exp(delta[:, t, None] * A.T) + (delta[:, t] * u[:, t])[:, None] * B[:, t, :, None]
        ys.append((C[:, t, None] @ state)[:, 0])
    y = D * u + torch.stack(ys, 1) if ys else u
    return (y if z is None else y * F.silu(z)), state


def causal_conv_silu(x: Tensor, weight: Tensor, bias: Tensor, reverse: bool) -> Tensor:
    size = weight.shape[1]
    pads = (0, 0, 0, size - 1) if reverse else (0, 0, size - 1, 0)
    return conv_silu(F.pad(x, pads), weight.flip(1) if reverse else weight, bias)


def conv_silu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(rows, L + K - 1, D) -> (rows, L, D). A grouped convolution would need its channels before the steps."""
    length = x.shape[1] - weight.shape[1] + 1
    y = bias.expand(len(x), length, -1)
    for k, tap in enumerate(weight.T):
        y = torch.addcmul(y, x[:, k : k + length], tap)
    return F.silu(y)


class SelectiveScan(torch.autograd.Function):
    """The scan without its gate. The state is (rows, N, D), so that the sum over n is a product of matrices."""

    @staticmethod
    def forward(
        ctx: Any, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, reverse: bool
    ) -> Tensor:
        y = D * u
        decay = u.new_empty(len(u), *A.T.shape)
        state = torch.zeros_like(decay)
        kept = []
        for step, t in enumerate(times(u, reverse)):
            if step % EVERY == 0 and any(ctx.needs_input_grad):
                kept.append(state.clone())
            torch.mul(delta[:, t, None], A.T, out=decay)
            state.mul_(decay.exp_()).baddbmm_(B[:, t, :, None], (delta[:, t] * u[:, t])[:, None])
            y[:, t] += torch.bmm(C[:, t, None], state)[:, 0]
        ctx.save_for_backward(u, delta, A, B, C, D, *kept)
        ctx.reverse = reverse
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        u, delta, A, B, C, D, *kept = ctx.saved_tensors
        grad_u, grad_delta, grad_A = grad * D, torch.empty_like(delta), torch.zeros_like(A.T)
        grad_B, grad_C = torch.empty_like(B), torch.empty_like(C)
        carry = torch.zeros_like(kept[0])  # dL/ds_t times the decay of step t: what reaches s_{t-1}
        order = list(times(u, ctx.reverse))
        for start in reversed(range(0, len(order), EVERY)):
            segment = order[start : start + EVERY]
            states, decays = [kept[start // EVERY]], []
            for t in segment:
                decays.append(torch.exp(delta[:, t, None] * A.T))
                inflow = B[:, t, :, None] * (delta[:, t] * u[:, t])[:, None]
                states.append(torch.addcmul(inflow, states[-1], decays[-1]))
            for t in reversed(segment):
                grad_C[:, t] = torch.bmm(states.pop(), grad[:, t, :, None])[..., 0]
                grad_state = carry.baddbmm_(C[:, t, :, None], grad[:, t, None])
                grad_B[:, t] = torch.bmm(grad_state, (delta[:, t] * u[:, t])[..., None])[..., 0]
                grad_inflow = torch.bmm(B[:, t, None], grad_state)[:, 0]
                carry.mul_(decays.pop())
                grad_exponent = carry * states[-1]
                grad_delta[:, t] = (grad_exponent * A.T).sum(1) + u[:, t] * grad_inflow
                grad_u[:, t] += delta[:, t] * grad_inflow
                grad_A += (grad_exponent * delta[:, t, None]).sum(0)
        return grad_u, grad_delta, grad_A.T, grad_B, grad_C, (grad * u).sum((0, 1)), None


def times(u: Tensor, reverse: bool) -> Iterator[int]:
    length = u.shape[1]
    return reversed(range(length)) if reverse else iter(range(length))


softplus = F.softplus
