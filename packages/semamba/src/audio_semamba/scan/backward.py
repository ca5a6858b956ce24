"""The backward pass of the selective scan on a processor, compiled. Tensors are given as in `forward`.

From the last segment of a row to the first: the states of a segment are computed again from the kept one, then its
steps are taken backwards. With G_t the gradient of the state and x_t = exp(delta_t A) G_t, which reaches step t - 1:
    G_t = x_{t+1} + g_t C_t     dB_t = sum_d G_t delta_t u_t     dC_t = sum_d g_t s_t     q_t = x_t s_{t-1}
    ddelta_t = sum_n q_t A + u_t sum_n G_t B_t     du_t = delta_t sum_n G_t B_t + g_t D     dA = sum_t q_t delta_t
"""

import numpy as np

from .compiled import (
    LANES,
    LN2,
    LOG2E,
    ONE,
    TABLE,
    add_product,
    compiled,
    copy,
    exp2_of_lane,
    fetch,
    fill,
    floats,
    inner,
    multiply,
    sigmoid,
    strided,
    summing,
)
from .forward import EVERY

# What each step of a segment holds for each lane, as offsets; what each state n, each n of each step, and each block.
DELTA, U, INFLOW, SUM, GRAD, GATE, GRAD_EXPONENT, GRAD_INFLOW = (slot * LANES for slot in range(8))
STEP = 8 * LANES
EXPONENT, STATE, REACHING, GRAD_A = (slot * LANES for slot in range(4))
OWN = 4 * LANES
DECAY, BEFORE = (slot * LANES for slot in range(2))
PAST = 2 * LANES
SKIP, GRAD_SKIP = (slot * LANES for slot in range(2))
BLOCK = 2 * LANES


