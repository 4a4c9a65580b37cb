r"""Convolution with 3 x 3 taps by Winograd's minimal filtering, in float32: 36 multiplications for 16 outputs, and not 144.

Two polynomials are multiplied by their values at a few points; transposed, that is a correlation. For 4 outputs of 3 taps in a
row the points 0, 1, -1, 2, -2 and infinity do, 6 products and not 12, and an image goes through it along rows and columns:

    y = A^T [ sum_c (G w_c G^T) * (B^T d_c B) ] A         d (6, 6) pixels, w (3, 3) taps, y (4, 4) outputs, * elementwise

    B^T = 4  0 -5  0  1  0     G = 1/24 of  6  0  0     A^T = 1  1  1  1  1  0             Lavin & Gray 2016, section 4.3
          0 -4 -4  1  1  0                 -4 -4 -4           0  1 -1  2 -2  0
          0  4 -4 -1  1  0                 -4  4 -4           0  1  1  4  4  0
          0 -2 -1  2  1  0                  1  2  4           0  1 -1  8 -8  1
          0  2 -1 -2  1  0                  1 -2  4
          0  4  0 -5  0  1                  0  0 24

        image in its frame        values at 36 points          36 products          tiles of y
      +---------+ . . .
      | 6 x 6 pixels                [36]                          [36]              +-----+
      |   +-----|---+    B^T d B   (tiles, C)    x (C, O)   =   (tiles, O)  A^T m A |4 x 4|
      +---|-----+   |    ------>                                            ------> |     |
       tiles overlap by 2                                                           +-----+

The sums over channels are products of matrices, made by the tiles of tiles.py; a group of tiles, from as many images as it
takes, stays in the second-level cache. Images are divided among threads, and neither their number nor the other images change a
bit of an image's outputs; but with fewer than 16 tiles in all, direct sums are faster, and are made (`suits`).

The gradient for w is the adjoint of the same sum, so it takes the same 36 multiplications, of matrices (C, tiles) x (tiles, O):

    dw = G^T [ sum_tiles (B^T d_c B) * (A g A^T) ] G

How wrong it is. On its way to y, a number passes at most 6 roundings in B^T d B, 8 in G w G^T, C in the products and 6 in
A^T m A; and so, with gamma_n = n u / (1 - n u) and u = 2^-24 (Higham 2002, section 3.1), where |M| has the absolute values,

    |computed - y| <= gamma_(C + 20) |A^T| [ sum_c (|G| |w_c| |G^T|) * (|B^T| |d_c| |B|) ] |A|

and likewise for dw of T tiles, with gamma_(T + 40). The direct sum has gamma_9C sum |d| |w|. Here gamma is smaller, and what it
multiplies larger: up to 256 times where pixels and taps are all of one size, and it is about the largest of 6 x 6 pixels also
for an output that does not see that one. tests/kernels/test_winograd.py holds the bound, and measures: on normal numbers the
error is four times that of the direct sum, in the Euclidean norm, and everywhere less than a fifth of what a direct sum may err
by. Whoever computes in float64 wants digits, and gets direct sums.

So NaN and infinity are not as in the definition. A NaN pixel makes NaN of all outputs of the tiles that hold it: of those that
see it, and of up to 3 more in each direction. Infinity, and numbers beyond 1e35, make NaN, too. What is not finite is never
hidden, and never leaves its image; but whoever needs borders between pixels must sum directly, as masked_conv2d does.
"""

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from .direct import fill_frame, pack, unpack
from .jit import inline, jit
from .threads import in_parts
from .tiles import FAST, HALF, NARROW, NO_BIAS, NO_OFFSET, PIXELS, Code, cover, pixel_sums, plain, row_sums, tile_for

CHANNELS = 24  # with fewer, in or out, the way to the 36 points and back costs more than it saves,
TILES = 16  # and with fewer tiles, the way of the weights
GROUPED_BYTES = 1 << 19  # of a group of tiles: what is multiplied, and what comes out
GROUPS, SUMMED_BYTES = 16, 1 << 20  # of images, for the gradient of w: as many as have sums of a megabyte in all


