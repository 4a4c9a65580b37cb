r"""Convolution without patches, in float32: sums over taps, which read the image where it lies.

    y[n, i, j, o] = bias[o] + \sum_t \sum_c X[n, i sy + a_t, j sx + b_t, c] w[t, c, o]          X: x in a frame of zeros

A tap t is a place (a_t, b_t) in the kernel, and so an offset into the framed image: masks, strides and turned kernels differ
only in the list of offsets. One image at a time is copied into its frame, which stays in the second-level cache; the sums of 14
pixels and 32 channels stay in registers (tiles.py). The gradient for w needs the same frame, and so do neighbouring taps in
a row: what they read lies side by side, (b, c) counted as one index, so a run of three taps is a tile of 3 C rows.

im2col, as in conv2d/cpu.py, writes every number of x once for each tap before BLAS reads it.

With fewer channels out than a register is wide, the sums over channels come first, all taps of a pixel side by side as if they
were channels; then each is added to the output it belongs to (`spread`).

Images are divided among threads. The gradient for w is a sum over images: of fixed groups, whatever the number of threads, so
that this number changes no bit of the result.
"""

import math
from functools import lru_cache

import numpy as np

from .jit import jit
from .threads import in_parts
from .tiles import FAST, NARROW, ROWS, pixel_sums, plain, product, row_sums, tile_for, width_for

GROUPS, GROUPED_BYTES = 16, 1 << 20  # of images, for the gradient of w: as many as have sums of a megabyte in all


def suits(x, w, channels_out):
    """Whether this file is the fast way: float32, and enough output channels to fill half a register."""
    return FAST and x.dtype == w.dtype == np.float32 and 2 * channels_out >= NARROW and x.size > 0 and w.size > 0


def convolve(x, w, taps, stride, padding, size, bias=None):
    """y (N, *size, O) for x (N, H, W, C), w (T, C, O), T taps ((a, b), ...), padding (py, px) of zeros before x, bias (O,)."""
    y = np.empty((x.shape[0], *size, w.shape[2]), np.float32)
    convolve_into(y, (0, 0), (1, 1), x, w, taps, stride, padding, bias)
    return y


def convolve_into(y, first, every, x, w, taps, stride, padding, bias=None):
    """The same, written to y[:, first[0] :: every[0], first[1] :: every[1]]."""
    N, H, W, C = x.shape
    size = tuple(len(range(f, n, e)) for f, n, e in zip(first, y.shape[1:3], every))
    if 0 in size or 0 in y.shape:
        return
    if len(taps) == 1 and stride == every == (1, 1) and size == (H, W) and taps[0] == padding:
        rows = _rows_at_once(H, W * C)  # a pixel for a pixel: so rows may be joined into long ones
        x, y, taps, padding = x.reshape(-1, 1, rows * W, C), y.reshape(-1, 1, rows * W, w.shape[2]), ((0, 0),), (0, 0)
        size = (1, rows * W)
    rows, columns, frame = _frame(x.shape[1:3], size, taps, stride, padding)
    bias = np.zeros((1, 1, y.shape[3])) if bias is None else bias.reshape(1, 1, -1)
    x, w, bias, tile = plain(x), pack_weights(w), pack_weights(bias), tile_for(size[1])
    places = rows, columns, *frame, *padding, *stride

    def images(a, b):
        _convolve(x[a:b], w, bias, *places, y[a:b], *first, *every, *size, tile)

    in_parts(images, len(x), len(x) * size[0] * size[1] * w.size)


def suits_spread(g, w, channels_out):
    """Whether `spread` is the fast way: where the other is not, and all taps together fill half a register."""
    return not suits(g, w, channels_out) and suits(g, w, w.shape[0] * w.shape[1] * channels_out)


