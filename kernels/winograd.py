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

import math

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from .direct import fill_frame
from .jit import jit
from .threads import in_parts
from .tiles import FAST, NO_BIAS, NO_OFFSET, PIXELS, ROWS, VECTOR, WIDE, WIDTH, Code, pixel_sums, plain, row_sums, tile_for

CHANNELS = 32  # with fewer, in or out, the way to the 36 points and back costs more than it saves,
TILES = 16  # and with fewer tiles, the way of the weights
GROUPED_BYTES = 1 << 19  # of a group of tiles: what is multiplied, and what comes out
GROUPS, SUMMED_BYTES = 16, 1 << 20  # of images, for the gradient of w: as many as have sums of a megabyte in all

G = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]], np.float32) / np.float32(24)


def suits(x, w_shape, padding, dtype):
    """Whether this file is the fast way, with stride 1, for x (N, H, W, C) and w (3, 3, C, O), both of `dtype`."""
    if not FAST or x.dtype != dtype or dtype != np.float32 or w_shape[:2] != (3, 3) or min(w_shape[2:]) < CHANNELS:
        return False
    rows, columns, down, across = _sizes(x.shape, padding)
    full = rows * columns >= 6 * down * across  # direct sums cost as much as tiles of which 4 outputs are used
    return full and len(x) * down * across >= TILES and max(padding) <= 2  # beyond, outputs see nothing, and are to be exact


def convolve(x, w, padding, bias=None):
    """y (N, H', W', O) for x (N, H, W, C), w (3, 3, C, O), padding (py, px) of zeros on all sides, bias (O,)."""
    rows, columns, down, across = _sizes(x.shape, padding)
    (N, *_, C), O = x.shape, w.shape[3]
    values = _in_blocks(np.matmul(G, np.matmul(G, w.reshape(3, -1)).reshape(6, 3, -1)).reshape(36, C, O))
    bias = _in_blocks(np.zeros((1, 1, O)) if bias is None else bias.reshape(1, 1, O))
    x, y, tile = plain(x), np.empty((N, rows, columns, O), np.float32), tile_for(max(PIXELS[1], N * down * across))

    def images(first, last):
        _convolve(x[first:last], values, bias[0], *padding, y[first:last], down, across, tile, _group(C + O, tile))

    in_parts(images, N, 36 * N * down * across * C * O)
    return y