def suits(x, w_shape, padding, dtype):
    """Whether this file is the fast way, with stride 1, for x (N, H, W, C) and w (3, 3, C, O), both of `dtype`."""
    if not FAST or x.dtype != dtype or dtype != np.float32 or w_shape[:2] != (3, 3) or min(w_shape[2:]) < CHANNELS:
        return False
    rows, columns, down, across = _sizes(x.shape, padding)
    full = rows * columns >= 6 * down * across  # direct sums cost as much as tiles of which 4 outputs are used
    return full and len(x) * down * across >= TILES and max(padding) <= 2  # beyond, outputs see nothing, and are to be exact


def convolve(x, w, padding, bias=None, relu=False):
    """y (N, H', W', O) for x (N, H, W, C), w (3, 3, C, O), padding (py, px) of zeros on all sides, bias (O,).

    With relu, of max(x, 0) in place of x.
    """
    rows, columns, down, across = _sizes(x.shape, padding)
    (N, *_, C), O, blocks = x.shape, w.shape[3], cover(w.shape[3])
    values = np.empty((36, C, O), np.float32)
    _transform_all(plain(w).reshape(9, -1), values.reshape(36, -1), True)
    values, bias = pack(values, blocks), np.zeros(O, np.float32) if bias is None else plain(bias)
    x, y, tile = plain(x), np.empty((N, rows, columns, O), np.float32), tile_for(max(PIXELS[1], N * down * across))

    def images(first, last):
        _convolve(x[first:last], relu, values, *blocks, bias, *padding, y[first:last], down, across, tile, _group(C + O, tile))

    in_parts(images, N, 36 * N * down * across * C * O)
    return y


