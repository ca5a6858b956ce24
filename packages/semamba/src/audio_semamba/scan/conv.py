"""The short depthwise convolution before the scan and its SiLU, compiled; tensors are given as in `forward`.

Output t is made of the inputs t - before to t - before + K - 1, as far as these exist.
"""

from .compiled import ONE, compiled, floats, inner, sigmoid, strided


def scratch(width: int, K: int) -> int:
    """How many floats the kernels need to work with."""
    return width * (2 + 2 * K)


@compiled
def forward(size, x, weight, bias, y, before, outputs, scratch, part, start, stop):
    """Rows `start` to `stop` of x, of which `size` is (rows, L, D, K), to y (rows, outputs, D)."""
    _, length, width, K = size
    x, x_row, x_step = strided(x)
    weight, bias, y = floats(weight), floats(bias), floats(y)
    sums, taps = floats(scratch), floats(scratch + 4 * width)
    transpose(weight, width, K, taps)
    for r in range(start, stop):
        for t in range(outputs):
            first = t - before
            convolve(x, x_row * r, x_step, first, length, width, K, taps, bias, sums)
            out = (r * outputs + t) * width
            for i in range(width):
                y[out + i] = sums[i] * sigmoid(sums[i])


@compiled
def backward(size, x, weight, bias, grad, dx, dweight, dbias, before, scratch, part, start, stop):
    """Rows `start` to `stop`. dx begins at zero; dweight (parts, D, K) and dbias (parts, D) have one of each thread."""
    _, length, width, K = size
    x, x_row, x_step = strided(x)
    grad, grad_row, grad_step = strided(grad)
    weight, bias, dx = floats(weight), floats(bias), floats(dx)
    dweight, dbias = floats(dweight + 4 * part * width * K), floats(dbias + 4 * part * width)
    sums, taps = floats(scratch), floats(scratch + 4 * width)
    dsums, dtaps = floats(scratch + 4 * (1 + K) * width), floats(scratch + 4 * (2 + K) * width)
    transpose(weight, width, K, taps)
    for r in range(start, stop):
        for t in range(length):
            first = t - before
            convolve(x, x_row * r, x_step, first, length, width, K, taps, bias, sums)
            at = grad_row * r + grad_step * t
            for i in range(width):
                half = sigmoid(sums[i])
                dsums[i] = grad[at + i] * half * (ONE + sums[i] * (ONE - half))
            for i in range(width):
                dbias[i] += dsums[i]
            for k in range(max(0, -first), min(K, length - first)):
                tap, source, target = k * width, x_row * r + x_step * (first + k), (r * length + first + k) * width
                for i in range(width):
                    dtaps[tap + i] += dsums[i] * x[source + i]
                for i in range(width):
                    dx[target + i] += dsums[i] * taps[tap + i]
    for k in range(K):
        for i in range(width):
            dweight[i * K + k] = dtaps[k * width + i]


@inner
def transpose(matrix, rows, columns, transposed):
    for i in range(rows):
        for k in range(columns):
            transposed[k * rows + i] = matrix[i * columns + k]


@inner
def convolve(x, at, x_step, first, length, width, K, taps, bias, sums):
    for i in range(width):
        sums[i] = bias[i]
    for k in range(max(0, -first), min(K, length - first)):
        tap, source = k * width, at + x_step * (first + k)
        for i in range(width):
            sums[i] += taps[tap + i] * x[source + i]
