"""Samples and divergences on the CPU: one pass there and one back, where NumPy makes ten and eight."""

import numpy as np

from ..jit import jit
from ..threads import over_rows
from ..vector_math import exp, expm1

f = np.float32
FAR = 1e3  # where e^l is infinite, or 0, in any precision: subtracted from infinity, l stands here


def forward(mean, log_var, eps):
    if mean.dtype != f:
        divergence = 0.5 * (np.expm1(log_var) - np.minimum(log_var, FAR) + mean * mean)
        return np.stack([mean + np.exp(0.5 * log_var) * eps, divergence])
    y = np.empty((2, *mean.shape), f)
    over_rows(_forward, *map(_row, (mean, log_var, eps, y[0, ...], y[1, ...])))
    return y


def backward(g, mean, log_var, eps):
    if mean.dtype != f:
        return np.stack([g[0] + g[1] * mean, 0.5 * (g[0] * np.exp(0.5 * log_var) * eps + g[1] * np.expm1(log_var))])
    d = np.empty((2, *mean.shape), f)
    over_rows(_backward, *map(_row, (g[0, ...], g[1, ...], mean, log_var, eps, d[0, ...], d[1, ...])))
    return d


def _row(x):
    """The numbers of an array side by side; writeable, or Numba would compile anew."""
    return (x if x.flags.carray and x.dtype == f else np.array(x, f, order="C")).reshape(-1)


@jit
def _forward(mean, log_var, eps, z, divergence):
    for i in range(z.size):
        z[i] = mean[i] + exp(f(0.5) * log_var[i]) * eps[i]
    for i in range(z.size):
        divergence[i] = f(0.5) * (expm1(log_var[i]) - min(log_var[i], f(FAR)) + mean[i] * mean[i])


@jit
def _backward(g, h, mean, log_var, eps, d_mean, d_log_var):
    for i in range(g.size):
        d_mean[i] = g[i] + h[i] * mean[i]
    for i in range(g.size):
        d_log_var[i] = f(0.5) * (g[i] * (exp(f(0.5) * log_var[i]) * eps[i]) + h[i] * expm1(log_var[i]))