def spread(g, w, size, stride, padding):
    r"""dx (N, *size, C) for g (N, H', W', O), w (kh, kw, C, O): dx[n, i sy + a - py, j sx + b - px] += w[a, b] g[n, i, j]."""
    (kh, kw, C, O), columns = w.shape, g.shape[2]
    across = pack_weights(w.reshape(1, kh * kw * C, O).swapaxes(1, 2))  # from a pixel of g to what it gives through each tap
    g, dx, tile = plain(g), np.zeros((len(g), *size, C), np.float32), tile_for(columns)

    def images(first, last):
        _spread(g[first:last], across, kh, kw, *stride, *padding, dx[first:last], tile)

    in_parts(images, len(g), g.size * kh * kw * C)
    return dx


def weight_gradient(x, g, taps, stride, padding):
    """dw (T, C, O) for x (N, H, W, C), g (N, H', W', O) and T taps; those that follow one another in a row cost least."""
    C, O = x.shape[3], g.shape[3]
    *_, frame = _frame(x.shape[1:3], g.shape[1:3], taps, stride, padding)
    rows, columns, lengths = runs = _runs(taps) * np.array([[1], [1], [C]])
    rounded = -(-lengths // ROWS) * ROWS
    block = width_for(O)
    if O % block:
        g = np.pad(g, ((0, 0), (0, 0), (0, 0), (0, -O % block)))
    x, g, N = plain(x), plain(g), len(x)
    shape = -(-O // block), int(rounded.sum()), block
    groups = max(1, min(N, GROUPS, GROUPED_BYTES // (4 * math.prod(shape))))
    d = np.zeros((groups, *shape), np.float32)

    def images(first, last):
        for i in range(first, last):
            group = slice(N * i // groups, N * (i + 1) // groups)
            _weight_gradient(x[group], g[group], *runs, rounded, *frame, *padding, *stride, d[i])

    in_parts(images, groups, g[..., 0].size * d[0].size)
    used = np.concatenate([np.arange(length) < n for n, length in zip(lengths, rounded)])
    return d.sum(axis=0).transpose(1, 0, 2)[used].reshape(len(taps), C, -1)[:, :, :O]


def _rows_at_once(H, row):
    """How many rows of so many numbers to join, a divisor of H: as many as stay in the second-level cache."""
    return max(n for n in range(1, H + 1) if H % n == 0 and (n == 1 or 4 * n * row <= 1 << 19))


@lru_cache(None)
def _frame(image, size, taps, stride, padding):
    """Rows and columns of the taps, and the frame's height and width: as far as the image goes, and the last output reads."""
    places = np.array(taps, np.int64).T.copy()
    sizes = [max(n + p, (m - 1) * s + int(t.max()) + 1) for n, m, s, p, t in zip(image, size, stride, padding, places)]
    return *places, sizes


@lru_cache(None)
def _runs(taps):
    """Taps in stretches of neighbours: arrays of the row and column of the first, and the length, (3, runs)."""
    runs = []
    for a, b in taps:
        if runs and (a, b) == (runs[-1][0], sum(runs[-1][1:])):
            runs[-1][2] += 1
        else:
            runs.append([a, b, 1])
    return np.array(runs, np.int64).T.copy()


def pack_weights(w):
    """(taps, C, O) -> (blocks, taps, C, width): the weights of a tile side by side, zeros where O ends within it."""
    T, C, O = w.shape
    block = width_for(O)
    packed = np.zeros((-(-O // block), T, C, block), np.float32)
    for k in range(len(packed)):
        part = w[:, :, k * block : (k + 1) * block]
        packed[k, :, :, : part.shape[2]] = part
    return packed


@jit
def _convolve(x, w, bias, a, b, Hp, Wp, py, px, sy, sx, y, first_i, first_j, every_i, every_j, rows, columns, tile):
    N, H, W, C = x.shape
    blocks, T, _, width = w.shape
    O = y.shape[3]
    framed = Hp != H or Wp != W or py > 0 or px > 0
    frame = np.zeros(Hp * Wp * C if framed else 1, np.float32)
    offsets = np.empty(T, np.int64)
    for t in range(T):
        offsets[t] = (a[t] * Wp + b[t]) * C
    aside = np.empty(tile * width, np.float32)
    y_step = every_j * O
    for n in range(N):
        source = frame.ctypes.data if framed else x[n].ctypes.data
        if framed:
            fill_frame(frame, x[n], Wp, py, px)
        for k in range(blocks):
            here = min(width, O - k * width)
            weights, start = w[k].ctypes.data, bias[k].ctypes.data
            for i in range(rows):
                target = y[n, first_i + i * every_i, first_j:, k * width :].ctypes.data
                j = 0
                while True:
                    pixels, at = source + 4 * ((i * sy * Wp + j * sx) * C), offsets.ctypes.data
                    if here == width:
                        pixel_sums(tile, width, pixels, at, T, C, sx * C, weights, start, target + 4 * j * y_step, y_step)
                    else:
                        pixel_sums(tile, width, pixels, at, T, C, sx * C, weights, start, aside.ctypes.data, width)
                        for p in range(tile):
                            for o in range(here):
                                y[n, first_i + i * every_i, first_j + (j + p) * every_j, k * width + o] = aside[p * width + o]
                    if j + tile >= columns:
                        break
                    j = min(j + tile, columns - tile)  # the last tile of a row may overlap the one before


@jit
def _weight_gradient(x, g, a, b, length, rounded, Hp, Wp, py, px, sy, sx, d):
    N, H, W, C = x.shape
    _, rows, columns, O = g.shape
    blocks, _, width = d.shape
    framed = Hp != H or Wp != W or py > 0 or px > 0 or C % ROWS > 0
    frame = np.zeros(Hp * Wp * C + ROWS, np.float32)  # a tile's last rows may lie beyond the last tap: these sums are not used
    for n in range(N):
        source = frame.ctypes.data if framed else x[n].ctypes.data
        if framed:
            fill_frame(frame, x[n], Wp, py, px)
        for i in range(0, rows, 4):  # of a few rows, the numbers stay in the first-level cache for all tiles
            here = min(4, rows - i)
            for k in range(blocks):
                gradient, row = g[n, i, :, k * width :].ctypes.data, 0
                for r in range(a.size):
                    pixels = source + 4 * (((i * sy + a[r]) * Wp + b[r]) * C)
                    for first in range(0, length[r], ROWS):
                        sums = d[k, row + first].ctypes.data
                        start, x_row, g_row = pixels + 4 * first, sy * Wp * C, columns * O
                        row_sums(width, start, x_row, sx * C, gradient, g_row, O, here, columns, sums, width)
                    row += rounded[r]


@jit
def fill_frame(frame, image, Wp, py, px):
    """Copy an image (H, W, C) into its frame, which is flat; around it the zeros stay."""
    H, W, C = image.shape
    numbers = image.reshape(H, W * C)
    for i in range(H):
        first = ((i + py) * Wp + px) * C
        frame[first : first + W * C] = numbers[i]


@jit
def _spread(g, across, kh, kw, sy, sx, py, px, dx, tile):
    N, rows, columns, O = g.shape
    _, H, W, C = dx.shape
    blocks, _, _, width = across.shape
    given = np.empty((blocks, columns, width), np.float32)  # by the pixels of a row, through all taps
    for n in range(N):
        for i in range(rows):
            for k in range(blocks):
                j = 0
                while True:
                    pixels, sums = g[n, i, j:].ctypes.data, given[k, j:].ctypes.data
                    product(tile, width, pixels, O, O, across[k].ctypes.data, sums, width)
                    if j + tile >= columns:
                        break
                    j = min(j + tile, columns - tile)
            for a in range(max(0, py - i * sy), min(kh, H + py - i * sy)):
                target = dx[n, i * sy + a - py]
                for b in range(kw):
                    first, last = max(0, -((b - px) // sx)), min(columns, (W - 1 + px - b) // sx + 1)
                    for c in range(C):
                        block, tap = divmod((a * kw + b) * C + c, width)
                        source = given[block, :, tap]
                        for j in range(first, last):
                            target[j * sx + b - px, c] += source[j]
