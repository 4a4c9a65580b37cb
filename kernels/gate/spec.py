r"""A gate: the definition, slow on purpose. x (..., 2 C) holds a = x[..., :C] and b = x[..., C:]; with s(b) = 1 / (1 + e^-b),

    forward     y = tanh(a) s(b)                                                    (..., C)
    backward    g dy/da = g s(b) (1 - tanh(a)^2),  g dy/db = g tanh(a) s(b) s(-b)   (..., 2 C), side by side as a and b

g has the shape of y and the dtype of x. Source: van den Oord et al. 2016, *Conditional image generation with PixelCNN
decoders*, eq. 2.
"""

import math

import numpy as np


def forward(x):
    """tanh(a) s(b)."""
    y = np.empty((*x.shape[:-1], x.shape[-1] // 2), x.dtype)
    for *row, c in np.ndindex(y.shape):
        a, b = _pair(x, row, c)
        y[*row, c] = math.tanh(a) * _sigmoid(b)
    return y


def backward(g, x):
    """The cotangent of x for a cotangent g of y."""
    dx = np.empty(x.shape, x.dtype)
    for *row, c in np.ndindex(g.shape):
        a, b = _pair(x, row, c)
        dx[*row, c] = g[*row, c] * _sigmoid(b) * (1 - math.tanh(a) ** 2)
        dx[*row, c + g.shape[-1]] = g[*row, c] * math.tanh(a) * _sigmoid(b) * _sigmoid(-b)
    return dx


def _pair(x, row, c):
    return float(x[*row, c]), float(x[*row, c + x.shape[-1] // 2])


def _sigmoid(x):
    e = math.exp(-abs(x))  # in [0, 1]: it cannot overflow
    return (1.0 if x >= 0 else e) / (1 + e)
