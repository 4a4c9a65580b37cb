r"""Softmax along the last axis: the definition, slow on purpose. For each row of x (..., n), n at least 1,

    softmax                 p_i = e^{x_i} / \sum_j e^{x_j}
    softmax_gradient        p_i (g_i - \sum_j g_j p_j)                by the result p
    log_softmax             l_i = x_i - \log \sum_j e^{x_j}
    log_softmax_gradient    g_i - e^{l_i} \sum_j g_j                  by the result l

All arrays have one shape and one floating dtype. x_i = -inf gives p_i = 0 and l_i = -inf; where one x_i is NaN or inf, or all
are -inf, the whole row is NaN.
"""

import numpy as np


def softmax(x):
    """e^x_i / sum_j e^x_j for each row x."""
    y = np.empty(x.shape, x.dtype)
    for row in np.ndindex(x.shape[:-1]):
        e = np.exp(x[row] - x[row].max())  # no e^(x - max x) overflows
        y[row] = e / e.sum()
    return y


def softmax_gradient(g, y):
    """The cotangent of x for a cotangent g of y = softmax(x)."""
    dx = np.empty(y.shape, y.dtype)
    for row in np.ndindex(y.shape[:-1]):
        dx[row] = y[row] * (g[row] - (g[row] * y[row]).sum())
    return dx


def log_softmax(x):
    """x_i - log sum_j e^x_j for each row x."""
    y = np.empty(x.shape, x.dtype)
    for row in np.ndindex(x.shape[:-1]):
        less = x[row] - x[row].max()
        y[row] = less - np.log(np.exp(less).sum())
    return y


def log_softmax_gradient(g, y):
    """The cotangent of x for a cotangent g of y = log_softmax(x)."""
    dx = np.empty(y.shape, y.dtype)
    for row in np.ndindex(y.shape[:-1]):
        dx[row] = g[row] - np.exp(y[row]) * g[row].sum()
    return dx
