r"""Activations, elementwise: arrays of one shape and one floating-point type -> an array like them. With s(x) = 1 / (1 + e^-x),
and Phi and phi the distribution function and the density of N(0, 1),

    relu_gradient          g for y > 0, otherwise 0              y = max(x, 0)
    leaky_relu             x for x > 0, otherwise slope x
    leaky_relu_gradient    g for x > 0, otherwise slope g
    tanh_gradient          g (1 - y^2)                           y = tanh(x)
    sigmoid                s(x)
    sigmoid_gradient       g y (1 - y)                           y = s(x)
    softplus               log(1 + e^x)
    softplus_gradient      g s(x)
    silu                   x s(x)
    silu_gradient          g s(x) (1 + x (1 - s(x)))
    gelu                   x Phi(x)
    gelu_gradient          g (Phi(x) + x phi(x))

A gradient is the derivative of the function times g, by way of the function's value y where that says it all. (tanh itself is
missing: NumPy's is as fast as any.) At -inf, silu, gelu and their derivatives are 0, and at inf inf and 1: their limits. NaN
stays NaN.
"""

import math

import numpy as np


def relu_gradient(g, y):
    """g where y > 0, otherwise 0."""
    return _elementwise(lambda g, y: g if y > 0 else 0.0, g, y)


def leaky_relu(x, slope):
    """x where x > 0, otherwise slope x."""
    return _elementwise(lambda x: x if x > 0 else slope * x, x)


def leaky_relu_gradient(g, x, slope):
    """g where x > 0, otherwise slope g."""
    return _elementwise(lambda g, x: g if x > 0 else slope * g, g, x)


def tanh_gradient(g, y):
    """g (1 - y^2)."""
    return _elementwise(lambda g, y: g * (1 - y * y), g, y)


def sigmoid(x):
    """1 / (1 + e^-x)."""
    return _elementwise(_sigmoid, x)


def sigmoid_gradient(g, y):
    """g y (1 - y)."""
    return _elementwise(lambda g, y: g * (y * (1 - y)), g, y)


def softplus(x):
    """log(1 + e^x) = max(x, 0) + log(1 + e^-|x|)."""
    return _elementwise(lambda x: max(x, 0.0) + math.log1p(math.exp(-abs(x))), x)


def softplus_gradient(g, x):
    """g s(x)."""
    return _elementwise(lambda g, x: g * _sigmoid(x), g, x)


def silu(x):
    """x / (1 + e^-x)."""
    return _elementwise(lambda x: 0.0 if x == -math.inf else x * _sigmoid(x), x)


def silu_gradient(g, x):
    """g s (1 + x (1 - s)), s = 1 / (1 + e^-x)."""
    return _elementwise(lambda g, x: g * _silu_derivative(x), g, x)


def gelu(x):
    """x Phi(x)."""
    return _elementwise(lambda x: 0.0 if x == -math.inf else x * _normal_distribution(x), x)


def gelu_gradient(g, x):
    """g (Phi(x) + x phi(x))."""
    return _elementwise(lambda g, x: g * _gelu_derivative(x), g, x)


def _sigmoid(x):
    e = math.exp(-abs(x))  # in [0, 1]: it cannot overflow
    return (1.0 if x >= 0 else e) / (1 + e)


def _silu_derivative(x):
    return _sigmoid(x) if math.isinf(x) else _sigmoid(x) * (1 + x * _sigmoid(-x))  # 1 - s(x) = s(-x) loses no digits


def _normal_distribution(x):
    return 0.5 * math.erfc(-x / math.sqrt(2))  # Phi


def _gelu_derivative(x):
    density = math.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    return _normal_distribution(x) if math.isinf(x) else _normal_distribution(x) + x * density


def _elementwise(f, *arrays):
    y = np.empty(arrays[0].shape, arrays[0].dtype)
    for i in np.ndindex(y.shape):
        y[i] = f(*(float(a[i]) for a in arrays))
    return y
