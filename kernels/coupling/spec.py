r"""The affine map of a coupling layer: the definition, slow on purpose.

Each number x is scaled and shifted as two others say, which a network made: parameters (..., 2 C) holds a = parameters[..., :C]
and t = parameters[..., C:]. Through the tanh, s cannot be larger than `scale` (C,), whatever the network says.

    forward     s = scale tanh(a),  z = x e^s + t,  log dz/dx = s           x (..., C) -> (z, s) as y (2, ..., C)

With cotangents g (2, ..., C) of (z, s), and h = g_z x e^s + g_s, which is that of s when all that depends on it is counted,

    backward    dx = g_z e^s    da = h scale (1 - tanh(a)^2)    dt = g_z    dscale = \sum h tanh(a), over all axes but the last

one after another in a flat array: dx as x has it, da and dt side by side as in parameters, dscale. All have the dtype of x.
Source: Dinh et al. 2017 (RealNVP), eq. 4-8.
"""

import math

import numpy as np


def forward(x, parameters, scale):
    """(z, s), stacked: (2, ..., C)."""
    y = np.empty((2, *x.shape), x.dtype)
    for *row, c in np.ndindex(x.shape):
        s = scale[c] * math.tanh(parameters[*row, c])
        y[0, *row, c] = x[*row, c] * math.exp(s) + parameters[*row, c + x.shape[-1]]
        y[1, *row, c] = s
    return y


def backward(g, x, parameters, scale):
    """The cotangents of x, parameters and scale for one of y, one after another."""
    dx, dp, dscale = np.empty_like(x), np.empty_like(parameters), np.zeros_like(scale)
    for *row, c in np.ndindex(x.shape):
        tanh = math.tanh(parameters[*row, c])
        e = math.exp(scale[c] * tanh)
        h = g[0, *row, c] * x[*row, c] * e + g[1, *row, c]
        dx[*row, c] = g[0, *row, c] * e
        dp[*row, c] = h * scale[c] * (1 - tanh**2)
        dp[*row, c + x.shape[-1]] = g[0, *row, c]
        dscale[c] += h * tanh
    return np.concatenate([dx, dp, dscale], axis=None)
