"""Affine couplings on the CPU: one pass there and one back, where NumPy makes six and a dozen.

A loop over the channels of a row is fast where there are many of them. Of few, each is a loop over the rows. The sum over rows
is taken in blocks, whatever the number of threads: so this number changes no bit of it.
"""

import numpy as np

from ..jit import jit, plain
from ..threads import MEMORY, in_parts
from ..vector_math import exp, tanh

f = np.float32
FEW = 8  # channels
BLOCK = 1024  # rows that are summed one after another


def forward(x, parameters, scale):
    C = x.shape[-1]
    y = np.empty((2, *x.shape), x.dtype)
    if x.dtype != f:
        s = np.multiply(scale, np.tanh(parameters[..., :C]), out=y[1])
        np.add(x * np.exp(s), parameters[..., C:], out=y[0])
    elif x.size:
        loop, x, p, scale, (z, s) = _FORWARD[C < FEW], _rows(x, C), _rows(parameters, 2 * C), plain(scale), y.reshape(2, -1, C)
        in_parts(lambda i, j: loop(x[i:j], p[i:j], scale, z[i:j], s[i:j]), len(x), 5 * MEMORY * x.size)
    return y


def backward(g, x, parameters, scale):
    x, C = plain(x), x.shape[-1]
    if not x.size:
        return np.zeros(C, x.dtype)
    R, d = x.size // C, np.empty(3 * x.size + C, x.dtype)
    dx, dp, dscale = d[: x.size].reshape(R, C), d[x.size : 3 * x.size].reshape(R, 2 * C), d[3 * x.size :]
    x, p, g = _rows(x, C), _rows(parameters, 2 * C), plain(g if g.dtype == x.dtype else g.astype(x.dtype)).reshape(2, R, C)
    if x.dtype != f:
        t = np.tanh(p[:, :C])
        np.multiply(g[0], np.exp(scale * t), out=dx)
        h = dx * x + g[1]
        np.multiply(h * scale, 1 - t * t, out=dp[:, :C])
        dp[:, C:] = g[0]
        (h * t).sum(axis=0, out=dscale)
        return d
    loop, scale, blocks = _BACKWARD[C < FEW], plain(scale), -(-R // BLOCK)
    if blocks == 1:
        dscale[:] = 0
        loop(*g, x, p, scale, dx, dp, dscale)
        return d
    sums = np.zeros((blocks, C), f)

    def some(first, last):
        for block in range(first, last):
            part = slice(block * BLOCK, min((block + 1) * BLOCK, R))
            loop(*(a[part] for a in (*g, x, p)), scale, dx[part], dp[part], sums[block])

    in_parts(some, blocks, 8 * MEMORY * x.size)
    sums.sum(axis=0, out=dscale)
    return d


def _rows(x, length):
    return plain(x) if x.ndim == 2 else plain(x).reshape(-1, length)


@jit
def _forward(x, p, scale, z, log_slope):
    C = x.shape[1]
    for n in range(x.shape[0]):
        for c in range(C):
            s = scale[c] * tanh(p[n, c])
            z[n, c] = x[n, c] * exp(s) + p[n, C + c]
            log_slope[n, c] = s


@jit
def _forward_of_few(x, p, scale, z, log_slope):
    C, s, e = x.shape[1], np.empty(BLOCK, f), np.empty(BLOCK, f)
    for first in range(0, x.shape[0], BLOCK):
        last = min(first + BLOCK, x.shape[0])
        for c in range(C):
            for n in range(last - first):
                s[n] = p[first + n, c]
            for n in range(last - first):
                s[n] = scale[c] * tanh(s[n])
                e[n] = exp(s[n])
            for n in range(last - first):
                z[first + n, c] = x[first + n, c] * e[n] + p[first + n, C + c]
                log_slope[first + n, c] = s[n]


@jit
def _backward(gz, gs, x, p, scale, dx, dp, total):
    C = x.shape[1]
    for n in range(x.shape[0]):  # in loops over so few arrays that the compiler can see to it that they do not overlap
        for c in range(C):
            t = tanh(p[n, c])
            dx[n, c] = gz[n, c] * exp(scale[c] * t)
            dp[n, c] = t
        for c in range(C):
            total[c] += (dx[n, c] * x[n, c] + gs[n, c]) * dp[n, c]
        for c in range(C):
            t = dp[n, c]
            dp[n, c] = (dx[n, c] * x[n, c] + gs[n, c]) * scale[c] * (f(1) - t * t)
        for c in range(C):
            dp[n, C + c] = gz[n, c]


@jit
def _backward_of_few(gz, gs, x, p, scale, dx, dp, total):
    C, N, t, e = x.shape[1], x.shape[0], np.empty(BLOCK, f), np.empty(BLOCK, f)
    for c in range(C):
        for n in range(N):
            t[n] = p[n, c]
        for n in range(N):
            t[n] = tanh(t[n])
            e[n] = exp(scale[c] * t[n])
        for n in range(N):
            back = gz[n, c] * e[n]
            h = back * x[n, c] + gs[n, c]
            dx[n, c] = back
            dp[n, c] = h * scale[c] * (f(1) - t[n] * t[n])
            dp[n, C + c] = gz[n, c]
            total[c] += h * t[n]


_FORWARD, _BACKWARD = (_forward, _forward_of_few), (_backward, _backward_of_few)