def weight_gradient(x, g, padding, relu=False):
    """dw (3, 3, C, O) for x (N, H, W, C), g (N, H', W', O); with relu, of max(x, 0) in place of x."""
    _, _, down, across = _sizes(x.shape, padding)
    (N, *_, C), O, blocks = x.shape, g.shape[3], cover(g.shape[3])
    x, g, size = plain(x), plain(g), 36 * C * int(blocks[1].sum())
    groups = max(1, min(N, GROUPS, SUMMED_BYTES // (4 * size), N * down * across // TILES))
    sums = np.zeros((groups, size), np.float32)

    def images(first, last):
        for i in range(first, last):
            group = slice(N * i // groups, N * (i + 1) // groups)
            _weight_gradient(x[group], relu, g[group], *padding, down, across, _group(C + O), *blocks, sums[i])

    in_parts(images, groups, 36 * N * down * across * C * O)
    dw = np.empty((3, 3, C, O), np.float32)
    _transform_all(unpack(sums.sum(axis=0), blocks, (36, C, O)).reshape(36, -1), dw.reshape(9, -1), False)
    return dw


def _sizes(shape, padding):
    """Rows and columns of y, and of its tiles."""
    rows, columns = (n + 2 * p - 2 for n, p in zip(shape[1:3], padding))
    return rows, columns, -(-rows // 4), -(-columns // 4)


def _group(channels, tile=PIXELS[0]):
    """How many tiles of images are in the cache together: full tiles of the product."""
    return max(1, GROUPED_BYTES // (4 * 36 * tile * channels)) * tile


def _at_points(d):
    """B^T d, for six numbers or vectors."""
    s, t, u, v = d[4] - 4 * d[2], d[3] - 4 * d[1], d[4] - d[2], 2 * (d[3] - d[1])
    return 4 * d[0] - 5 * d[2] + d[4], s + t, s - t, u + v, u - v, 4 * d[1] - 5 * d[3] + d[5]


def _from_points(m):
    """A^T m."""
    s, t, u, v = m[1] + m[2], m[1] - m[2], m[3] + m[4], m[3] - m[4]
    return m[0] + s + u, t + 2 * v, s + 4 * u, t + 8 * v + m[5]


def _of_gradient(g):
    """A g, for four."""
    s, t, u, v = g[0] + g[2], g[1] + g[3], g[0] + 4 * g[2], 2 * (g[1] + 4 * g[3])
    return g[0], s + t, s - t, u + v, u - v, g[3]


def _of_weights(w):
    """G w, for three."""
    s, t, u = w[0] + w[2], w[0] + 4 * w[2], 2 * w[1]
    return 1 / 4 * w[0], -1 / 6 * (s + w[1]), -1 / 6 * (s - w[1]), 1 / 24 * (t + u), 1 / 24 * (t - u), 1 * w[2]


def _to_weights(d):
    """G^T d."""
    s, t = d[1] + d[2], d[3] + d[4]
    return 1 / 4 * d[0] - 1 / 6 * s + 1 / 24 * t, 1 / 6 * (d[2] - d[1]) + 1 / 12 * (d[3] - d[4]), 1 / 6 * (t - s) + d[5]


def _transform(along, n, width=NARROW):
    """A function for Numba code: (x, x_row, x_step, y, y_row, y_step), y = M x M^T for n x n registers x, where along(a) = M a.

    x and y are addresses; the steps lead from row to row, and from one register's numbers to the next's.
    """

    @intrinsic
    def tile(typing, x, x_row, x_step, y, y_row, y_step):
        def generate(context, builder, signature, arguments):
            x, x_row, x_step, y, y_row, y_step = arguments
            code = Code(builder, width)

            def place(start, row, step, i, j):
                return code.ahead(start, builder.add(code.times(row, i), code.times(step, j)))

            d = [[Vector(builder, code.load(place(x, x_row, x_step, i, j), 0)) for i in range(n)] for j in range(n)]
            for i, row in enumerate(zip(*map(along, d))):
                for j, vector in enumerate(along(row)):
                    code.store(vector.value, place(y, y_row, y_step, i, j), 0)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 6), generate

    return tile


class Vector:
    """A register of numbers in code that is being written: sums, differences and multiples of it become instructions."""

    def __init__(self, builder, value):
        self.builder, self.value = builder, value

    def __add__(self, other):
        return Vector(self.builder, self.builder.fadd(self.value, other.value, ("contract",)))

    def __sub__(self, other):
        return Vector(self.builder, self.builder.fsub(self.value, other.value, ("contract",)))

    def __rmul__(self, number):
        number = ir.Constant(self.value.type, [float(number)] * self.value.type.count)
        return Vector(self.builder, self.builder.fmul(number, self.value, ("contract",)))


pixels_at_points, half_of_pixels = _transform(_at_points, 6), _transform(_at_points, 6, HALF)
gradient_at_points, half_of_gradient = _transform(_of_gradient, 4), _transform(_of_gradient, 4, HALF)
outputs_from_points, half_of_outputs = _transform(_from_points, 6), _transform(_from_points, 6, HALF)
weights_at_points, weights_from_points = _transform(_of_weights, 3), _transform(_to_weights, 6)


@jit
def _transform_all(x, y, to_points):
    """y (36, n) = G x G^T for x (9, n); or back, y (9, n) = G^T x G for x (36, n)."""
    n = x.shape[1]
    for first in range(0, n, NARROW):
        k = min(first, n - NARROW)
        if to_points:
            weights_at_points(x[0, k:].ctypes.data, 3 * n, n, y[0, k:].ctypes.data, 6 * n, n)
        else:
            weights_from_points(x[0, k:].ctypes.data, 6 * n, n, y[0, k:].ctypes.data, 3 * n, n)


@jit
def _convolve(x, relu, w, starts, widths, bias, py, px, y, down, across, tile, group):
    (N, _, _, C), O = x.shape, y.shape[3]
    frame, Wp = _frame(x, py, px, down, across)
    d, m = np.zeros((36, group, C), np.float32), np.empty((36, group, O), np.float32)
    aside = np.empty((4, 4, NARROW), np.float32)
    for first in range(0, N * down * across, group):
        here = min(group, N * down * across - first)
        _pixels(x, relu, frame, Wp, py, px, first, here, down, across, d)
        for e in range(36):
            block, values = w.ctypes.data, d[e].ctypes.data
            for k in range(starts.size):
                # a number at the points (1, 1), and 0 at the others, is that number in every output
                start = bias[starts[k] :].ctypes.data if e == 7 else NO_BIAS.ctypes.data
                weights, sums = block + 4 * e * C * widths[k], m[e, :, starts[k] :].ctypes.data
                pixel_sums(tile, widths[k], max(here, tile), values, NO_OFFSET.ctypes.data, 1, C, C, weights, start, sums, O)
                block += 4 * 36 * C * widths[k]
        for t in range(here):
            n, place = divmod(first + t, down * across)
            _finish(m, t, y[n], 4 * (place // across), 4 * (place % across), aside)


@jit
def _weight_gradient(x, relu, g, py, px, down, across, group, starts, widths, sums):
    (N, _, _, C), O = x.shape, g.shape[3]
    frame, Wp = _frame(x, py, px, down, across)
    d, m = np.empty((36, group, C), np.float32), np.empty((36, group, O), np.float32)
    aside = np.empty((4, 4, NARROW), np.float32)
    for first in range(0, N * down * across, group):
        here = min(group, N * down * across - first)
        _pixels(x, relu, frame, Wp, py, px, first, here, down, across, d)
        for t in range(here):
            n, place = divmod(first + t, down * across)
            _begin(g[n], 4 * (place // across), 4 * (place % across), m, t, aside)
        for e in range(36):
            block = sums.ctypes.data
            for k in range(starts.size):
                width, gradients = widths[k], m[e, :, starts[k] :].ctypes.data
                row_sums(C, width, d[e].ctypes.data, 0, C, gradients, 0, O, 1, here, block + 4 * e * C * width, width)
                block += 4 * 36 * C * width


@jit
def _frame(x, py, px, down, across):
    """Zeros for an image and what tiles read around it, flat; and its width."""
    _, H, W, C = x.shape
    Hp, Wp = max(H + py, 4 * down + 2), max(W + px, 4 * across + 2)
    return np.zeros(Hp * Wp * C, np.float32), Wp


@inline
def _piece(o, O):
    """The next channels from o on: where they begin, and how many; at the end, some once more (see `cover`)."""
    width = NARROW if O - o > HALF and O >= NARROW else HALF
    return min(o, O - width), width


@jit
def _pixels(x, relu, frame, Wp, py, px, first, count, down, across, d):
    """d[:, t] = B^T d B, for tiles from the first on."""
    (_, _, _, C), (_, group, _), in_frame = x.shape, d.shape, -1
    for t in range(count):
        n, place = divmod(first + t, down * across)
        if n != in_frame:
            fill_frame(frame, x[n], Wp, py, px, relu)
            in_frame = n
        start, o = frame.ctypes.data + 16 * (place // across * Wp + place % across) * C, 0
        while o < C:
            c, width = _piece(o, C)
            pixels, target = start + 4 * c, d.ctypes.data + 4 * (t * C + c)
            if width == NARROW:
                pixels_at_points(pixels, Wp * C, C, target, 6 * group * C, group * C)
            else:
                half_of_pixels(pixels, Wp * C, C, target, 6 * group * C, group * C)
            o = c + width


@jit
def _begin(g, i, j, m, t, aside):
    """m[:, t] = A g A^T, of g[i : i + 4, j : j + 4], with zeros beyond its edges."""
    (H, W, O), step, next = g.shape, m[0].size, 0
    rows, columns = min(4, H - i), min(4, W - j)
    while next < O:
        o, width = _piece(next, O)
        source, g_row, g_step, target = g[i, j, o:].ctypes.data, W * O, O, m[0, t, o:].ctypes.data
        if rows < 4 or columns < 4:
            aside[:] = np.float32(0)
            for a in range(rows):
                for b in range(columns):
                    for k in range(width):
                        aside[a, b, k] = g[i + a, j + b, o + k]
            source, g_row, g_step = aside.ctypes.data, 4 * NARROW, NARROW
        if width == NARROW:
            gradient_at_points(source, g_row, g_step, target, 6 * step, step)
        else:
            half_of_gradient(source, g_row, g_step, target, 6 * step, step)
        next = o + width


@jit
def _finish(m, t, y, i, j, aside):
    """y[i : i + 4, j : j + 4] = A^T m A, of tile t of a group; as far as y goes."""
    (H, W, O), step, next = y.shape, m[0].size, 0
    rows, columns = min(4, H - i), min(4, W - j)
    whole = rows == columns == 4
    while next < O:
        o, width = _piece(next, O)
        sums, target, y_row, y_step = m[0, t, o:].ctypes.data, y[i, j, o:].ctypes.data, W * O, O
        if not whole:
            target, y_row, y_step = aside.ctypes.data, 4 * NARROW, NARROW
        if width == NARROW:
            outputs_from_points(sums, 6 * step, step, target, y_row, y_step)
        else:
            half_of_outputs(sums, 6 * step, step, target, y_row, y_step)
        if not whole:
            for a in range(rows):
                for b in range(columns):
                    for k in range(width):
                        y[i + a, j + b, o + k] = aside[a, b, k]
        next = o + width
