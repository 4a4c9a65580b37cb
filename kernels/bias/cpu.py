"""Bias and activation on the CPU: a row is read once, and what becomes of it is written once.

NumPy would write u + b, and read it again for f; and read all of the gradient again for the sum over its rows. The loops are
for float32, and do to each number what those of kernels/activations do; NumPy does the rest, and tanh. The sum is taken in
blocks of rows, whatever the number of threads: so this number changes no bit of it.
"""

import numpy as np

from ..activations import cpu as activations
from ..jit import jit, plain
from ..threads import MEMORY, in_parts
from ..vector_math import exp, log1p, normal, sigmoid_pair
from .spec import BY_INPUT, SLOPE

f = np.float32
FAR = f(activations.FAR)
GENTLE = f(SLOPE)
BLOCK = 1024  # rows that are summed one after another


def forward(rows, activation):
    n, c = len(rows) - 1, rows.shape[1]
    if rows.dtype != f or activation == "tanh" or not n * c:
        u = rows[:-1] + rows[-1]
        return np.tanh(u, out=u) if activation == "tanh" else _unfused(activation, u)
    rows, y, loop = plain(rows), np.empty((n, c), f), _FORWARD[activation]
    in_parts(lambda first, last: loop(rows[first:last], rows[-1], y[first:last]), n, 2 * MEMORY * y.size)
    return y


def backward(g, kept, activation):
    n, c = g.shape
    d = np.empty((n + 1, c), kept.dtype)
    d[-1] = 0
    if kept.dtype != f or g.dtype != f or not n * c:
        x = kept[:-1] + kept[-1] if activation in BY_INPUT else kept
        d[:-1] = _unfused(f"{activation}_gradient", g, x)
        d[:-1].sum(axis=0, out=d[-1])
        return d
    g, kept, loop, blocks = plain(g), plain(kept), _BACKWARD[activation], -(-n // BLOCK)
    if blocks == 1:
        loop(g, kept, kept[-1], d, d[-1])
        return d
    sums = np.zeros((blocks, c), f)

    def some(first, last):
        for block in range(first, last):
            part = slice(block * BLOCK, min((block + 1) * BLOCK, n))
            loop(g[part], kept[part], kept[-1], d[part], sums[block])

    in_parts(some, blocks, 3 * MEMORY * g.size)
    sums.sum(axis=0, out=d[-1])
    return d


def _unfused(name, *arrays):
    if name == "relu":
        return np.maximum(*arrays, 0)
    return getattr(activations, name)(*arrays, *((SLOPE,) if name.startswith("leaky_relu") else ()))


# Forward: y = f(u + b)


@jit
def _relu(u, b, y):
    for n in range(y.shape[0]):
        for c in range(y.shape[1]):
            y[n, c] = max(u[n, c] + b[c], f(0))


@jit
def _leaky_relu(u, b, y):
    for n in range(y.shape[0]):
        for c in range(y.shape[1]):
            x = u[n, c] + b[c]
            y[n, c] = x if x > f(0) else GENTLE * x


@jit
def _sigmoid(u, b, y):
    for n in range(y.shape[0]):
        for c in range(y.shape[1]):
            y[n, c], _ = sigmoid_pair(u[n, c] + b[c])


@jit
def _softplus(u, b, y):
    for n in range(y.shape[0]):
        for c in range(y.shape[1]):
            x = u[n, c] + b[c]
            y[n, c] = max(x, f(0)) + log1p(exp(-abs(x)))


@jit
def _silu(u, b, y):
    for n in range(y.shape[0]):
        for c in range(y.shape[1]):
            x = u[n, c] + b[c]
            s, _ = sigmoid_pair(x)
            y[n, c] = max(x, -FAR) * s


@jit
def _gelu(u, b, y):
    for n in range(y.shape[0]):
        for c in range(y.shape[1]):
            x = u[n, c] + b[c]
            distribution, _ = normal(x)
            y[n, c] = max(x, -FAR) * distribution


# Backward, by the result y: d = g f'(y), and its sum over rows


@jit
def _relu_backward(g, y, _, d, total):
    for n in range(g.shape[0]):
        for c in range(g.shape[1]):
            here = g[n, c] if y[n, c] > f(0) else f(0)
            d[n, c] = here
            total[c] += here


@jit
def _leaky_relu_backward(g, y, _, d, total):
    for n in range(g.shape[0]):
        for c in range(g.shape[1]):
            here = g[n, c] if y[n, c] > f(0) else GENTLE * g[n, c]
            d[n, c] = here
            total[c] += here


@jit
def _tanh_backward(g, y, _, d, total):
    for n in range(g.shape[0]):
        for c in range(g.shape[1]):
            here = g[n, c] * (f(1) - y[n, c] * y[n, c])
            d[n, c] = here
            total[c] += here


@jit
def _sigmoid_backward(g, y, _, d, total):
    for n in range(g.shape[0]):
        for c in range(g.shape[1]):
            here = g[n, c] * (y[n, c] * (f(1) - y[n, c]))
            d[n, c] = here
            total[c] += here


# Backward, by u and b: d = g f'(u + b), and its sum over rows


@jit
def _softplus_backward(g, u, b, d, total):
    for n in range(g.shape[0]):
        for c in range(g.shape[1]):
            s, _ = sigmoid_pair(u[n, c] + b[c])
            here = g[n, c] * s
            d[n, c] = here
            total[c] += here


@jit
def _silu_backward(g, u, b, d, total):
    for n in range(g.shape[0]):
        for c in range(g.shape[1]):
            x = u[n, c] + b[c]
            s, rest = sigmoid_pair(x)
            here = g[n, c] * (s * (f(1) + min(max(x, -FAR), FAR) * rest))
            d[n, c] = here
            total[c] += here


@jit
def _gelu_backward(g, u, b, d, total):
    for n in range(g.shape[0]):
        for c in range(g.shape[1]):
            x = u[n, c] + b[c]
            distribution, density = normal(x)
            here = g[n, c] * (distribution + min(max(x, -FAR), FAR) * density)
            d[n, c] = here
            total[c] += here


_FORWARD = {
    "relu": _relu, "leaky_relu": _leaky_relu, "sigmoid": _sigmoid, "softplus": _softplus, "silu": _silu, "gelu": _gelu,
}  # fmt: skip
_BACKWARD = {
    "relu": _relu_backward, "leaky_relu": _leaky_relu_backward, "tanh": _tanh_backward, "sigmoid": _sigmoid_backward,
    "softplus": _softplus_backward, "silu": _silu_backward, "gelu": _gelu_backward,
}  # fmt: skip
