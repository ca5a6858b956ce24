"""All between the two projections of a Mamba block in one kernel, for inference with few channels.

Each step is computed from the convolution to the gate while its values are at hand. Live audio needs this: for one
frame, starting a dozen small operations takes far longer than computing them.
"""

from .compiled import LANES, LOG2E, TABLE, compiled, copy, exp2, fill, floats, inner, padded, strided
from .conv import INPUT, convolve, load_taps, silu
from .conv import SUM as CONVOLVED
from .forward import DELTA, EXPONENT, GATE, OWN, SKIP, STEP, SUM, U, gate, load_states, store_states, take_step
from .steps import softplus

AT_ONCE = 8  # inputs of a product


def scratch(width: int, N: int, K: int, rank: int) -> int:
    """How many zeros the kernel needs to work with."""
    W, J = (-(-count // LANES) * LANES for count in (width, rank + 2 * N))
    convolution, projections = INPUT + K * LANES + W * (2 + K), J * (1 + W) + W * (1 + rank + AT_ONCE)
    return TABLE + STEP + W * N * OWN // LANES + convolution + projections


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
    dt_bias, D, y = floats(dt_bias), floats(D), floats(y)
    has_state, first_state, last_state = states[0] != 0, floats(states[0]), floats(states[1])
    W, J = padded(width), padded(rank + 2 * N)
    table, lanes, own = floats(scratch), floats(scratch + 4 * TABLE), floats(scratch + 4 * (TABLE + STEP))
    scratch += 4 * (TABLE + STEP + W * N * OWN // LANES)
    window, taps = floats(scratch), floats(scratch + 4 * (INPUT + K * LANES))
    scratch += 4 * (INPUT + K * LANES + W * (1 + K))
    sums, selected, select = floats(scratch), floats(scratch + 4 * W), floats(scratch + 4 * (W + J))
    scratch += 4 * (W + J + W * J)
    steps, widen = floats(scratch), floats(scratch + 4 * W)
    fill(table)
    load_taps(floats(weight), floats(bias), width, K, taps)
    transpose(floats(x_proj), rank + 2 * N, width, J, select)
    transpose(floats(dt_proj), width, rank, W, widen)
    load_exponents(floats(A_log), width, N, own)
    for r in range(start, stop):
        load_states(first_state, has_state, r, width, N, own)
        for step in range(length):
            t = length - 1 - step if reverse else step
            for base in range(0, width, LANES):
                inside = min(LANES, width - base)
                convolve(x, x_row * r + base, x_step, t - before, inputs, inside, K, taps, W, base, window)
                silu(window)
                copy(window, CONVOLVED, sums, base, LANES)
                copy(dt_bias, base, steps, base, inside)
            for j in range(J):
                selected[j] = 0
            product(sums, W, select, J, selected)
            product(selected, rank, widen, W, steps)
            for base in range(0, width, LANES):
                inside = min(LANES, width - base)
                for i in range(LANES):
                    steps[base + i] = softplus(steps[base + i])
                if inside < LANES:  # what the block before left in the other lanes would come into their states
                    for i in range(STEP):
                        lanes[i] = 0
                copy(D, base, lanes, SKIP, inside)
                copy(steps, base, lanes, DELTA, inside)
                copy(sums, base, lanes, U, inside)
                take_step(selected, rank, selected, rank + N, N, table, lanes, own, base // LANES * N * OWN)
                copy(z, z_row * r + z_step * t + base, lanes, GATE, inside)
                gate(lanes)
                copy(lanes, SUM, y, (r * length + t) * width + base, inside)
        if has_state:
            store_states(own, r, width, N, last_state)


@inner
def transpose(matrix, rows, columns, padded_rows, transposed):
    for i in range(rows):
        for k in range(columns):
            transposed[k * padded_rows + i] = matrix[i * columns + k]


@inner
def product(x, inputs, matrix, outputs, y):
    """Adds x (inputs,) times the matrix (inputs, outputs) to y (outputs,), both as if zeros followed up to AT_ONCE and
    LANES."""
    for i in range(0, inputs, AT_ONCE):
        a, b, c, d, e, f, g, h = x[i], x[i + 1], x[i + 2], x[i + 3], x[i + 4], x[i + 5], x[i + 6], x[i + 7]
        for base in range(0, outputs, LANES):
            at = i * outputs + base
            for j in range(LANES):
                low = (a * matrix[at + j] + b * matrix[at + outputs + j]) + (
                    c * matrix[at + 2 * outputs + j] + d * matrix[at + 3 * outputs + j]
                )
                high = (e * matrix[at + 4 * outputs + j] + f * matrix[at + 5 * outputs + j]) + (
                    g * matrix[at + 6 * outputs + j] + h * matrix[at + 7 * outputs + j]
                )
                y[base + j] += low + high


@inner
def load_exponents(A_log, width, N, own):
    for d in range(width):
        for n in range(N):
            own[(d // LANES * N + n) * OWN + EXPONENT + d % LANES] = -exp2(A_log[d * N + n] * LOG2E) * LOG2E
