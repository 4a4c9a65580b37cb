r"""The error function: the definition, slow on purpose. Every other version is tested against it.

    erf(x) = 2 / sqrt(pi) \int_0^x e^{-t^2} dt,    Phi(x) = (1 + erf(x / sqrt 2)) / 2 is the normal distribution function

x is an array of any shape of floating-point numbers; the result has its shape and its dtype.
"""

import math

import numpy as np


def forward(x):
    """erf(x), elementwise."""
    y = np.empty(x.shape, x.dtype)
    for i in np.ndindex(x.shape):
        y[i] = math.erf(x[i])
    return y
