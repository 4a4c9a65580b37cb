"""Softmax on the CPU: a row is read once from memory, and lies in the nearest cache for all that is done with it.

NumPy makes five passes over all rows, and writes an array in three of them. The loops are for float32; NumPy does the rest.

In rows of 256 standard normal numbers softmax errs by 1.3 units in the last place in root mean square and by 8 at most, and
log_softmax by 0.5 and 2. As in NumPy, most of that comes from rounding x - max x, and grows with how far the numbers spread.
"""

import math

import numpy as np

from ..jit import jit, part, plain, sum_in_any_order
from ..threads import over_rows
from ..vector_math import exp_of_negative, largest, total

f = np.float32


def softmax(x):
    if not _plain(x):
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        return e / e.sum(axis=-1, keepdims=True)
    return _run(_softmax, x)


def softmax_gradient(g, y):
    if not _plain(g, y):
        return y * (g - (g * y).sum(axis=-1, keepdims=True))
    return _run(_softmax_gradient, g, y)


def log_softmax(x):
    if not _plain(x):
        less = x - x.max(axis=-1, keepdims=True)
        return less - np.log(np.exp(less).sum(axis=-1, keepdims=True))
    return _run(_log_softmax, x)


def log_softmax_gradient(g, y):
    if not _plain(g, y):
        return g - np.exp(y) * g.sum(axis=-1, keepdims=True)
    return _run(_log_softmax_gradient, g, y)


def _plain(*arrays):
    return all([a.dtype == f for a in arrays]) and arrays[0].size


def _run(loop, *arrays):
    y = np.empty(arrays[0].shape, f)
    over_rows(loop, *(plain(a).reshape(-1, a.shape[-1]) for a in (*arrays, y)))
    return y


@jit
def _softmax(x, y):
    for n in range(x.shape[0]):
        p = y[n]
        exp_less_largest(x[n], p)
        scale = f(1) / total(p)
        for i in range(p.size):
            p[i] *= scale


@jit
def _softmax_gradient(g, y, dx):
    for n in range(y.shape[0]):
        mean = _dot(g[n], y[n])
        for i in range(y.shape[1]):
            dx[n, i] = y[n, i] * (g[n, i] - mean)


@jit
def _log_softmax(x, y):
    for n in range(x.shape[0]):
        l = y[n]
        most = exp_less_largest(x[n], l)
        rest = f(math.log(total(l)))
        for i in range(l.size):
            l[i] = (x[n, i] - most) - rest


@jit
def _log_softmax_gradient(g, y, dx):
    for n in range(y.shape[0]):
        sum = total(g[n])
        for i in range(y.shape[1]):
            dx[n, i] = g[n, i] - exp_of_negative(y[n, i]) * sum


@part
def exp_less_largest(x, e):
    """e_i = e^(x_i - max x) for one row; returns max x."""
    most = largest(x)
    for i in range(x.size):
        e[i] = exp_of_negative(x[i] - most)
    return most


@sum_in_any_order
def _dot(a, b):
    sum = f(0)
    for i in range(a.size):
        sum += a[i] * b[i]
    return sum