def scratch(width: int, N: int) -> int:
    """How many zeros the kernel needs to work with."""
    return TABLE + EVERY * STEP + EVERY * N * PAST + -(-width // LANES) * (BLOCK + N * OWN)


@compiled
def scan(
    size, u, delta, A, B, C, D, z, grad, kept, du, ddelta, dA, dB, dC, dD, dz, reverse, scratch, part, start, stop
):
    """Rows `start` to `stop`. dB and dC begin at zero; dA (parts, D, N) and dD (parts, D) have one of each thread."""
    _, length, width, N = size
    u, u_row, u_step = strided(u)
    delta, delta_row, delta_step = strided(delta)
    B, B_row, B_step = strided(B)
    C, C_row, C_step = strided(C)
    gated = z[0] != 0
    z, z_row, z_step = strided(z)
    grad, grad_row, grad_step = strided(grad)
    A, D, kept = floats(A), floats(D), floats(kept)
    du, ddelta, dB, dC, dz = floats(du), floats(ddelta), floats(dB), floats(dC), floats(dz)
    dA, dD = floats(dA + 4 * part * width * N), floats(dD + 4 * part * width)
    blocks, segments = (width + LANES - 1) // LANES, (length + EVERY - 1) // EVERY
    table, lanes = floats(scratch), floats(scratch + 4 * TABLE)
    rest = scratch + 4 * (TABLE + EVERY * STEP)
    past, skips = floats(rest), floats(rest + 4 * EVERY * N * PAST)
    own = floats(rest + 4 * (EVERY * N * PAST + blocks * BLOCK))
    fill(table)
    for d in range(width):
        block, lane = d // LANES, d % LANES
        skips[block * BLOCK + SKIP + lane] = D[d]
        for n in range(N):
            own[(block * N + n) * OWN + EXPONENT + lane] = A[d * N + n] * LOG2E
    for r in range(start, stop):
        for n in range(blocks * N):
            for i in range(LANES):
                own[n * OWN + REACHING + i] = 0
        for segment in range(segments - 1, -1, -1):
            begin = segment * EVERY
            steps = min(EVERY, length - begin)
            for block in range(blocks):
                base, first, skip = block * LANES, block * N * OWN, block * BLOCK
                inside = min(LANES, width - base)
                if inside < LANES:  # the other lanes add nothing to the sums over lanes
                    for i in range(EVERY * STEP):
                        lanes[i] = 0
                for n in range(N):
                    at = (((r * blocks + block) * segments + segment) * N + n) * LANES
                    copy(kept, at, own, first + n * OWN + STATE, LANES)
                for step in range(steps):
                    t = length - 1 - begin - step if reverse else begin + step
                    here, out = step * STEP, (r * length + t) * width + base
                    earlier = t + EVERY if reverse else t - EVERY  # what comes next
                    fetch(delta, delta_row * r + delta_step * earlier + base)
                    fetch(u, u_row * r + u_step * earlier + base)
                    fetch(grad, grad_row * r + grad_step * earlier + base)
                    fetch(z, z_row * r + z_step * earlier + base)
                    for gradient in (du, ddelta, dz):
                        fetch(gradient, (r * length + earlier) * width + base)
                    copy(delta, delta_row * r + delta_step * t + base, lanes, here + DELTA, inside)
                    copy(u, u_row * r + u_step * t + base, lanes, here + U, inside)
                    copy(grad, grad_row * r + grad_step * t + base, lanes, here + GRAD, inside)
                    if gated:
                        copy(z, z_row * r + z_step * t + base, lanes, here + GATE, inside)
                        through_gate(lanes, here)
                    B_at, C_at, at = B_row * r + B_step * t, C_row * r + C_step * t, (r * length + t) * N
                    multiply(lanes, here + INFLOW, lanes, here + DELTA, lanes, here + U)
                    multiply(lanes, here + SUM, skips, skip + SKIP, lanes, here + U)
                    repeat_step(B, B_at, C, C_at, dC, at, N, table, lanes, here, own, first, past, step * N * PAST)
                    if gated:
                        multiply(lanes, here + GATE, lanes, here + GATE, lanes, here + SUM)
                        copy(lanes, here + GATE, dz, out, inside)
                for step in range(steps - 1, -1, -1):
                    t = length - 1 - begin - step if reverse else begin + step
                    here, out = step * STEP, (r * length + t) * width + base
                    B_at, C_at, at = B_row * r + B_step * t, C_row * r + C_step * t, (r * length + t) * N
                    step_back(B, B_at, C, C_at, dB, at, N, lanes, here, own, first, past, step * N * PAST)
                    to_inputs(lanes, here, skips, skip)
                    copy(lanes, here + GRAD_INFLOW, du, out, inside)
                    copy(lanes, here + GRAD_EXPONENT, ddelta, out, inside)
    for d in range(width):
        block, lane = d // LANES, d % LANES
        dD[d] = skips[block * BLOCK + GRAD_SKIP + lane]
        for n in range(N):
            dA[d * N + n] = own[(block * N + n) * OWN + GRAD_A + lane]


@summing
def through_gate(lanes, here):
    """The gradient of y before the gate; in the place of z, what it must be multiplied by for z's own gradient."""
    for i in range(LANES):
        grad, z = lanes[here + GRAD + i], lanes[here + GATE + i]
        half = sigmoid(z)
        lanes[here + GRAD + i] = grad * z * half
        lanes[here + GATE + i] = grad * half * (ONE + z * (ONE - half))


@summing
def repeat_step(B, B_at, C, C_at, dC, at, N, table, lanes, here, own, first, past, now):
    """A step forwards that remembers its decays and the states before it."""
    for n in range(N):
        b, c, mine, then = B[B_at + n], C[C_at + n], first + n * OWN, now + n * PAST
        grad_c = np.float32(0)
        for i in range(LANES):
            decay = exp2_of_lane(lanes[here + DELTA + i] * own[mine + EXPONENT + i], table, i)
            before = own[mine + STATE + i]
            state = decay * before + b * lanes[here + INFLOW + i]
            past[then + DECAY + i] = decay
            past[then + BEFORE + i] = before
            own[mine + STATE + i] = state
            lanes[here + SUM + i] += c * state
            grad_c += lanes[here + GRAD + i] * state
        dC[at + n] += grad_c


@summing
def step_back(B, B_at, C, C_at, dB, at, N, lanes, here, own, first, past, now):
    for i in range(2 * LANES):  # of both gradients
        lanes[here + GRAD_EXPONENT + i] = 0
    for n in range(N):
        b, c, mine, then = B[B_at + n], C[C_at + n], first + n * OWN, now + n * PAST
        grad_b = np.float32(0)
        for i in range(LANES):
            grad_state = own[mine + REACHING + i] + c * lanes[here + GRAD + i]
            grad_b += grad_state * lanes[here + INFLOW + i]
            reaching = grad_state * past[then + DECAY + i]
            grad_exponent = reaching * past[then + BEFORE + i]
            own[mine + REACHING + i] = reaching
            own[mine + GRAD_A + i] += grad_exponent * lanes[here + DELTA + i]
            lanes[here + GRAD_EXPONENT + i] += grad_exponent * own[mine + EXPONENT + i]
            lanes[here + GRAD_INFLOW + i] += grad_state * b
        dB[at + n] += grad_b


@inner
def to_inputs(lanes, here, skips, skip):
    """The gradients of delta and u, in the places of those of the exponent and of the inflow."""
    add_product(skips, skip + GRAD_SKIP, lanes, here + GRAD, lanes, here + U)
    for i in range(LANES):
        grad, u, grad_inflow = lanes[here + GRAD + i], lanes[here + U + i], lanes[here + GRAD_INFLOW + i]
        lanes[here + GRAD_EXPONENT + i] = LN2 * lanes[here + GRAD_EXPONENT + i] + u * grad_inflow
        lanes[here + GRAD_INFLOW + i] = lanes[here + DELTA + i] * grad_inflow + grad * skips[skip + SKIP + i]
