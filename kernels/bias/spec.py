r"""A bias and an activation f: the definition, slow on purpose. rows (N + 1, C) holds N rows u and below them the bias b;

    forward     y_nc = f(u_nc + b_c)                                            (N, C)
    backward    d u_nc = g_nc f'(u_nc + b_c),   d b_c = \sum_n d u_nc           (N + 1, C), one below the other as u and b

f is relu, leaky_relu (of slope 0.2), tanh, sigmoid, softplus, silu or gelu, as in kernels/activations. The derivatives of the
first four are functions of y: of these, `backward` is given y, and of the others rows. g has the shape of y.
"""

import math

import numpy as np

SLOPE = 0.2
BY_RESULT = "relu", "leaky_relu", "tanh", "sigmoid"
BY_INPUT = "softplus", "silu", "gelu"


def forward(rows, activation):
    """f(u + b)."""
    y = np.empty((len(rows) - 1, rows.shape[1]), rows.dtype)
    for n, c in np.ndindex(y.shape):
        y[n, c] = _VALUES[activation](float(rows[n, c] + rows[-1, c]))
    return y


def backward(g, kept, activation):
    """The cotangent of rows for a cotangent g of y, where kept is y or rows."""
    d = np.zeros((len(g) + 1, g.shape[1]), kept.dtype)
    for n, c in np.ndindex(g.shape):
        x = kept[n, c] if activation in BY_RESULT else kept[n, c] + kept[-1, c]
        d[n, c] = _GRADIENTS[activation](float(g[n, c]), float(x))
        d[-1, c] += d[n, c]
    return d


def _sigmoid(x):
    e = math.exp(-abs(x))  # in [0, 1]: it cannot overflow
    return (1.0 if x >= 0 else e) / (1 + e)


def _normal(x):
    return 0.5 * math.erfc(-x / math.sqrt(2))  # Phi


_VALUES = {
    "relu": lambda x: x if not x <= 0 else 0.0,  # NaN stays NaN
    "leaky_relu": lambda x: x if x > 0 else SLOPE * x,
    "tanh": math.tanh,
    "sigmoid": _sigmoid,
    "softplus": lambda x: max(x, 0.0) + math.log1p(math.exp(-abs(x))),
    "silu": lambda x: 0.0 if x == -math.inf else x * _sigmoid(x),
    "gelu": lambda x: 0.0 if x == -math.inf else x * _normal(x),
}
_GRADIENTS = {  # g f', by the result or by the input
    "relu": lambda g, y: g if y > 0 else 0.0,
    "leaky_relu": lambda g, y: g if y > 0 else SLOPE * g,
    "tanh": lambda g, y: g * (1 - y * y),
    "sigmoid": lambda g, y: g * (y * (1 - y)),
    "softplus": lambda g, x: g * _sigmoid(x),
    "silu": lambda g, x: g * _sigmoid(x) * (1 + (0.0 if math.isinf(x) else x * _sigmoid(-x))),
    "gelu": lambda g, x: g * (_normal(x) + (0.0 if math.isinf(x) else x * math.exp(-x * x / 2) / math.sqrt(2 * math.pi))),
}
