r"""2-D convolution on the CPU: an output pixel is a dot product with the patch of the image under it, so copy the patches of a
few rows into a buffer that stays in the second-level cache, and let BLAS multiply the buffer.

          image x                    block of patches                w                 y
      . . . . . . . .                    kh kw C                     O                 O
      . +-----+ . . .                 +-----------+              +-------+         +-------+
      . |patch|. . .     copy         |  patch 0  |          kh  |       |         |       |
      . |     |. . .    ----->  some  |  patch 1  |     x    kw  |       |    =    |       |  some
      . +-----+ . . .           rows  |    ...    |           C  |       |         |       |  rows
      . . . . . . . .                 +-----------+              +-------+         +-------+
       (zeros around)                    <= 1 MiB

Only one block exists at a time. With P(x) for all patches, y = P(x) w and dw = P(x)^T g. The input gradient P^T(g w^T)
needs no patches: the block g w[a, b]^T is added to the pixels that tap (a, b) reads.

This is the way of float64, of few channels, and of processors that kernels/tiles.py does not know; it runs in one thread. In
float32 the patches are not copied at all (kernels/direct.py), and some convolutions need fewer multiplications
(kernels/winograd.py, which also says what that does to rounding, NaN and infinity). Shapes and equations are in spec.py.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from .. import direct, winograd
from ..activations.cpu import relu_gradient
from .spec import output_size

BLOCK_BYTES = 1 << 20


def forward(x, w, stride, padding, bias=None, relu=False, seen=None):
    """As in spec.py; and where seen (as y) is not above 0, y is 0: an input gradient is a convolution too."""
    N, H, W, _ = x.shape
    kh, kw, C, O = w.shape
    rows, columns = output_size((H, W), (kh, kw), stride, padding)
    if winograd.suits(x, w.shape, stride, padding, w.dtype):
        return _where_above_0(seen, winograd.convolve(x, w, padding, bias, relu))
    if direct.suits(x, w, O):
        w = w.reshape(kh * kw, C, O)
        return direct.convolve(x, w, _taps(kh, kw), stride, padding, (rows, columns), bias, relu, seen)
    x = np.maximum(x, 0) if relu else x
    if stride == (1, 1) and direct.suits_spread(x, w, O):  # each pixel of x gives to the outputs that read it
        y = direct.spread(x, _turned(w), (rows, columns), stride, (kh - 1 - padding[0], kw - 1 - padding[1]))
        return _where_above_0(seen, y if bias is None else np.add(y, bias, out=y))
    y = np.empty((N * rows * columns, O), x.dtype)
    w = w.reshape(kh * kw * C, O)
    for pixels, patches in _blocks_of_patches(x, (kh, kw), stride, padding):
        np.matmul(patches, w, out=y[pixels])
        if bias is not None:
            y[pixels] += bias
    return _where_above_0(seen, y.reshape(N, rows, columns, O))


def input_gradient(g, w, input_size, stride, padding, x=None):
    N, rows, columns, O = g.shape
    kh, kw, C, _ = w.shape
    (H, W), (sy, sx), (py, px) = input_size, stride, padding
    if stride == (1, 1) and py < kh and px < kw:  # then it is a convolution too: of g with the taps turned around
        return forward(g, _turned(w), stride, (kh - 1 - py, kw - 1 - px), seen=x)
    if winograd.suits_back(g, w.shape, input_size, stride, padding, w.dtype):
        return _where_above_0(x, winograd.input_gradient(g, w, input_size, padding))
    if direct.suits(g, w, C):
        return _input_gradient_by_phases(g, w, input_size, stride, padding, x)
    if direct.suits_spread(g, w, C):
        return _where_above_0(x, direct.spread(g, w, input_size, stride, padding))
    dx = np.empty((N, H, W, C), g.dtype)
    padded = np.empty((_fitting(H + 2 * py, W + 2 * px, C, g.itemsize), H + 2 * py, W + 2 * px, C), g.dtype)
    for n in range(0, N, len(padded)):
        block = g[n : n + len(padded)]
        count = len(block)
        block = block.reshape(count * rows * columns, O)
        padded[:count] = 0
        for a, b in np.ndindex(kh, kw):
            read = padded[:count, a : a + sy * rows : sy, b : b + sx * columns : sx]
            read += (block @ w[a, b].T).reshape(read.shape)
        dx[n : n + count] = padded[:count, py : py + H, px : px + W]
    return _where_above_0(x, dx)


def _where_above_0(seen, y):
    """y, made 0 where `seen` is not above 0."""
    return y if seen is None else relu_gradient(y, seen)


def _input_gradient_by_phases(g, w, input_size, stride, padding, x):
    """Pixels of x whose rows and columns leave the same remainder by the stride are read by the same taps: for each such phase,
    a convolution of g with some of the taps, turned around."""
    N, (kh, kw, C, _) = g.shape[0], w.shape
    dx = np.empty((N, *input_size, C), g.dtype)
    if kh < stride[0] or kw < stride[1]:  # no tap reads some of the pixels
        dx[:] = 0
    for phase in np.ndindex(*stride):
        # pixel phase + s m is read by output m + (phase + p - a) / s through the taps a for which that is a whole number
        reads = [
            [(k, (f + p - k) // s) for k in range(length) if (f + p - k) % s == 0]
            for f, p, s, length in zip(phase, padding, stride, (kh, kw))
        ]
        if all(reads):
            before = tuple(max(0, -min(places)[1], -max(places)[1]) for places in reads)
            taps = tuple((i + before[0], j + before[1]) for _, i in reads[0] for _, j in reads[1])
            chosen = np.stack([w[a, b].T for a, _ in reads[0] for b, _ in reads[1]])
            direct.convolve_into(dx, phase, stride, g, chosen, taps, (1, 1), before, seen=x)
    return dx


def _turned(w):
    """The kernel of the map back: turned around, from output channels to input channels."""
    return w[::-1, ::-1].swapaxes(2, 3)


@lru_cache(None)
def _taps(kh, kw):
    return tuple(np.ndindex(kh, kw))


def weight_gradient(x, g, kernel_size, stride, padding, relu=False):
    kh, kw = kernel_size
    C, O = x.shape[3], g.shape[3]
    if winograd.suits(x, (kh, kw, C, O), stride, padding, g.dtype):
        return winograd.weight_gradient(x, g, kh, padding, relu)
    if direct.suits(x, g, O):
        return direct.weight_gradient(x, g, _taps(kh, kw), stride, padding, relu).reshape(kh, kw, C, O)
    x = np.maximum(x, 0) if relu else x
    turned = (kh - 1 - padding[0], kw - 1 - padding[1])
    if stride == (1, 1) and min(turned) >= 0 and direct.suits(g, x, C):  # the sum is the same with x and g exchanged
        return _turned(direct.weight_gradient(g, x, _taps(kh, kw), stride, turned).reshape(kh, kw, O, C))
    g = g.reshape(math.prod(g.shape[:3]), O)
    dw = np.zeros((kh * kw * C, O), x.dtype)
    for pixels, patches in _blocks_of_patches(x, kernel_size, stride, padding):
        dw += patches.T @ g[pixels]
    return dw.reshape(kh, kw, C, O)


def _blocks_of_patches(x, kernel_size, stride, padding):
    """Yield (pixels, patches): patches (n, kh kw C), read by the n output pixels that the slice `pixels` counts off y."""
    N, H, W, C = x.shape
    (kh, kw), (sy, sx), (py, px) = kernel_size, stride, padding
    if _patches_are_pixels(kernel_size, stride, padding):
        yield slice(None), x.reshape(N * H * W, C)
        return
    rows, columns = output_size((H, W), kernel_size, stride, padding)
    length = kh * kw * C
    rows_at_once = _fitting(columns, length, x.itemsize)
    images_at_once, rows_at_once = max(1, rows_at_once // rows), min(rows, rows_at_once)
    padded = np.zeros((images_at_once, H + 2 * py, W + 2 * px, C), x.dtype)
    windows = sliding_window_view(padded, (kh, kw), axis=(1, 2))[:, ::sy, ::sx]  # (images, H', W', C, kh, kw)
    for n in range(0, N, images_at_once):
        images = x[n : n + images_at_once]
        padded[: len(images), py : py + H, px : px + W] = images
        for i in range(0, rows, rows_at_once):
            block = windows[: len(images), i : i + rows_at_once]
            count = math.prod(block.shape[:3])
            if C < 4:  # the copy is fastest along its longest stretch: a row of the image for a given tap,
                patches = block.transpose(4, 5, 3, 0, 1, 2).reshape(length, count).T
            else:  # or a row of a patch, kw C numbers that lie side by side
                patches = block.transpose(0, 1, 2, 4, 5, 3).reshape(count, length)
            first = (n * rows + i) * columns
            yield slice(first, first + count), patches


def _patches_are_pixels(kernel_size, stride, padding):
    return kernel_size == stride == (1, 1) and padding == (0, 0)


def _fitting(*shape_and_itemsize):
    """How many items of so many bytes fit into a block; at least one."""
    return max(1, BLOCK_BYTES // max(1, math.prod(shape_and_itemsize)))
