r"""Masked 2-D convolution, channels last: the definition, slow on purpose. Every other version is tested against it.

A mask is a list of live taps, the places (a, b) of a kernel at which it reads the image. The other taps are dead: they are
not multiplied by zero, they are not there. So no value that a dead tap lies on matters, not even NaN, and a dead weight is
never read and has a gradient of exactly zero.

    T(g, x, w) = sum_{n, i, j, o} sum_{(a, b) in taps} sum_c g[n, i, j, o] x[n, i + a - py, j + b - px, c] w[a, b, c, o]

with x = 0 outside the image. The three maps below each leave one slot of this trilinear form open, as in conv2d/spec.py, and
so each is the gradient of the other two:

    forward           y  = conv(x, w)   <g, y>  = T(g, x, w)
    input_gradient    dx = dT / dx      <dx, x> = T(g, x, w)
    weight_gradient   dw = dT / dw      <dw, w> = T(g, x, w)

Shapes: x (N, H, W, C), w (kh, kw, C, O), y and g (N, H', W', O) with H' = H + 2 py - kh + 1, and W' likewise. taps: pairs
(a, b), all different, with 0 <= a < kh and 0 <= b < kw, perhaps none. padding (py, px), 0 <= py < kh and 0 <= px < kw. All
arrays of one floating-point type. A relu before the convolution: as in conv2d/spec.py.
"""

import numpy as np


def forward(x, w, taps, padding, bias=None, relu=False):
    """y[n, i, j, o] = bias[o] + sum_{(a, b) in taps} sum_c x[n, i + a - py, j + b - px, c] w[a, b, c, o]"""
    x = np.maximum(x, 0) if relu else x
    N, H, W, _ = x.shape
    kh, kw, _, O = w.shape
    y = np.zeros((N, *output_size((H, W), (kh, kw), padding), O), x.dtype)
    for i, j, a, b, row, column in _meetings((H, W), (kh, kw), taps, padding):
        y[:, i, j] += x[:, row, column] @ w[a, b]
    return y if bias is None else y + bias


def input_gradient(g, w, taps, input_size, padding, x=None):
    """dx[n, row, column, c] = sum of g[n, i, j, o] w[a, b, c, o] over (a, b) in taps, i + a - py = row, j + b - px = column, o

    g (N, H', W', O), w (kh, kw, C, O) -> dx (N, H, W, C) with (H, W) = input_size.
    """
    kh, kw, C, _ = w.shape
    dx = np.zeros((len(g), *input_size, C), g.dtype)
    for i, j, a, b, row, column in _meetings(input_size, (kh, kw), taps, padding):
        dx[:, row, column] += g[:, i, j] @ w[a, b].T
    return dx if x is None else np.where(x > 0, dx, 0)


def weight_gradient(x, g, taps, kernel_size, padding, relu=False):
    """dw[a, b, c, o] = sum_{n, i, j} x[n, i + a - py, j + b - px, c] g[n, i, j, o] for (a, b) in taps, otherwise 0

    x (N, H, W, C), g (N, H', W', O) -> dw (kh, kw, C, O) with (kh, kw) = kernel_size.
    """
    x = np.maximum(x, 0) if relu else x
    _, H, W, C = x.shape
    dw = np.zeros((*kernel_size, C, g.shape[3]), x.dtype)
    for i, j, a, b, row, column in _meetings((H, W), kernel_size, taps, padding):
        dw[a, b] += x[:, row, column].T @ g[:, i, j]
    return dw


def output_size(input_size, kernel_size, padding):
    """(H + 2 py - kh + 1, W + 2 px - kw + 1)"""
    return tuple(n + 2 * p - k + 1 for n, k, p in zip(input_size, kernel_size, padding))


def _meetings(input_size, kernel_size, taps, padding):
    """Every output pixel (i, j) and live tap (a, b) that meet inside the image, with the pixel (row, column) where they do."""
    (H, W), (py, px) = input_size, padding
    for i, j in np.ndindex(output_size(input_size, kernel_size, padding)):
        for a, b in taps:
            row, column = i + a - py, j + b - px
            if 0 <= row < H and 0 <= column < W:  # outside lies zero padding
                yield i, j, a, b, row, column
