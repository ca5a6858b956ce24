"""The forward pass of the selective scan on a processor, compiled: the gate and the skip are part of the loop.

A tensor is (address, row, step): element (r, t, i) lies at address + 4 (r row + t step + i). An address of 0: absent.
"""

from .compiled import (
    LANES,
    LOG2E,
    TABLE,
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
)

EVERY = 16  # steps from one kept state to the next
# What a step holds for each lane, as offsets; and what is held for each state n.
DELTA, INFLOW, SUM, U, GATE, SKIP = (slot * LANES for slot in range(6))
STEP = 6 * LANES
EXPONENT, STATE = (slot * LANES for slot in range(2))
OWN = 2 * LANES


def scratch(width: int, N: int) -> int:
    """How many zeros the kernel needs to work with."""
    return TABLE + STEP + -(-width // LANES) * N * OWN


@compiled
def scan(size, u, delta, A, B, C, D, z, y, first_state, last_state, kept, reverse, scratch, part, start, stop):
    """Rows `start` to `stop` of the scan, of which `size` is (rows, L, D, N).

    States are (rows, N, D). `kept` (rows, blocks, L / EVERY, N, LANES) takes those that the backward pass starts from.
    """
    _, length, width, N = size
    u, u_row, u_step = strided(u)
    delta, delta_row, delta_step = strided(delta)
    B, B_row, B_step = strided(B)
    C, C_row, C_step = strided(C)
    gated, has_state, keeps = z[0] != 0, first_state != 0, kept != 0
    z, z_row, z_step = strided(z)
    A, D, y = floats(A), floats(D), floats(y)
    first_state, last_state, kept = floats(first_state), floats(last_state), floats(kept)
    blocks, segments = (width + LANES - 1) // LANES, (length + EVERY - 1) // EVERY
    # No more arrays than these in the inner loop: LLVM checks that they do not overlap, but only if they are few.
    table, lanes, own = floats(scratch), floats(scratch + 4 * TABLE), floats(scratch + 4 * (TABLE + STEP))
    fill(table)
    for d in range(width):
        for n in range(N):
            own[(d // LANES * N + n) * OWN + EXPONENT + d % LANES] = A[d * N + n] * LOG2E
    for r in range(start, stop):
        load_states(first_state, has_state, r, width, N, own)
        for segment in range(segments):  # all channels of a few steps lie close together
            for block in range(blocks):
                base, inside, first = block * LANES, min(LANES, width - block * LANES), block * N * OWN
                if keeps:
                    for n in range(N):
                        at = (((r * blocks + block) * segments + segment) * N + n) * LANES
                        copy(own, first + n * OWN + STATE, kept, at, LANES)
                if inside < LANES:  # what the block before left in the other lanes would come into their states
                    for i in range(STEP):
                        lanes[i] = 0
                copy(D, base, lanes, SKIP, inside)
                for step in range(segment * EVERY, min((segment + 1) * EVERY, length)):
                    t = length - 1 - step if reverse else step
                    later = t - EVERY if reverse else t + EVERY
                    fetch(delta, delta_row * r + delta_step * later + base)
                    fetch(u, u_row * r + u_step * later + base)
                    copy(delta, delta_row * r + delta_step * t + base, lanes, DELTA, inside)
                    copy(u, u_row * r + u_step * t + base, lanes, U, inside)
                    take_step(B, B_row * r + B_step * t, C, C_row * r + C_step * t, N, table, lanes, own, first)
                    if gated:
                        copy(z, z_row * r + z_step * t + base, lanes, GATE, inside)
                        fetch(z, z_row * r + z_step * later + base)
                        gate(lanes)
                    copy(lanes, SUM, y, (r * length + t) * width + base, inside)
        if has_state:
            store_states(own, r, width, N, last_state)


@inner
def load_states(first_state, has_state, r, width, N, own):
    """Row r of the states (rows, N, D), or zeros."""
    for block in range((width + LANES - 1) // LANES):
        base, inside = block * LANES, min(LANES, width - block * LANES)
        for n in range(N):
            state = (block * N + n) * OWN + STATE
            for i in range(LANES):
                own[state + i] = 0
            if has_state:
                copy(first_state, (r * N + n) * width + base, own, state, inside)


@inner
def store_states(own, r, width, N, last_state):
    for block in range((width + LANES - 1) // LANES):
        base, inside = block * LANES, min(LANES, width - block * LANES)
        for n in range(N):
            copy(own, (block * N + n) * OWN + STATE, last_state, (r * N + n) * width + base, inside)


@inner
def take_step(B, B_at, C, C_at, N, table, lanes, own, first):
    multiply(lanes, INFLOW, lanes, DELTA, lanes, U)
    multiply(lanes, SUM, lanes, SKIP, lanes, U)
    for n in range(N):
        b, c, mine = B[B_at + n], C[C_at + n], first + n * OWN
        for i in range(LANES):
            decay = exp2_of_lane(lanes[DELTA + i] * own[mine + EXPONENT + i], table, i)
            state = decay * own[mine + STATE + i] + b * lanes[INFLOW + i]
            own[mine + STATE + i] = state
            lanes[SUM + i] += c * state


@inner
def gate(lanes):
    for i in range(LANES):
        lanes[SUM + i] *= lanes[GATE + i] * sigmoid(lanes[GATE + i])
