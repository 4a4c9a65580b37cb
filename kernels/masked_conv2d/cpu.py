r"""Masked convolution on the CPU: as conv2d, copy patches into a buffer and let BLAS multiply it; but copy live taps only.

      image x           what mask B of a 3 x 3 kernel reads          block of patches           live rows of w
    . . . . . . .
    . a b c . . .                a b c                             | a b c | d e |              |  (0, 0..2)  |
    . d e f . . .                d e          -------------->      |  next pixel |       x      |  (1, 0..1)  |
    . g h i . . .                                                  |     ...     |
                                                                       5 C numbers, not 9 C

Live taps that are neighbours in a row of the kernel, a "run", read numbers that are neighbours in memory: one copy. A dead tap
costs nothing, neither in the copy nor in the product, and what it lies on is never read: sampling relies on that, where what
a dead tap lies on is not known yet.

In float32, with channels enough, nothing is copied at all (kernels/direct.py). Shapes and equations are in spec.py. The input
gradient is a masked convolution too, of g with the taps turned around.
"""

import math

import numpy as np
from numpy.lib.stride_tricks import as_strided

from .. import direct
from ..activations.cpu import relu_gradient
from .spec import output_size

BLOCK_BYTES = 1 << 20  # a block of patches stays in the second-level cache


def forward(x, w, taps, padding, bias=None, relu=False, seen=None):
    """As in spec.py; and where seen (as y) is not above 0, y is 0: an input gradient is a convolution too."""
    N, H, W, C = x.shape
    size = output_size((H, W), w.shape[:2], padding)
    if taps and direct.suits(x, w, w.shape[3]):
        return direct.convolve(x, w[_places(taps)], taps, (1, 1), padding, size, bias, relu, seen)
    x = np.maximum(x, 0) if relu else x
    y = np.empty((N * math.prod(size), w.shape[3]), x.dtype)
    live = w[_places(taps)].reshape(len(taps) * C, w.shape[3])
    for pixels, patches in _blocks_of_patches(x, size, taps, padding):
        np.matmul(patches, live, out=y[pixels])
        if bias is not None:
            y[pixels] += bias
    y = y.reshape(N, *size, w.shape[3])
    return y if seen is None else relu_gradient(y, seen)


def input_gradient(g, w, taps, input_size, padding, x=None):
    (kh, kw), (py, px) = w.shape[:2], padding
    turned = tuple((kh - 1 - a, kw - 1 - b) for a, b in reversed(taps))  # reversed: ascending stays ascending, for the runs
    return forward(g, w[::-1, ::-1].swapaxes(2, 3), turned, (kh - 1 - py, kw - 1 - px), seen=x)


def weight_gradient(x, g, taps, kernel_size, padding, relu=False):
    C, O = x.shape[3], g.shape[3]
    dw = np.zeros((*kernel_size, C, O), x.dtype)
    if taps and direct.suits(x, g, O):
        dw[_places(taps)] = direct.weight_gradient(x, g, taps, (1, 1), padding, relu)
        return dw
    x = np.maximum(x, 0) if relu else x
    live = np.zeros((len(taps) * C, O), x.dtype)
    flat = g.reshape(math.prod(g.shape[:3]), O)
    for pixels, patches in _blocks_of_patches(x, g.shape[1:3], taps, padding):
        live += patches.T @ flat[pixels]
    dw[_places(taps)] = live.reshape(len(taps), C, O)
    return dw


def _places(taps):
    """The taps as an index to the first two axes of w."""
    a, b = np.array(taps, int).reshape(-1, 2).T
    return a, b


def _blocks_of_patches(x, size, taps, padding):
    """Yield (pixels, patches): patches (n, len(taps) C), read by the n output pixels that the slice `pixels` counts off y."""
    (N, _, _, C), (rows, columns) = x.shape, size
    length = len(taps) * C
    rows_at_once = max(1, BLOCK_BYTES // max(1, columns * length * x.itemsize))
    images_at_once, rows_at_once = max(1, rows_at_once // rows), min(rows, rows_at_once)
    buffer = np.empty(min(N, images_at_once) * rows_at_once * columns * length, x.dtype)
    for n in range(0, N, images_at_once):
        images = _padded(x[n : n + images_at_once], padding)
        for i in range(0, rows, rows_at_once):
            shape = (len(images), min(rows_at_once, rows - i), columns)
            count = math.prod(shape)
            first = (n * rows + i) * columns
            yield slice(first, first + count), _patches(images[:, i:], shape, taps, buffer[: count * length])


def _patches(images, shape, taps, buffer):
    """Copy into the buffer what the output pixels of the first rows read: (n, len(taps) C), n the product of the shape."""
    C = images.shape[3]
    if C < 4:  # the copy is fastest along its longest stretch: a row of the image for a given tap,
        buffer = buffer.reshape(len(taps), C, *shape)
        for t, (a, b) in enumerate(taps):
            buffer[t] = images[:, a : a + shape[1], b : b + shape[2]].transpose(3, 0, 1, 2)
        return buffer.reshape(len(taps) * C, -1 if buffer.size else math.prod(shape)).T
    buffer = buffer.reshape(*shape, len(taps) * C)
    for t, a, b, run in _runs(taps):  # or a run of a patch: numbers that lie side by side
        window = as_strided(images[:, a:, b:], (*shape, run * C), images.strides, writeable=False)
        buffer[..., t * C : (t + run) * C] = window
    return buffer.reshape(math.prod(shape), len(taps) * C)


def _runs(taps):
    """Taps in stretches of neighbours, as (number of the first, its row, its column, length)."""
    first = 0
    for t in range(1, len(taps) + 1):
        a, b = taps[t - 1]
        if t == len(taps) or tuple(taps[t]) != (a, b + 1):
            yield first, *taps[first], t - first
            first = t


def _padded(images, padding):
    """The images with zeros around them and their pixels side by side in memory; themselves, where they are so already."""
    (n, H, W, C), (py, px) = images.shape, padding
    if padding == (0, 0) and images.strides[2:] == (C * images.itemsize, images.itemsize):
        return images
    padded = np.zeros((n, H + 2 * py, W + 2 * px, C), images.dtype)
    padded[:, py : py + H, px : px + W] = images
    return padded
