"""All between the two projections of a Mamba block in one kernel, for inference with few channels.

Each step is computed from the convolution to the gate while its values are at hand. Live audio needs this: for one
frame, starting a dozen small operations takes far longer than computing them.
"""

from .compiled import LANES, LOG2E, TABLE, compiled, copy, exp2, fill, floats, inner, sigmoid, strided
from .conv import convolve, transpose
from .forward import DELTA, EXPONENT, GATE, OWN, SKIP, STEP, SUM, U, load_states, store_states, take_step
from .steps import softplus


def scratch(width: int, N: int, K: int, rank: int) -> int:
    """How many zeros the kernel needs to work with."""
    J = padded(rank + 2 * N)
    return TABLE + STEP + padded(width) // LANES * N * OWN + width * (1 + K) + J * (1 + width) + width * (1 + rank)


@compiled
def mixer(
    size, x, z, weight, bias, x_proj, dt_proj, dt_bias, A_log, D, y, states, before, reverse, scratch, part, start, stop
):
    """Rows `start` to `stop` of x, of which `size` is (rows, inputs, L, D, N, K, rank); z and y have L steps.

    Step t sees the inputs t - before to t - before + K - 1. `states` are the addresses of the first and of the last,
    (rows, N, D), or 0.
    """
    _, inputs, length, width, N, K, rank = size
    x, x_row, x_step = strided(x)
    z, z_row, z_step = strided(z)
    weight, bias, dt_bias, D, y = floats(weight), floats(bias), floats(dt_bias), floats(D), floats(y)
    has_state, first_state, last_state = states[0] != 0, floats(states[0]), floats(states[1])
    J, blocks = padded(rank + 2 * N), padded(width) // LANES
    table, lanes, own = floats(scratch), floats(scratch + 4 * TABLE), floats(scratch + 4 * (TABLE + STEP))
    scratch += 4 * (TABLE + STEP + blocks * N * OWN)
    sums, taps = floats(scratch), floats(scratch + 4 * width)
    scratch += 4 * width * (1 + K)
    selected, select = floats(scratch), floats(scratch + 4 * J)
    scratch += 4 * J * (1 + width)
    steps, widen = floats(scratch), floats(scratch + 4 * width)
    fill(table)
    transpose(weight, width, K, taps)
    transpose(floats(dt_proj), width, rank, widen)
    x_proj = floats(x_proj)
    for j in range(rank + 2 * N):
        for i in range(width):
            select[i * J + j] = x_proj[j * width + i]
    load_exponents(floats(A_log), width, N, own)
    for r in range(start, stop):
        load_states(first_state, has_state, r, width, N, own)
        for step in range(length):
            t = length - 1 - step if reverse else step
            convolve(x, x_row * r, x_step, t - before, inputs, width, K, taps, bias, sums)
            for i in range(width):
                sums[i] *= sigmoid(sums[i])
            for j in range(J):
                selected[j] = 0
            product(sums, width, select, J, selected)
            for i in range(width):
                steps[i] = dt_bias[i]
            for k in range(rank):
                for i in range(width):
                    steps[i] += selected[k] * widen[k * width + i]
            for i in range(width):
                steps[i] = softplus(steps[i])
            for block in range(blocks):
                base, inside = block * LANES, min(LANES, width - block * LANES)
                if inside < LANES:  # what the block before left in the other lanes would come into their states
                    for i in range(STEP):
                        lanes[i] = 0
                copy(D, base, lanes, SKIP, inside)
                copy(steps, base, lanes, DELTA, inside)
                copy(sums, base, lanes, U, inside)
                take_step(selected, rank, selected, rank + N, N, inside, table, lanes, own, block * N * OWN)
                copy(z, z_row * r + z_step * t + base, lanes, GATE, inside)
                for i in range(inside):
                    lanes[SUM + i] *= lanes[GATE + i] * sigmoid(lanes[GATE + i])
                copy(lanes, SUM, y, (r * length + t) * width + base, inside)
        if has_state:
            store_states(own, r, width, N, last_state)


@inner
def padded(count):
    """Rounded up to whole LANES."""
    return (count + LANES - 1) // LANES * LANES


@inner
def product(x, inputs, matrix, outputs, y):
    """Adds x (inputs,) times the matrix (inputs, outputs) to y (outputs,); four rows at once, since y stays longer."""
    for i in range(0, inputs - 3, 4):
        a, b, c, d, at = x[i], x[i + 1], x[i + 2], x[i + 3], i * outputs
        for j in range(outputs):
            y[j] += (a * matrix[at + j] + b * matrix[at + outputs + j]) + (
                c * matrix[at + 2 * outputs + j] + d * matrix[at + 3 * outputs + j]
            )
    for i in range(inputs // 4 * 4, inputs):
        factor, at = x[i], i * outputs
        for j in range(outputs):
            y[j] += factor * matrix[at + j]


@inner
def load_exponents(A_log, width, N, own):
    for d in range(width):
        for n in range(N):
            own[(d // LANES * N + n) * OWN + EXPONENT + d % LANES] = -exp2(A_log[d * N + n] * LOG2E) * LOG2E
