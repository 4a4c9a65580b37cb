"""Gates on the CPU: both halves are read where they lie, and both gradients written side by side, in one pass each."""

import numpy as np

from ..activations.cpu import sigmoid
from ..jit import jit
from ..threads import over_rows
from ..vector_math import sigmoid_pair, tanh


def forward(x):
    if x.dtype != np.float32:
        a, b = np.split(x, 2, axis=-1)
        return np.tanh(a) * sigmoid(b)
    y = np.empty((*x.shape[:-1], x.shape[-1] // 2), np.float32)
    if y.size:
        over_rows(_forward, _rows(x), y.reshape(-1, y.shape[-1]))
    return y


def backward(g, x):
    if x.dtype != np.float32:
        a, b = np.split(x, 2, axis=-1)
        t, s = np.tanh(a), sigmoid(b)
        return np.concatenate([g * s * (1 - t * t), g * t * s * sigmoid(-b)], axis=-1)
    dx = np.empty(x.shape, np.float32)
    if dx.size:
        over_rows(_backward, _rows(g), _rows(x), dx.reshape(-1, dx.shape[-1]))
    return dx


def _rows(x):
    return np.require(x, np.float32, "CW").reshape(-1, x.shape[-1])


@jit
def _forward(x, y):
    C = y.shape[1]
    for row in range(y.shape[0]):
        for c in range(C):
            s, _ = sigmoid_pair(x[row, C + c])
            y[row, c] = tanh(x[row, c]) * s


@jit
def _backward(g, x, dx):
    C = g.shape[1]
    for row in range(g.shape[0]):
        for c in range(C):
            t, (s, rest) = tanh(x[row, c]), sigmoid_pair(x[row, C + c])
            dx[row, c] = g[row, c] * s * (np.float32(1) - t * t)
            dx[row, C + c] = g[row, c] * t * s * rest
