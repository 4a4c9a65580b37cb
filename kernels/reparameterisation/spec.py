r"""A sample of a Gaussian q = N(m, e^l) as a function of its parameters, and its divergence from N(0, 1): the definition.

    forward     z = m + sigma eps,  sigma = e^(l / 2)                       Kingma & Welling 2014, section 2.4
                KL(q || N(0, 1)) = 1/2 (m^2 + e^l - 1 - l)                  appendix B
    backward    dm = g + h m,  dl = 1/2 (g sigma eps + h (e^l - 1))         for cotangents g of z and h of the divergence

Mean m, log-variance l and noise eps are of one shape and dtype, the results stacked: (2, *shape). e^l - 1 is computed as one
function: near l = 0, where q is N(0, 1), the difference would cancel. At l = inf the divergence is infinite, its limit.
"""

import math

import numpy as np


def forward(mean, log_var, eps):
    """(z, KL), elementwise."""
    y = np.empty((2, *mean.shape), mean.dtype)
    for i in np.ndindex(mean.shape):
        m, l = float(mean[i]), float(log_var[i])
        y[0, *i] = m + math.exp(l / 2) * eps[i]
        y[1, *i] = (math.expm1(l) - min(l, 1e3) + m * m) / 2  # e^1000 is more than any of these numbers
    return y


def backward(g, mean, log_var, eps):
    """(dm, dl), the cotangents of mean and log_var for cotangents g of (z, KL)."""
    d = np.empty((2, *mean.shape), mean.dtype)
    for i in np.ndindex(mean.shape):
        m, l = float(mean[i]), float(log_var[i])
        d[0, *i] = g[0, *i] + g[1, *i] * m
        d[1, *i] = (g[0, *i] * math.exp(l / 2) * eps[i] + g[1, *i] * math.expm1(l)) / 2
    return d
