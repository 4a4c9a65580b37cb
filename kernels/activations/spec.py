r"""Activations, elementwise: arrays of one shape and one floating-point type -> an array like them. With s(x) = 1 / (1 + e^-x),

    relu_gradient    g for y > 0, otherwise 0                    y = max(x, 0)
    sigmoid          s(x)
    silu             x s(x)
    silu_gradient    g s(x) (1 + x (1 - s(x)))                   the derivative of silu, times g

At -inf, silu and its derivative are 0, and at inf inf and 1: their limits. NaN stays NaN.
"""

import math

import numpy as np


def relu_gradient(g, y):
    """g where y > 0, otherwise 0."""
    return _elementwise(lambda g, y: g if y > 0 else 0.0, g, y)


def sigmoid(x):
    """1 / (1 + e^-x)."""
    return _elementwise(_sigmoid, x)


def silu(x):
    """x / (1 + e^-x)."""
    return _elementwise(lambda x: 0.0 if x == -math.inf else x * _sigmoid(x), x)


def silu_gradient(g, x):
    """g s (1 + x (1 - s)), s = 1 / (1 + e^-x)."""
    return _elementwise(lambda g, x: g * _derivative(x), g, x)


def _derivative(x):
    return _sigmoid(x) if math.isinf(x) else _sigmoid(x) * (1 + x * _sigmoid(-x))  # 1 - s(x) = s(-x) loses no digits


def _sigmoid(x):
    e = math.exp(-abs(x))  # in [0, 1]: it cannot overflow
    return (1.0 if x >= 0 else e) / (1 + e)


def _elementwise(f, *arrays):
    y = np.empty(arrays[0].shape, arrays[0].dtype)
    for i in np.ndindex(y.shape):
        y[i] = f(*(float(a[i]) for a in arrays))
    return y
