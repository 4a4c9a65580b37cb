"""Normalisation on the CPU: one example at a time, which then stays in the cache for the three passes that are made over it.

    1    the mean of each group        2    the sums over deviations from it        3    the result

The sums are taken for each channel first, position by position: then neighbouring channels are neighbours in a register. They
become means of groups, and each channel's own copy of its group's, at the end. Deviations from the mean need a pass of
their own: the shorter way, mean(x^2) - m^2, loses all digits where the mean is large.
"""

import numpy as np

from ..jit import jit
from ..threads import over_rows
from ..vector_math import total


def forward(x, affine, groups, eps):
    y = np.empty(x.shape, x.dtype)
    if x.size:
        x, affine = _contiguous(x, affine)
        over_rows(lambda x, y: _forward(x, affine, groups, x.dtype.type(eps), y), x, y)
    return y


def input_gradient(g, x, affine, groups, eps):
    dx = np.empty(x.shape, x.dtype)
    if x.size:
        g, x, affine = _contiguous(g, x, affine)
        over_rows(lambda g, x, dx: _input_gradient(g, x, affine, groups, x.dtype.type(eps), dx), g, x, dx)
    return dx


def parameter_gradient(g, x, groups, eps):
    d = np.zeros((2, x.shape[2]), x.dtype)
    if x.size:
        _parameter_gradient(*_contiguous(g, x), groups, x.dtype.type(eps), d)
    return d


def _contiguous(*arrays):
    return [np.require(a, a.dtype, "CW") for a in arrays]


@jit
def _forward(x, affine, groups, eps, y):
    N, P, C = x.shape
    means, roots = np.empty(C, x.dtype), np.empty(C, x.dtype)
    for n in range(N):
        _statistics(x[n], groups, eps, means, roots)
        for p in range(P):
            for c in range(C):
                y[n, p, c] = (x[n, p, c] - means[c]) * (roots[c] * affine[0, c]) + affine[1, c]


@jit
def _input_gradient(g, x, affine, groups, eps, dx):
    N, P, C = x.shape
    means, roots = np.empty(C, x.dtype), np.empty(C, x.dtype)
    sums_h, sums_hx = np.empty(C, x.dtype), np.empty(C, x.dtype)
    for n in range(N):
        _statistics(x[n], groups, eps, means, roots)
        _sums(g[n], x[n], means, sums_h, sums_hx)
        for c in range(C):
            sums_h[c] *= affine[0, c]
            sums_hx[c] *= affine[0, c] * roots[c]
        _group_means(sums_h, groups, P)
        _group_means(sums_hx, groups, P)
        for p in range(P):
            for c in range(C):
                x_hat = (x[n, p, c] - means[c]) * roots[c]
                dx[n, p, c] = roots[c] * (affine[0, c] * g[n, p, c] - sums_h[c] - x_hat * sums_hx[c])


@jit
def _parameter_gradient(g, x, groups, eps, d):
    N, P, C = x.shape
    means, roots = np.empty(C, x.dtype), np.empty(C, x.dtype)
    sums_g, sums_gx = np.empty(C, x.dtype), np.empty(C, x.dtype)
    for n in range(N):
        _statistics(x[n], groups, eps, means, roots)
        _sums(g[n], x[n], means, sums_g, sums_gx)
        for c in range(C):
            d[0, c] += sums_gx[c] * roots[c]
            d[1, c] += sums_g[c]


@jit
def _statistics(x, groups, eps, means, roots):
    """The mean and 1 / sqrt(v + eps) of the group of each channel, for one example (P, C)."""
    P, C = x.shape
    for c in range(C):
        means[c] = 0
        roots[c] = 0
    for p in range(P):
        for c in range(C):
            means[c] += x[p, c]
    _group_means(means, groups, P)
    for p in range(P):
        for c in range(C):
            deviation = x[p, c] - means[c]
            roots[c] += deviation * deviation
    _group_means(roots, groups, P)
    for i in range(groups):
        group = _group(roots, groups, i)
        root = 1 / np.sqrt(group[0] + eps)
        for c in range(group.size):
            group[c] = root


@jit
def _sums(g, x, means, sums_g, sums_gx):
    """The sums of g and g (x - m) over the positions of one example, for each channel."""
    P, C = x.shape
    for c in range(C):
        sums_g[c] = 0
        sums_gx[c] = 0
    for p in range(P):
        for c in range(C):
            sums_g[c] += g[p, c]
            sums_gx[c] += g[p, c] * (x[p, c] - means[c])


@jit
def _group_means(sums, groups, P):
    """Sums over positions, for each channel -> means over the channel's group and all positions, in place."""
    for i in range(groups):
        group = _group(sums, groups, i)
        mean = total(group) / (group.size * P)
        for c in range(group.size):
            group[c] = mean


@jit
def _group(channels, groups, i):
    width = channels.size // groups
    return channels[i * width : (i + 1) * width]
