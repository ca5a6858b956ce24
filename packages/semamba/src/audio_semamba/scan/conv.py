"""The short depthwise convolution before the scan and its SiLU, compiled; tensors are given as in `forward`.

Output t is made of the inputs t - before to t - before + K - 1, as far as these exist.
"""

from .compiled import LANES, ONE, add, add_product, compiled, copy, floats, inner, padded, sigmoid, strided

# What is held of a step for each lane, as offsets; and then its K inputs.
SUM, GRAD, GRAD_INPUT, INPUT = (slot * LANES for slot in range(4))


def scratch(width: int, K: int) -> int:
    """How many zeros the kernels need to work with."""
    blocks = -(-width // LANES)
    return INPUT + K * LANES + 2 * (1 + K) * blocks * LANES


@compiled
def forward(size, x, weight, bias, y, before, outputs, scratch, part, start, stop):
    """Rows `start` to `stop` of x, of which `size` is (rows, L, D, K), to y (rows, outputs, D)."""
    _, length, width, K = size
    x, x_row, x_step = strided(x)
    weight, bias, y = floats(weight), floats(bias), floats(y)
    lanes, taps = floats(scratch), floats(scratch + 4 * (INPUT + K * LANES))
    load_taps(weight, bias, width, K, taps)
    for r in range(start, stop):
        for t in range(outputs):
            for base in range(0, width, LANES):
                inside = min(LANES, width - base)
                convolve(x, x_row * r + base, x_step, t - before, length, inside, K, taps, padded(width), base, lanes)
                silu(lanes)
                copy(lanes, SUM, y, (r * outputs + t) * width + base, inside)


@compiled
def backward(size, x, weight, bias, grad, dx, dweight, dbias, before, scratch, part, start, stop):
    """Rows `start` to `stop`. dx begins at zero; dweight (parts, D, K) and dbias (parts, D) have one of each thread."""
    _, length, width, K = size
    x, x_row, x_step = strided(x)
    grad, grad_row, grad_step = strided(grad)
    weight, bias, dx = floats(weight), floats(bias), floats(dx)
    dweight, dbias = floats(dweight + 4 * part * width * K), floats(dbias + 4 * part * width)
    row = padded(width)
    lanes, taps = floats(scratch), floats(scratch + 4 * (INPUT + K * LANES))
    dtaps = floats(scratch + 4 * (INPUT + K * LANES + (1 + K) * row))
    load_taps(weight, bias, width, K, taps)
    for r in range(start, stop):
        for t in range(length):
            first = t - before
            for base in range(0, width, LANES):
                inside = min(LANES, width - base)
                convolve(x, x_row * r + base, x_step, first, length, inside, K, taps, row, base, lanes)
                copy(grad, grad_row * r + grad_step * t + base, lanes, GRAD, inside)
                through_silu(lanes)
                add(dtaps, K * row + base, lanes, GRAD)
                for k in range(max(0, -first), min(K, length - first)):
                    add_product(dtaps, k * row + base, lanes, GRAD, lanes, INPUT + k * LANES)
                    target = (r * length + first + k) * width + base
                    copy(dx, target, lanes, GRAD_INPUT, inside)
                    add_product(lanes, GRAD_INPUT, lanes, GRAD, taps, k * row + base)
                    copy(lanes, GRAD_INPUT, dx, target, inside)
    for i in range(width):
        for k in range(K):
            dweight[i * K + k] = dtaps[k * row + i]
        dbias[i] = dtaps[K * row + i]


@inner
def load_taps(weight, bias, width, K, taps):
    """The weights (D, K) as K rows for all channels, and the bias as one more."""
    row = padded(width)
    for i in range(width):
        for k in range(K):
            taps[k * row + i] = weight[i * K + k]
        taps[K * row + i] = bias[i]


@inner
def convolve(x, at, x_step, first, length, inside, K, taps, row, base, lanes):
    if inside < LANES:  # what the block before left in the other lanes
        for i in range(INPUT + K * LANES):
            lanes[i] = 0
    copy(taps, K * row + base, lanes, SUM, LANES)
    for k in range(max(0, -first), min(K, length - first)):
        copy(x, at + x_step * (first + k), lanes, INPUT + k * LANES, inside)
        add_product(lanes, SUM, lanes, INPUT + k * LANES, taps, k * row + base)


@inner
def silu(lanes):
    for i in range(LANES):
        lanes[SUM + i] *= sigmoid(lanes[SUM + i])


@inner
def through_silu(lanes):
    for i in range(LANES):
        half = sigmoid(lanes[SUM + i])
        lanes[GRAD + i] *= half * (ONE + lanes[SUM + i] * (ONE - half))
