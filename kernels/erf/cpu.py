"""The error function on the CPU: NumPy has none, so a compiled loop calls the one of the C library."""

import math

import numpy as np

from ..jit import jit


def forward(x):
    y = np.empty(x.shape, x.dtype)
    _loop(np.ascontiguousarray(x).reshape(-1), y.reshape(-1))  # the loop is compiled for contiguous arrays only
    return y


@jit
def _loop(x, y):
    for i in range(x.size):
        y[i] = math.erf(x[i])
