"""Activations on the CPU: one pass over the numbers where NumPy makes two to six, each of which writes an array.

The loops are for float32; NumPy does the rest, with the same limits at infinity. What they err by, in units in the last place,
found by trying all numbers,

    sigmoid 2.9    softplus 3.7    silu 3.7    gelu 7

where the result is above 1e-36; below, e^x has lost digits, and they err by 3e-43 at most.
"""

import math
from functools import partial

import numpy as np

from ..jit import jit, plain
from ..threads import over_rows
from ..vector_math import exp_of_negative, log1p, normal, sigmoid_pair

f = np.float32
FAR = 1e3  # where s(x) is 0 or 1 in any precision: numbers beyond it stand at it, so that inf is not multiplied by 0


def relu_gradient(g, y):
    return _run(_relu_gradient, lambda: np.where(y > 0, g, 0), g, y)


def leaky_relu(x, slope):
    return _run(_leaky_relu, lambda: np.where(x > 0, x, slope * x), x, numbers=(slope,))


def leaky_relu_gradient(g, x, slope):
    return _run(_leaky_relu_gradient, lambda: np.where(x > 0, g, slope * g), g, x, numbers=(slope,))


def tanh_gradient(g, y):
    return _run(_tanh_gradient, lambda: g * (1 - y * y), g, y)


def sigmoid(x):
    return _run(_sigmoid_loop, lambda: _sigmoid(x), x)


def sigmoid_gradient(g, y):
    return _run(_sigmoid_gradient, lambda: g * (y * (1 - y)), g, y)


def softplus(x):
    return _run(_softplus, lambda: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))), x)


def softplus_gradient(g, x):
    return _run(_softplus_gradient, lambda: g * _sigmoid(x), g, x)


def silu(x):
    return _run(_silu, lambda: np.maximum(x, -FAR) * _sigmoid(x), x)


def silu_gradient(g, x):
    return _run(_silu_gradient, lambda: g * (_sigmoid(x) * (1 + np.clip(x, -FAR, FAR) * _sigmoid(-x))), g, x)


def gelu(x):
    return _run(_gelu, lambda: np.maximum(x, -FAR) * _normal_distribution(x), x)


def gelu_gradient(g, x):
    return _run(_gelu_gradient, lambda: g * (_normal_distribution(x) + np.clip(x, -FAR, FAR) * _normal_density(x)), g, x)


def _sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def _normal_distribution(x):
    x = plain(x)
    y = np.empty(x.shape, x.dtype)
    _half_erfc(x.reshape(-1), y.reshape(-1))
    return y


def _normal_density(x):
    near = np.clip(x, -FAR, FAR)
    return np.exp(-0.5 * near * near) * (1 / math.sqrt(2 * math.pi))


def _run(loop, otherwise, *arrays, numbers=()):
    shape = np.shape(arrays[0])
    if not shape or any([a.dtype != f or a.shape != shape for a in arrays]):
        return otherwise()
    y = np.empty(shape, f)
    flat = [plain(a).reshape(-1) for a in (*arrays, y)]
    over_rows(partial(loop, *map(f, numbers)), *flat)
    return y


@jit
def _relu_gradient(g, y, result):
    for i in range(result.size):
        result[i] = g[i] if y[i] > f(0) else f(0)


@jit
def _leaky_relu(slope, x, result):
    for i in range(result.size):
        result[i] = x[i] if x[i] > f(0) else slope * x[i]


@jit
def _leaky_relu_gradient(slope, g, x, result):
    for i in range(result.size):
        result[i] = g[i] if x[i] > f(0) else slope * g[i]


@jit
def _tanh_gradient(g, y, result):
    for i in range(result.size):
        result[i] = g[i] * (f(1) - y[i] * y[i])


@jit
def _sigmoid_loop(x, result):
    for i in range(result.size):
        result[i], _ = sigmoid_pair(x[i])


@jit
def _sigmoid_gradient(g, y, result):
    for i in range(result.size):
        result[i] = g[i] * (y[i] * (f(1) - y[i]))


@jit
def _softplus(x, result):
    for i in range(result.size):
        result[i] = max(x[i], f(0)) + log1p(exp_of_negative(-abs(x[i])))


@jit
def _softplus_gradient(g, x, result):
    for i in range(result.size):
        s, _ = sigmoid_pair(x[i])
        result[i] = g[i] * s


@jit
def _silu(x, result):
    for i in range(result.size):
        s, _ = sigmoid_pair(x[i])
        result[i] = max(x[i], f(-FAR)) * s


@jit
def _silu_gradient(g, x, result):
    for i in range(result.size):
        s, rest = sigmoid_pair(x[i])
        near = min(max(x[i], f(-FAR)), f(FAR))
        result[i] = g[i] * (s * (f(1) + near * rest))


@jit
def _gelu(x, result):
    for i in range(result.size):
        distribution, _ = normal(x[i])
        result[i] = max(x[i], f(-FAR)) * distribution


@jit
def _gelu_gradient(g, x, result):
    for i in range(result.size):
        distribution, density = normal(x[i])
        near = min(max(x[i], f(-FAR)), f(FAR))
        result[i] = g[i] * (distribution + near * density)


@jit
def _half_erfc(x, result):
    for i in range(result.size):
        result[i] = 0.5 * math.erfc(-x[i] / math.sqrt(2.0))
