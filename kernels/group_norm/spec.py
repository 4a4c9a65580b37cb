r"""Normalisation of groups of channels, and an activation f: the definition, slow on purpose.

x (N, P, C): N examples of P positions. The C channels are cut into groups of neighbours; over the n numbers that one group has
in one example, with m their mean and v their mean squared deviation,

    forward     y = f(z),   z = scale x_hat + shift,   x_hat = r (x - m),   r = 1 / sqrt(v + eps)         (N, P, C)
    backward    dx = r (h - (1/n) \sum h - x_hat (1/n) \sum h x_hat),   h = scale g f'(z)                 (N P + 2, C)
                d scale = \sum g f'(z) x_hat,   d shift = \sum g f'(z),   over examples and positions

where g, a cotangent of y, has its shape; affine (2, C) holds scale and shift; and f is relu, silu or, if None, the identity.
Backward gives the rows of dx, all examples' one below the other, and below them d scale and d shift. All of one floating dtype.
Source: Wu & He 2018, eq. 1-7; the gradient is that of Ioffe & Szegedy 2015, section 3, for a group in place of a batch.
"""

import math

import numpy as np


def forward(x, affine, groups, eps, activation):
    """f(scale x_hat + shift)."""
    y = np.empty_like(x, order="C")
    for n, own in _groups(x, groups):
        z = affine[0, own] * _standardised(x[n, :, own], eps)[0] + affine[1, own]
        y[n, :, own] = _each(_VALUES[activation], z)
    return y


def backward(g, x, affine, groups, eps, activation):
    """The cotangents of x and affine for a cotangent g of y."""
    N, P, C = x.shape
    d = np.zeros((N * P + 2, C), x.dtype)
    dx, d_scale, d_shift = d[:-2].reshape(x.shape), d[-2], d[-1]
    for n, own in _groups(x, groups):
        x_hat, r = _standardised(x[n, :, own], eps)
        dz = _each(_GRADIENTS[activation], g[n, :, own], affine[0, own] * x_hat + affine[1, own])
        h = affine[0, own] * dz
        dx[n, :, own] = r * (h - h.mean() - x_hat * (h * x_hat).mean())
        d_scale[own] += (dz * x_hat).sum(axis=0)
        d_shift[own] += dz.sum(axis=0)
    return d


def _groups(x, groups):
    """(example, slice of channels) of each group."""
    N, P, C = x.shape
    width = C // groups
    return [(n, slice(i * width, (i + 1) * width)) for n in range(N) for i in range(groups) if P]


def _standardised(x, eps):
    r = 1 / np.sqrt(x.var() + eps)
    return r * (x - x.mean()), r


def _each(f, *arrays):
    y = np.empty_like(arrays[0])
    for i in np.ndindex(y.shape):
        y[i] = f(*(float(a[i]) for a in arrays))
    return y


def _sigmoid(z):
    e = math.exp(-abs(z))  # in [0, 1]: it cannot overflow
    return (1.0 if z >= 0 else e) / (1 + e)


_VALUES = {
    None: lambda z: z,
    "relu": lambda z: z if not z <= 0 else 0.0,  # NaN stays NaN
    "silu": lambda z: 0.0 if z == -math.inf else z * _sigmoid(z),
}
_GRADIENTS = {  # g f'(z)
    None: lambda g, z: g,
    "relu": lambda g, z: g if z > 0 else 0.0,
    "silu": lambda g, z: g * _sigmoid(z) * (1 + (0.0 if math.isinf(z) else z * _sigmoid(-z))),
}
