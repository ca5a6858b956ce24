"""The forward pass of the selective scan on a processor, compiled: the gate and the skip are part of the loop.

A tensor is (address, row, step): element (r, t, i) lies at address + 4 (r row + t step + i). An address of 0: absent.
"""

from .compiled import LANES, LOG2E, compiled, copy, exp2, floats, inner, sigmoid

EVERY = 16
# What a step holds for each lane, as offsets; and what is held for each state n.
DELTA, INFLOW, SUM, U, GATE, SKIP = (slot * LANES for slot in range(6))
STEP = 6 * LANES
DECAY, STATE = (slot * LANES for slot in range(2))
OWN = 2 * LANES


def scratch(width: int, N: int) -> int:
    """How many zeros the kernel needs to work with."""
    return -(-width // LANES) * N * OWN + STEP


@compiled
def scan(size, u, delta, A, B, C, D, z, y, first_state, last_state, kept, reverse, scratch, part, start, stop):
    """Rows `start` to `stop` of the scan, of which `size` is (rows, L, D, N).

    States are (rows, N, D). `kept` (rows, blocks, L / EVERY, N, LANES) takes those that the backward pass starts from.
    """
    _, length, width, N = size
    (u, u_row, u_step), (delta, delta_row, delta_step) = (
        (floats(u[0]), u[1], u[2]),
        (floats(delta[0]), delta[1], delta[2]),
    )
    (B, B_row, B_step), (C, C_row, C_step) = (floats(B[0]), B[1], B[2]), (floats(C[0]), C[1], C[2])
    z, z_row, z_step, gated = floats(z[0]), z[1], z[2], z[0] != 0
    has_state, keeps = first_state != 0, kept != 0
    A, D, y, first_state, last_state, kept = (
        floats(A),
        floats(D),
        floats(y),
        floats(first_state),
        floats(last_state),
        floats(kept),
    )
    blocks, segments = (width + LANES - 1) // LANES, (length + EVERY - 1) // EVERY
    # Only two arrays in the inner loop, so that LLVM can check that they do not overlap.
    lanes, own = floats(scratch), floats(scratch + 4 * STEP)
    for d in range(width):
        for n in range(N):
            own[(d // LANES * N + n) * OWN + DECAY + d % LANES] = A[d * N + n] * LOG2E
    for r in range(start, stop):
        for block in range(blocks):
            base, first = block * LANES, block * N * OWN
            inside = min(LANES, width - base)
            for i in range(STEP):
                lanes[i] = 0
            copy(D, base, lanes, SKIP, inside)
            for n in range(N):
                for i in range(LANES):
                    own[first + n * OWN + STATE + i] = 0
                if has_state:
                    copy(first_state, (r * N + n) * width + base, own, first + n * OWN + STATE, inside)
            for step in range(length):
                t = length - 1 - step if reverse else step
                if keeps and step % EVERY == 0:
                    at = ((r * blocks + block) * segments + step // EVERY) * N * LANES
                    for n in range(N):
                        copy(own, first + n * OWN + STATE, kept, at + n * LANES, LANES)
                copy(delta, delta_row * r + delta_step * t + base, lanes, DELTA, inside)
                copy(u, u_row * r + u_step * t + base, lanes, U, inside)
                take_step(B, B_row * r + B_step * t, C, C_row * r + C_step * t, N, lanes, own, first)
                if gated:
                    copy(z, z_row * r + z_step * t + base, lanes, GATE, inside)
                    for i in range(LANES):
                        lanes[SUM + i] *= lanes[GATE + i] * sigmoid(lanes[GATE + i])
                copy(lanes, SUM, y, (r * length + t) * width + base, inside)
            if has_state:
                for n in range(N):
                    copy(own, first + n * OWN + STATE, last_state, (r * N + n) * width + base, inside)


@inner
def take_step(B, B_at, C, C_at, N, lanes, own, first):
    for i in range(LANES):
        lanes[INFLOW + i] = lanes[DELTA + i] * lanes[U + i]
        lanes[SUM + i] = lanes[SKIP + i] * lanes[U + i]
    for n in range(N):
        b, c, mine = B[B_at + n], C[C_at + n], first + n * OWN
        for i in range(LANES):
            state = exp2(lanes[DELTA + i] * own[mine + DECAY + i]) * own[mine + STATE + i] + b * lanes[INFLOW + i]
            own[mine + STATE + i] = state
            lanes[SUM + i] += c * state
