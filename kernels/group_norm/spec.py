r"""Normalisation of groups of channels: the definition, slow on purpose. Every other version is tested against it.

x (N, P, C): N examples of P positions. The C channels are cut into groups of neighbours; over the n numbers that one group has
in one example, with m their mean and v their mean squared deviation,

    forward               y = scale x_hat + shift,   x_hat = r (x - m),   r = 1 / sqrt(v + eps)           (N, P, C)
    input_gradient        dx = r (h - (1/n) \sum h - x_hat (1/n) \sum h x_hat),   h = scale g             (N, P, C)
    parameter_gradient    d scale = \sum g x_hat,   d shift = \sum g,   over examples and positions       (2, C)

where g, a cotangent of y, has its shape; affine (2, C) holds scale and shift. All of one floating dtype.
Source: Wu & He 2018, eq. 1-7; the gradient is that of Ioffe & Szegedy 2015, section 3, for a group in place of a batch.
"""

import numpy as np


def forward(x, affine, groups, eps):
    """scale x_hat + shift."""
    y = np.empty_like(x, order="C")
    for n, own in _groups(x, groups):
        y[n, :, own] = affine[0, own] * _standardised(x[n, :, own], eps)[0] + affine[1, own]
    return y


def input_gradient(g, x, affine, groups, eps):
    """The cotangent of x for a cotangent g of y."""
    dx = np.empty_like(x, order="C")
    for n, own in _groups(x, groups):
        x_hat, r = _standardised(x[n, :, own], eps)
        h = affine[0, own] * g[n, :, own]
        dx[n, :, own] = r * (h - h.mean() - x_hat * (h * x_hat).mean())
    return dx


def parameter_gradient(g, x, groups, eps):
    """The cotangents of scale and shift, one above the other."""
    d = np.zeros((2, x.shape[2]), x.dtype)
    for n, own in _groups(x, groups):
        d[0, own] += (g[n, :, own] * _standardised(x[n, :, own], eps)[0]).sum(axis=0)
        d[1, own] += g[n, :, own].sum(axis=0)
    return d


def _groups(x, groups):
    """(example, slice of channels) of each group."""
    width = x.shape[2] // groups
    return [(n, slice(i * width, (i + 1) * width)) for n in range(len(x)) for i in range(groups)]


def _standardised(x, eps):
    r = 1 / np.sqrt(x.var() + eps)
    return r * (x - x.mean()), r