def weight_gradient(x, g, padding):
    """dw (3, 3, C, O) for x (N, H, W, C), g (N, H', W', O)."""
    _, _, down, across = _sizes(x.shape, padding)
    (N, *_, C), O = x.shape, g.shape[3]
    x, g = plain(x), plain(g)
    shape = 36, _rounded(C, ROWS), _rounded(O, WIDE)
    groups = max(1, min(N, GROUPS, SUMMED_BYTES // (4 * math.prod(shape))))
    sums = np.zeros((groups, *shape), np.float32)

    def images(first, last):
        for i in range(first, last):
            group = slice(N * i // groups, N * (i + 1) // groups)
            _weight_gradient(x[group], g[group], *padding, down, across, _group(C + O), sums[i])

    in_parts(images, groups, 36 * N * down * across * C * O)
    sums = sums.sum(axis=0)[:, :C, :O].reshape(6, 6, C * O)
    return np.matmul(G.T, np.matmul(G.T, sums).reshape(6, -1)).reshape(3, 3, C, O)


def _sizes(shape, padding):
    """Rows and columns of y, and of its tiles."""
    rows, columns = (n + 2 * p - 2 for n, p in zip(shape[1:3], padding))
    return rows, columns, -(-rows // 4), -(-columns // 4)


def _rounded(n, step):
    return -(-n // step) * step


def _group(channels, tile=PIXELS[0]):
    """How many tiles of images are in the cache together: full tiles of the product."""
    return max(1, GROUPED_BYTES // (4 * 36 * tile * channels)) * tile


def _in_blocks(w):
    """(n, C, O) -> (n, blocks, C, WIDE): the weights of a tile side by side, zeros where O ends within it."""
    n, C, O = w.shape
    blocks = np.zeros((n, -(-O // WIDE), C, WIDE), np.float32)
    for k in range(blocks.shape[1]):
        part = w[:, :, k * WIDE : (k + 1) * WIDE]
        blocks[:, k, :, : part.shape[2]] = part
    return blocks


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


def _transform(along, n):
    """A function for Numba code: (x, x_row, x_step, y, y_row, y_step), y = M x M^T for n x n registers x, where along(a) = M a.

    x and y are addresses; the steps lead from row to row, and from one register's numbers to the next's.
    """

    @intrinsic
    def tile(typing, x, x_row, x_step, y, y_row, y_step):
        def generate(context, builder, signature, arguments):
            x, x_row, x_step, y, y_row, y_step = arguments
            code = Code(builder)

            def place(start, row, step, i, j):
                return code.number(start, builder.add(code.times(row, i), code.times(step, j)))

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
        number = ir.Constant(VECTOR, [float(number)] * WIDTH)
        return Vector(self.builder, self.builder.fmul(number, self.value, ("contract",)))


pixels_at_points, gradient_at_points = _transform(_at_points, 6), _transform(_of_gradient, 4)
outputs_from_points = _transform(_from_points, 6)


@jit
def _convolve(x, w, bias, py, px, y, down, across, tile, group):
    (N, _, _, C), blocks = x.shape, w.shape[1]
    frame, Wp = _frame(x, py, px, down, across)
    C_step, O_step = -(-C // WIDTH) * WIDTH, blocks * WIDE
    d, m = np.zeros((36, group, C_step), np.float32), np.empty((36, group, O_step), np.float32)
    aside = np.empty((4, 4, WIDTH), np.float32)
    for first in range(0, N * down * across, group):
        here = min(group, N * down * across - first)
        _pixels(x, frame, Wp, py, px, first, here, down, across, d)
        for e in range(36):
            for block in range(blocks):
                # a number at the points (1, 1), and 0 at the others, is that number in every output
                start = bias[block].ctypes.data if e == 7 else NO_BIAS.ctypes.data
                weights = w[e, block].ctypes.data
                for t in range(0, here, tile):
                    values, sums = d.ctypes.data + 4 * (e * group + t) * C_step, m[e, t, block * WIDE :].ctypes.data
                    pixel_sums(tile, WIDE, values, NO_OFFSET.ctypes.data, 1, C, C_step, weights, start, sums, O_step)
        for t in range(here):
            n, place = divmod(first + t, down * across)
            _finish(m, t, y[n], 4 * (place // across), 4 * (place % across), aside)


@jit
def _weight_gradient(x, g, py, px, down, across, group, sums):
    (N, _, _, C), (_, C_rows, O_step) = x.shape, sums.shape
    frame, Wp = _frame(x, py, px, down, across)
    C_step = -(-C // WIDTH) * WIDTH
    d, m = np.zeros((36, group, C_step), np.float32), np.zeros((36, group, O_step), np.float32)
    aside = np.empty((4, 4, WIDTH), np.float32)
    for first in range(0, N * down * across, group):
        here = min(group, N * down * across - first)
        _pixels(x, frame, Wp, py, px, first, here, down, across, d)
        for t in range(here):
            n, place = divmod(first + t, down * across)
            _begin(g[n], 4 * (place // across), 4 * (place % across), m, t, aside)
        for e in range(36):
            values, gradients = d[e].ctypes.data, m[e].ctypes.data
            for c in range(0, C_rows, ROWS):
                for o in range(0, O_step, WIDE):
                    target = sums[e, c, o:].ctypes.data
                    row_sums(WIDE, values + 4 * c, 0, C_step, gradients + 4 * o, 0, O_step, 1, here, target, O_step)


@jit
def _frame(x, py, px, down, across):
    """Zeros for an image and what tiles read around it, flat; and its width."""
    _, H, W, C = x.shape
    Hp, Wp = max(H + py, 4 * down + 2), max(W + px, 4 * across + 2)
    return np.zeros(Hp * Wp * C + WIDTH, np.float32), Wp  # of the last pixel, a register may read beyond the channels


@jit
def _pixels(x, frame, Wp, py, px, first, count, down, across, d):
    """d[:, t] = B^T d B, for tiles from the first on."""
    (_, _, _, C), (_, group, C_step), in_frame = x.shape, d.shape, -1
    for t in range(count):
        n, place = divmod(first + t, down * across)
        if n != in_frame:
            fill_frame(frame, x[n], Wp, py, px)
            in_frame = n
        start = frame.ctypes.data + 16 * (place // across * Wp + place % across) * C
        for c in range(0, C, WIDTH):
            target = d.ctypes.data + 4 * (t * C_step + c)
            pixels_at_points(start + 4 * c, Wp * C, C, target, 6 * group * C_step, group * C_step)


@jit
def _begin(g, i, j, m, t, aside):
    """m[:, t] = A g A^T, of g[i : i + 4, j : j + 4], with zeros beyond its edges."""
    (H, W, O), (_, group, O_step) = g.shape, m.shape
    rows, columns, step = min(4, H - i), min(4, W - j), group * O_step
    for o in range(0, O, WIDTH):
        target, channels = m[0, t, o:].ctypes.data, min(WIDTH, O - o)
        if rows == columns == 4 and channels == WIDTH:
            gradient_at_points(g[i, j, o:].ctypes.data, W * O, O, target, 6 * step, step)
        else:
            aside[:] = np.float32(0)
            for a in range(rows):
                for b in range(columns):
                    for k in range(channels):
                        aside[a, b, k] = g[i + a, j + b, o + k]
            gradient_at_points(aside.ctypes.data, 4 * WIDTH, WIDTH, target, 6 * step, step)


@jit
def _finish(m, t, y, i, j, aside):
    """y[i : i + 4, j : j + 4] = A^T m A, of tile t of a group; as far as y goes."""
    (H, W, O), (_, group, O_step) = y.shape, m.shape
    rows, columns, step = min(4, H - i), min(4, W - j), group * O_step
    for o in range(0, O, WIDTH):
        sums, channels = m[0, t, o:].ctypes.data, min(WIDTH, O - o)
        if rows == columns == 4 and channels == WIDTH:
            outputs_from_points(sums, 6 * step, step, y[i, j, o:].ctypes.data, W * O, O)
        else:
            outputs_from_points(sums, 6 * step, step, aside.ctypes.data, 4 * WIDTH, WIDTH)
            for a in range(rows):
                for b in range(columns):
                    for k in range(channels):
                        y[i + a, j + b, o + k] = aside[a, b, k]
