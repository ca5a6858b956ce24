"""The forward pass of the selective scan on a processor, compiled: the gate and the skip are part of the loop.

An array comes with its strides, as (memory, row, step): element (r, t, i) is memory[r * row + t * step + i].
"""

import numpy as np
from numpy import uint64  # an index of this type is not checked for being negative, which would cost the vector loads

from .compiled import LANES, LOG2E, compiled, exp2, sigmoid

EVERY = 16  # steps from one kept state to the next


@compiled
def scan(u, delta, A, B, C, D, z, y, first_state, last_state, kept, size, reverse, part, start, stop):
    """Rows `start` to `stop` of the scan.

    `size` is (rows, L, D, N). `z`, `first_state` and `last_state` (rows, N, D) and `kept` may be empty.
    `kept` (rows, blocks, L / EVERY, N, LANES) takes the states that the backward pass starts from.
    """
    u, u_row, u_step = u
    delta, delta_row, delta_step = delta
    B, B_row, B_step = B
    C, C_row, C_step = C
    z, z_row, z_step = z
    _, length, width, N = size
    segments = (length + EVERY - 1) // EVERY
    has_state, gated, keeps = first_state.size > 0, z.size > 0, kept.size > 0
    blocks = (width + LANES - 1) // LANES
    # Only two arrays in the inner loop, so that LLVM can check that they do not overlap: of each block and state the
    # lanes of A and s, and of each step the lanes of delta, delta u, the sum, u, z and D.
    states = decays(A, width, N)
    lanes = np.zeros(6 * LANES, np.float32)
    for r in range(start, stop):
        for block in range(blocks):
            base, first = block * LANES, 2 * block * N * LANES
            inside = min(LANES, width - base)
            lanes[:] = 0
            for i in range(inside):
                lanes[5 * LANES + i] = D[base + i]
            for n in range(N):
                at, here = uint64((r * N + n) * width + base), uint64(first + (2 * n + 1) * LANES)
                for i in range(LANES):
                    states[here + uint64(i)] = 0
                if has_state:
                    for i in range(inside):
                        states[here + uint64(i)] = first_state[at + uint64(i)]
            for step in range(length):
                t = length - 1 - step if reverse else step
                if keeps and step % EVERY == 0:
                    at = uint64(((r * blocks + block) * segments + step // EVERY) * N * LANES)
                    for n in range(N):
                        here = uint64(first + (2 * n + 1) * LANES)
                        for i in range(LANES):
                            kept[at + uint64(n * LANES + i)] = states[here + uint64(i)]
                at = uint64(delta_row * r + delta_step * t + base)
                for i in range(inside):
                    lanes[i] = delta[at + uint64(i)]
                at = uint64(u_row * r + u_step * t + base)
                for i in range(inside):
                    lanes[3 * LANES + i] = u[at + uint64(i)]
                for i in range(LANES):
                    lanes[LANES + i] = lanes[i] * lanes[3 * LANES + i]
                    lanes[2 * LANES + i] = lanes[5 * LANES + i] * lanes[3 * LANES + i]
                B_at, C_at = uint64(B_row * r + B_step * t), uint64(C_row * r + C_step * t)
                for n in range(N):
                    b, c = B[B_at + uint64(n)], C[C_at + uint64(n)]
                    here = uint64(first + 2 * n * LANES)
                    for i in range(LANES):
                        decayed = exp2(lanes[i] * states[here + uint64(i)]) * states[here + uint64(LANES + i)]
                        state = decayed + b * lanes[LANES + i]
                        states[here + uint64(LANES + i)] = state
                        lanes[2 * LANES + i] += c * state
                if gated:
                    at = uint64(z_row * r + z_step * t + base)
                    for i in range(inside):
                        lanes[4 * LANES + i] = z[at + uint64(i)]
                    for i in range(LANES):
                        lanes[2 * LANES + i] *= lanes[4 * LANES + i] * sigmoid(lanes[4 * LANES + i])
                at = uint64((r * length + t) * width + base)
                for i in range(inside):
                    y[at + uint64(i)] = lanes[2 * LANES + i]
            if has_state:
                for n in range(N):
                    at, here = uint64((r * N + n) * width + base), uint64(first + (2 * n + 1) * LANES)
                    for i in range(inside):
                        last_state[at + uint64(i)] = states[here + uint64(i)]


@compiled
def decays(A, width, N):
    """A (D, N) for exp2 as (blocks, N, 2, LANES), where the second half of each is left for the state."""
    blocks = (width + LANES - 1) // LANES
    states = np.zeros(blocks * N * 2 * LANES, np.float32)
    for d in range(width):
        for n in range(N):
            states[(d // LANES * N + n) * 2 * LANES + d % LANES] = A[d * N + n] * LOG2E
    return states
