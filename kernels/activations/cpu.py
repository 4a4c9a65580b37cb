"""Activations on the CPU: one pass over the numbers where NumPy makes two to six, each of which writes an array.

The loops are for float32; NumPy does the rest, with the same limits at infinity.
"""

import numpy as np

from ..jit import jit
from ..vector_math import exp

f = np.float32
FAR = 1e3  # where s(x) is 0 or 1 in any precision: numbers beyond it stand at it, so that inf is not multiplied by 0


def relu_gradient(g, y):
    return g * (y > 0) if g.dtype != y.dtype else _run(_relu_gradient, lambda: g * (y > 0), g, y)


def sigmoid(x):
    return _run(_sigmoid_loop, lambda: _sigmoid(x), x)


def silu(x):
    return _run(_silu, lambda: np.where(x > 0, x, np.maximum(x, -FAR)) * _sigmoid(x), x)


def silu_gradient(g, x):
    return _run(_silu_gradient, lambda: g * (_sigmoid(x) * (1 + np.clip(x, -FAR, FAR) * _sigmoid(-x))), g, x)


def _sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def _run(loop, otherwise, *arrays):
    shape = np.shape(arrays[0])
    if any(a.dtype != f or a.shape != shape for a in arrays) or not shape:
        return otherwise()
    y = np.empty(shape, f)
    loop(*(np.require(a, f, "CW").reshape(-1) for a in arrays), y.reshape(-1))
    return y


@jit
def _relu_gradient(g, y, result):
    for i in range(result.size):
        result[i] = g[i] if y[i] > f(0) else f(0)


@jit
def _sigmoid_loop(x, result):
    for i in range(result.size):
        e = exp(-abs(x[i]))
        result[i] = (f(1) if x[i] > f(0) else e) / (f(1) + e)


@jit
def _silu(x, result):
    for i in range(result.size):
        above = max(x[i], f(-88))  # below, the result is 0 to the last place, and NaN comes back through e
        result[i] = above / (f(1) + exp(-x[i]))


@jit
def _silu_gradient(g, x, result):
    for i in range(result.size):
        e = exp(-abs(x[i]))
        large, small = f(1) / (f(1) + e), e / (f(1) + e)  # s(|x|) and s(-|x|)
        s, rest = (large, small) if x[i] > f(0) else (small, large)
        near = min(max(x[i], f(-FAR)), f(FAR))
        result[i] = g[i] * (s * (f(1) + near * rest))
