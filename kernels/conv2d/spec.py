r"""2-D convolution, channels last: the definition, slow on purpose. Every other version is tested against it.

One trilinear form in an output cotangent g, an image x and weights w is all there is:

    T(g, x, w) = sum_{n, i, j, o} sum_{a, b, c} g[n, i, j, o] x[n, i sy + a - py, j sx + b - px, c] w[a, b, c, o]

with x = 0 outside the image (zero padding). Each map below leaves one of the three slots open, and so each is the
gradient of the other two:

    forward           y  = conv(x, w)   <g, y>  = T(g, x, w)    y[n, i, j]        = sum_{a, b} x[n, row, column] w[a, b]
    input_gradient    dx = dT / dx      <dx, x> = T(g, x, w)    dx[n, row, column] = sum g[n, i, j] w[a, b]^T
    weight_gradient   dw = dT / dw      <dw, w> = T(g, x, w)    dw[a, b]          = sum x[n, row, column]^T g[n, i, j]

where row = i sy + a - py and column = j sx + b - px. (The name is the field's; mathematically this is a correlation.)

Shapes: x (N, H, W, C), w (kh, kw, C, O), y and g (N, H', W', O) with H' = (H + 2 py - kh) // sy + 1, and W' likewise.
stride (sy, sx) >= 1, padding (py, px) >= 0; all arrays of one floating-point type.

With relu before the convolution, y = conv(max(x, 0), w), so dw has max(x, 0) for x, and dx is 0 where x is not above 0: these
three are forward and weight_gradient with relu=True, and input_gradient with x as its last argument.
"""

import numpy as np


def forward(x, w, stride, padding, bias=None, relu=False):
    """y[n, i, j, o] = bias[o] + sum_{a, b, c} x[n, i sy + a - py, j sx + b - px, c] w[a, b, c, o]"""
    x = np.maximum(x, 0) if relu else x
    N, H, W, _ = x.shape
    kh, kw, _, O = w.shape
    y = np.zeros((N, *output_size((H, W), (kh, kw), stride, padding), O), x.dtype)
    for i, j, a, b, row, column in _meetings((H, W), (kh, kw), stride, padding):
        y[:, i, j] += x[:, row, column] @ w[a, b]
    return y if bias is None else y + bias


def input_gradient(g, w, input_size, stride, padding, x=None):
    """dx[n, row, column, c] = sum of g[n, i, j, o] w[a, b, c, o] over i sy + a - py = row, j sx + b - px = column, and o

    g (N, H', W', O), w (kh, kw, C, O) -> dx (N, H, W, C) with (H, W) = input_size, which H' and W' alone do not determine.
    """
    kh, kw, C, _ = w.shape
    dx = np.zeros((len(g), *input_size, C), g.dtype)
    for i, j, a, b, row, column in _meetings(input_size, (kh, kw), stride, padding):
        dx[:, row, column] += g[:, i, j] @ w[a, b].T
    return dx if x is None else np.where(x > 0, dx, 0)


def weight_gradient(x, g, kernel_size, stride, padding, relu=False):
    """dw[a, b, c, o] = sum_{n, i, j} x[n, i sy + a - py, j sx + b - px, c] g[n, i, j, o]

    x (N, H, W, C), g (N, H', W', O) -> dw (kh, kw, C, O) with (kh, kw) = kernel_size.
    """
    x = np.maximum(x, 0) if relu else x
    _, H, W, C = x.shape
    dw = np.zeros((*kernel_size, C, g.shape[3]), x.dtype)
    for i, j, a, b, row, column in _meetings((H, W), kernel_size, stride, padding):
        dw[a, b] += x[:, row, column].T @ g[:, i, j]
    return dw


def output_size(input_size, kernel_size, stride, padding):
    """((H + 2 py - kh) // sy + 1, (W + 2 px - kw) // sx + 1)"""
    return tuple((n + 2 * p - k) // s + 1 for n, k, s, p in zip(input_size, kernel_size, stride, padding))


def _meetings(input_size, kernel_size, stride, padding):
    """Every output pixel (i, j) and tap (a, b) that meet inside the image, with the pixel (row, column) where they do."""
    (H, W), (sy, sx), (py, px) = input_size, stride, padding
    for i, j in np.ndindex(output_size(input_size, kernel_size, stride, padding)):
        for a, b in np.ndindex(kernel_size):
            row, column = i * sy + a - py, j * sx + b - px
            if 0 <= row < H and 0 <= column < W:  # outside lies zero padding
                yield i, j, a, b, row, column
