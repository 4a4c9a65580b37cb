r"""Convolution by Winograd's minimal filtering, in float32: 36 multiplications for 16 outputs of 3 x 3 taps, and not 144.

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

4 x 4 taps with stride 2, on which a DCGAN goes down and up, come to the same. Of x, take four images, of even and of odd rows
and columns: each meets 2 x 2 of the taps, with stride 1, and y is the sum, as if they were 4 C channels. 5 points do for 4
outputs of 2 taps in a row (0, 1, -1, 2, infinity): 25 multiplications for 16 outputs and a channel, and not 64. Going back, the
gradient for x is four such images, woven into one another.

    B^T = 2 -1 -2  1  0     G = 1/6 of  3  0     A^T = 1  1  1  1  0
          0 -2 -1  1  0                -3 -3           0  1 -1  2  0
          0  2 -3  1  0                -1  1           0  1  1  4  0
          0 -1  0  1  0                 1  2           0  1 -1  8  1
          0  2 -1 -2  1                 0  6

How wrong it is. On its way to y, a number passes at most 6 roundings in B^T d B, 8 in G w G^T, C in the products and 6 in
A^T m A; and so, with gamma_n = n u / (1 - n u) and u = 2^-24 (Higham 2002, section 3.1), where |M| has the absolute values,

    |computed - y| <= gamma_(C + 20) |A^T| [ sum_c (|G| |w_c| |G^T|) * (|B^T| |d_c| |B|) ] |A|

and likewise for dw of T tiles, with gamma_(T + 40); with stride 2, x has 4 C channels. The direct sum has gamma_9C sum |d| |w|.
Here gamma is smaller, and what it multiplies larger: up to 256 times where pixels and taps are all of one size, and it is about
the largest of 6 x 6 pixels also for an output that does not see that one. tests/kernels/test_winograd.py holds the bound, and
measures: on normal numbers the error is four times that of the direct sum, in the Euclidean norm, and everywhere less than a
fifth of what a direct sum may err by. Whoever computes in float64 wants digits, and gets direct sums.

So NaN and infinity are not as in the definition. A NaN pixel makes NaN of all outputs that see it, and of others in the same
tiles: up to 3 more in each direction (in dx, with stride 2, 7). Infinity, and numbers beyond 1e35, make NaN, too. What is not
finite is never hidden, and never leaves its image; but whoever needs borders between pixels must sum directly, as masked_conv2d
does.
"""

from functools import lru_cache

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from .direct import fill_frame
from .jit import call, inline, jit, machine_code
from .threads import in_parts
from .tiles import (
    FAST,
    HALF,
    NARROW,
    NO_BIAS,
    NO_OFFSET,
    PIXELS,
    Code,
    cover,
    pixel_codes,
    pixel_sums,
    plain,
    row_codes,
    row_sums,
    tile_for,
)  # fmt: skip

CHANNELS = 24  # with fewer, in or out, the way to the points and back costs more than it saves,
TILES = 16  # and with fewer tiles, the way of the weights
GROUPED_BYTES = 1 << 20  # of a group of tiles: what is multiplied, and what comes out
APART = NARROW  # numbers between the planes of a group, or all of them would want the same few places in the cache
GROUPS, SUMMED_BYTES = 16, 1 << 20  # of images, for the gradient of w: as many as have sums of a megabyte in all


def suits(x, w_shape, stride, padding, dtype):
    """Whether `convolve` and `weight_gradient` are the fast way, for x (N, H, W, C), w (k, k, C, O), both of `dtype`."""
    if not _fits(x, w_shape, stride, padding, dtype):
        return False
    rows, columns, *tiles = _sizes(x.shape[1:3], w_shape[0], padding)
    return _pays(len(x), rows * columns, *tiles, w_shape[0])


def suits_back(g, w_shape, size, stride, padding, dtype):
    """Whether `input_gradient` is, for g (N, H', W', O) and stride 2."""
    if stride == (1, 1) or not _fits(g, w_shape, stride, padding, dtype):
        return False
    if any(n % 2 and p == 0 for n, p in zip(size, padding)):  # nobody reads the last pixels: they are to be 0
        return False
    return _pays(len(g), size[0] * size[1] / 4, *_tiles_back(size, padding), w_shape[0])


def _fits(x, w_shape, stride, padding, dtype):
    if not FAST or x.dtype != dtype or dtype != np.float32 or min(w_shape[2:]) < CHANNELS:
        return False
    kernel = (w_shape[:2], stride) in (((3, 3), (1, 1)), ((4, 4), (2, 2)))
    return kernel and max(padding) < w_shape[0]  # with more, some outputs see nothing, and are to be exact


def _pays(N, outputs, down, across, kernel):
    """Where direct sums would need 1.4 times as many products: in small images, few outputs of a tile are wanted."""
    direct, here = outputs * (6 - kernel) ** 2, down * across * (9 - kernel) ** 2
    return direct >= 1.4 * here and N * down * across >= TILES


def convolve(x, w, padding, bias=None, relu=False):
    """y (N, H', W', O) for x (N, H, W, C), w (3, 3, C, O), or with stride 2 (4, 4, C, O), padding (py, px), bias (O,).

    With relu, of max(x, 0) in place of x.
    """
    rows, columns, *tiles = _sizes(x.shape[1:3], len(w), padding)
    y = np.empty((len(x), rows, columns, w.shape[3]), np.float32)
    if len(w) == 3:
        _convolve_into(y, 1, (0, 0), x, 1, padding, w, w.shape[2:], *tiles, bias, relu)
    else:
        C, O = w.shape[2:]
        _convolve_into(y, 1, (0, 0), x, 2, padding, _by_phases(w).transpose(0, 2, 1, 3, 4, 5), (4 * C, O), *tiles, bias, relu)
    return y


def input_gradient(g, w, size, padding):
    """dx (N, *size, C) for g (N, H', W', O), w (4, 4, C, O) and stride 2."""
    dx = np.empty((len(g), *size, w.shape[2]), np.float32)
    before, first = tuple(1 - p // 2 for p in padding), tuple(-(p % 2) for p in padding)
    C, O = w.shape[2:]
    turned = _by_phases(w)[::-1, :, ::-1].transpose(0, 2, 5, 1, 3, 4)
    _convolve_into(dx, 2, first, g, 1, before, turned, (O, 4 * C), *_tiles_back(size, padding))
    return dx


def weight_gradient(x, g, kernel, padding, relu=False):
    """dw (k, k, C, O) for x (N, H, W, C), g (N, H', W', O), k = 3 or 4; with relu, of max(x, 0) in place of x."""
    _, _, down, across = _sizes(x.shape[1:3], kernel, padding)
    every, taps, n = kernel - 2, 6 - kernel, 9 - kernel
    N, C, O = len(x), every**2 * x.shape[3], g.shape[3]
    x, g, blocks, codes = plain(x), plain(g), cover(O), row_codes(O)
    transforms = *_codes(AT_POINTS, taps, x.shape[3]), *_codes(OF_GRADIENT, taps, O)
    size = n * n * C * int(blocks[1].sum())
    groups = max(1, min(N, GROUPS, SUMMED_BYTES // (4 * size), N * down * across // TILES))
    sums = np.empty((groups, size), np.float32)
    parts, ends = blocks.shape[1], np.cumsum([0, *(n * n * C * blocks[1])])

    def work(first, last):  # of a group, so many blocks of channels
        for i in range(first // parts, -(-last // parts)):
            group = slice(N * i // groups, N * (i + 1) // groups)
            k = slice(max(0, first - i * parts), min(parts, last - i * parts))
            part = sums[i, ends[k.start] : ends[k.stop]]
            part[:] = 0
            _weight_gradient(
                x[group], relu, every, g[group], *padding, down, across, n, _group(n, C + O), transforms,
                *blocks[:, k], codes[k], part,
            )  # fmt: skip

    in_parts(work, groups * parts, n * n * N * down * across * C * O)
    dw = np.empty((taps, taps, C, O), np.float32)
    sums = sums.sum(axis=0) if groups > 1 else sums[0]
    _of_all_weights(_codes(TO_WEIGHTS, taps, O), dw, sums, n, *blocks, back=True)
    if every == 2:
        dw = dw.reshape(2, 2, 2, 2, -1, O).transpose(0, 2, 1, 3, 4, 5).reshape(4, 4, -1, O)
    return dw


def _by_phases(w):
    """w (4, 4, C, O) as (tap, phase, tap, phase, C, O): what even rows or columns of pixels meet, and what odd ones."""
    return w.reshape(2, 2, 2, 2, *w.shape[2:])


def _sizes(image, kernel, padding):
    """Rows and columns of y, and of its tiles."""
    rows, columns = ((n + 2 * p - kernel) // (kernel - 2) + 1 for n, p in zip(image, padding))
    return rows, columns, -(-rows // 4), -(-columns // 4)


def _tiles_back(image, padding):
    """Of dx: of each of its four images, of which pixels before the first row and column are left out."""
    return tuple(-(-((n - 1 + p % 2) // 2 + 1) // 4) for n, p in zip(image, padding))


def _convolve_into(y, every, first, x, stride, padding, w, channels, down, across, bias=None, relu=False):
    """y in tiles, of every second row and column, from `first` on, if every = 2; x by phases if stride = 2."""
    N, taps, (C, O), blocks = len(x), len(w), channels, cover(channels[1])
    n, to_points = taps + 3, _codes(OF_WEIGHTS, taps, O)
    bias = np.zeros(O, np.float32) if bias is None else plain(bias)
    x, tile = plain(x), tile_for(max(PIXELS[0], N * down * across))
    codes, group = pixel_codes(tile, O), _group(n, C + O, tile)
    transforms = *_codes(AT_POINTS, taps, x.shape[3]), *_codes(FROM_POINTS, taps, y.shape[3])

    def images(a, b):
        # each thread makes its own: to write what another has in its cache takes ten times as long
        values = np.empty(n * n * C * int(blocks[1].sum()), np.float32)
        _of_all_weights(to_points, plain(w).reshape(taps, taps, C, O), values, n, *blocks, back=False)
        _convolve(
            x[a:b], relu, stride, values, *blocks, codes, bias, *padding, y[a:b], every, *first, down, across, n, tile, group,
            transforms,
        )  # fmt: skip

    in_parts(images, N, n * n * N * down * across * C * O)


def _group(n, channels, tile=PIXELS[0]):
    """How many tiles of images are in the cache together: full tiles of the product."""
    return max(1, GROUPED_BYTES // (4 * n * n * tile * channels)) * tile


class Three:
    """Taps in a row, with the matrices of the header: 6 points."""

    def at_points(d):
        """B^T d, for six numbers or vectors."""
        s, t, u, v = d[4] - 4 * d[2], d[3] - 4 * d[1], d[4] - d[2], 2 * (d[3] - d[1])
        return 4 * d[0] - 5 * d[2] + d[4], s + t, s - t, u + v, u - v, 4 * d[1] - 5 * d[3] + d[5]

    def from_points(m):
        """A^T m."""
        s, t, u, v = m[1] + m[2], m[1] - m[2], m[3] + m[4], m[3] - m[4]
        return m[0] + s + u, t + 2 * v, s + 4 * u, t + 8 * v + m[5]

    def of_gradient(g):
        """A g, for four."""
        s, t, u, v = g[0] + g[2], g[1] + g[3], g[0] + 4 * g[2], 2 * (g[1] + 4 * g[3])
        return g[0], s + t, s - t, u + v, u - v, g[3]

    def of_weights(w):
        """G w, for three."""
        s, t, u = w[0] + w[2], w[0] + 4 * w[2], 2 * w[1]
        return 1 / 4 * w[0], -1 / 6 * (s + w[1]), -1 / 6 * (s - w[1]), 1 / 24 * (t + u), 1 / 24 * (t - u), 1 * w[2]

    def to_weights(d):
        """G^T d."""
        s, t = d[1] + d[2], d[3] + d[4]
        return 1 / 4 * d[0] - 1 / 6 * s + 1 / 24 * t, 1 / 6 * (d[2] - d[1]) + 1 / 12 * (d[3] - d[4]), 1 / 6 * (t - s) + d[5]


class Two:
    """Taps in a row: 5 points."""

    def at_points(d):
        s = d[3] - d[1]
        return 2 * (d[0] - d[2]) + s, s - d[1] - d[2], s + 3 * (d[1] - d[2]), s, d[4] - d[2] - 2 * s

    def from_points(m):
        s, t = m[1] + m[2], m[1] - m[2]
        return m[0] + s + m[3], t + 2 * m[3], s + 4 * m[3], t + 8 * m[3] + m[4]

    def of_gradient(g):
        s, t = g[0] + g[2], g[1] + g[3]
        return g[0], s + t, s - t, g[0] + 2 * g[1] + 4 * (g[2] + 2 * g[3]), g[3]

    def of_weights(w):
        return 1 / 2 * w[0], -1 / 2 * (w[0] + w[1]), 1 / 6 * (w[1] - w[0]), 1 / 6 * (w[0] + 2 * w[1]), 1 * w[1]

    def to_weights(d):
        s, t = 1 / 2 * d[1], 1 / 6 * (d[3] - d[2])
        return 1 / 2 * d[0] - s + t, 1 / 6 * (d[2] + 2 * d[3]) - s + d[4]


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


WAYS = [(way.at_points, way.of_gradient, way.from_points, way.of_weights, way.to_weights) for way in (Two, Three)]
AT_POINTS, OF_GRADIENT, FROM_POINTS, OF_WEIGHTS, TO_WEIGHTS = range(5)


@intrinsic(prefer_literal=True)
def transform(typing, way, taps, width, x, x_row, x_step, y, y_row, y_step):
    """y = M x M^T for n x n registers x, where M is what WAYS names; the first three are literals, x and y addresses.

    The steps lead from row to row, and from one register's numbers to the next's.
    """
    sizes = way, taps, width
    way, taps, width = (size.literal_value for size in sizes)
    n = (taps + 3, 4, taps + 3, taps, taps + 3)[way]

    def generate(context, builder, signature, arguments):
        x, x_row, x_step, y, y_row, y_step = arguments[3:]
        code, along = Code(builder, width), WAYS[taps - 2][way]

        def place(start, row, step, i, j):
            return code.ahead(start, builder.add(code.times(row, i), code.times(step, j)))

        d = [[Vector(builder, code.load(place(x, x_row, x_step, i, j), 0)) for i in range(n)] for j in range(n)]
        for i, row in enumerate(zip(*map(along, d))):
            for j, vector in enumerate(along(row)):
                code.store(vector.value, place(y, y_row, y_step, i, j), 0)
        return context.get_dummy_value()

    return types.void(*sizes, *[types.int64] * 6), generate


@lru_cache(None)
def _codes(way, taps, channels):
    """The addresses of a transform for a register of channels, and for half a one: 0 where `_piece` gives none so short."""
    return _code(way, taps, NARROW), _code(way, taps, HALF) if 0 < channels % NARROW <= HALF else 0


@lru_cache(None)
def _code(way, taps, width):
    def code(x, x_row, x_step, y, y_row, y_step):
        transform(way, taps, width, x, x_row, x_step, y, y_row, y_step)

    return machine_code(code, way, taps, width)


@intrinsic
def transformed(typing, code, x, x_row, x_step, y, y_row, y_step):
    """For Numba code: the transform at the address `code`."""
    return types.void(*[types.int64] * 7), _called


def _called(context, builder, signature, arguments):
    return call(context, builder, arguments[0], arguments[1:])


@jit
def _of_all_weights(codes, w, values, n, starts, widths, back):
    """values, blocks of (n^2, C, width) one after another, = G w G^T for w (taps, taps, C, O); or back, w = G^T values G."""
    taps, _, C, O = w.shape
    block = values.ctypes.data
    for k in range(starts.size):
        width = widths[k]
        code = codes[0] if width >= NARROW else codes[1]
        for c in range(C):
            for o in range(0, width, NARROW):
                here, there = w[0, 0, c, starts[k] + o :].ctypes.data, block + 4 * (c * width + o)
                if back:
                    transformed(code, there, n * C * width, C * width, here, taps * C * O, C * O)
                else:
                    transformed(code, here, taps * C * O, C * O, there, n * C * width, C * width)
        block += 4 * n * n * C * width


@jit
def _convolve(
    x, relu, stride, w, starts, widths, codes, bias, py, px, y, every, i, j, down, across, n, tile, group, transforms
):  # fmt: skip
    N, C, O = x.shape[0], stride * stride * x.shape[3], every * every * y.shape[3]
    frame, Wp = _frame(x, stride, py, px, down, across, n)
    d, m = np.zeros((n * n, group * C + APART), np.float32), np.empty((n * n, group * O + APART), np.float32)
    aside = np.empty((4, 4, NARROW), np.float32)
    for first in range(0, N * down * across, group):
        here = min(group, N * down * across - first)
        _pixels(x, relu, stride, frame, Wp, py, px, first, here, down, across, n, transforms[:2], d)
        for e in range(n * n):
            block, values = w.ctypes.data, d[e].ctypes.data
            for k in range(starts.size):
                # a number at the points (1, 1), and 0 at the others, is that number in every output
                start = bias[starts[k] :].ctypes.data if e == n + 1 else NO_BIAS.ctypes.data
                weights, sums = block + 4 * e * C * widths[k], m[e, starts[k] :].ctypes.data
                pixel_sums(codes[k], max(here, tile), values, NO_OFFSET.ctypes.data, 1, C, C, weights, start, sums, O)
                block += 4 * n * n * C * widths[k]
        for t in range(here):
            image, place = divmod(first + t, down * across)
            _finish(
                m,
                t,
                n,
                transforms[2:],
                y[image],
                every,
                i + 4 * every * (place // across),
                j + 4 * every * (place % across),
                aside,
            )


@jit
def _weight_gradient(x, relu, stride, g, py, px, down, across, n, group, transforms, starts, widths, codes, sums):
    N, C = x.shape[0], stride * stride * x.shape[3]
    o = starts[0]
    O = starts[-1] + widths[-1] - o
    frame, Wp = _frame(x, stride, py, px, down, across, n)
    d, m = np.empty((n * n, group * C + APART), np.float32), np.empty((n * n, group * O + APART), np.float32)
    aside = np.empty((4, 4, NARROW), np.float32)
    for first in range(0, N * down * across, group):
        here = min(group, N * down * across - first)
        _pixels(x, relu, stride, frame, Wp, py, px, first, here, down, across, n, transforms[:2], d)
        for t in range(here):
            image, place = divmod(first + t, down * across)
            _begin(g[image], 4 * (place // across), 4 * (place % across), o, O, n, transforms[2:], m, t, aside)
        for e in range(n * n):
            block = sums.ctypes.data
            for k in range(starts.size):
                width, gradients = widths[k], m[e, starts[k] - o :].ctypes.data
                row_sums(codes[k], C, d[e].ctypes.data, 0, C, gradients, 0, O, 1, here, block + 4 * e * C * width, width)
                block += 4 * n * n * C * width


@jit
def _frame(x, stride, py, px, down, across, n):
    """Zeros for an image and what tiles read around it, flat; and its width."""
    _, H, W, C = x.shape
    Hp, Wp = max(H + py, stride * (4 * down + n - 4)), max(W + px, stride * (4 * across + n - 4))
    return np.zeros(Hp * Wp * C, np.float32), Wp


@inline
def _piece(o, O):
    """The next channels from o on: where they begin, and how many; at the end, some once more (see `cover`)."""
    width = NARROW if O - o > HALF and O >= NARROW else HALF
    return min(o, O - width), width


@inline
def _copy(width, x, y):
    """So many numbers: twice the same loop, each of a length that is known when it is compiled."""
    if width == NARROW:
        for k in range(NARROW):
            y[k] = x[k]
    else:
        for k in range(HALF):
            y[k] = x[k]


@jit
def _pixels(x, relu, stride, frame, Wp, py, px, first, count, down, across, n, codes, d):
    """d[:, t] = B^T d B, for tiles from the first on; with stride 2, of four images one after another."""
    C, step, in_frame = x.shape[3], d.shape[1], -1
    for t in range(count):
        image, place = divmod(first + t, down * across)
        if image != in_frame:
            fill_frame(frame, x[image], Wp, py, px, relu)
            in_frame = image
        start, target = (
            frame.ctypes.data + 16 * stride * (place // across * Wp + place % across) * C,
            d[0, t * stride * stride * C :].ctypes.data,
        )
        for a in range(stride):
            for b in range(stride):
                o = 0
                while o < C:
                    c, width = _piece(o, C)
                    pixels = start + 4 * ((a * Wp + b) * C + c)
                    transformed(
                        codes[1 if width == HALF else 0], pixels, stride * Wp * C, stride * C, target + 4 * c, n * step, step
                    )
                    o = c + width
                target += 4 * C


@jit
def _begin(g, i, j, start, O, n, codes, m, t, aside):
    """m[:, t] = A g A^T, of g[i : i + 4, j : j + 4] and channels from `start` on, with zeros beyond its edges."""
    (H, W, _), step, next = g.shape, m.shape[1], 0
    rows, columns = min(4, H - i), min(4, W - j)
    while next < O:
        o, width = _piece(next, O)
        source, g_row, g_step = g[i, j, start + o :].ctypes.data, W * g.shape[2], g.shape[2]
        if rows < 4 or columns < 4:
            aside[:] = np.float32(0)
            for a in range(rows):
                for b in range(columns):
                    _copy(width, g[i + a, j + b, start + o :], aside[a, b])
            source, g_row, g_step = aside.ctypes.data, 4 * NARROW, NARROW
        transformed(codes[1 if width == HALF else 0], source, g_row, g_step, m[0, t * O + o :].ctypes.data, n * step, step)
        next = o + width


@jit
def _finish(m, t, n, codes, y, every, i, j, aside):
    """A^T m A, of tile t of a group, to 4 x 4 pixels of y from (i, j) on, `every` apart; as far as y goes.

    With every = 2, four times, of channels one after another: for even and odd rows and columns.
    """
    (H, W, O), step = y.shape, m.shape[1]
    for phase in range(every * every):
        row, column = i + phase // every, j + phase % every
        whole = row >= 0 and column >= 0 and row + 3 * every < H and column + 3 * every < W
        next = 0
        while next < O:
            o, width = _piece(next, O)
            sums = m[0, (t * every * every + phase) * O + o :].ctypes.data
            code = codes[1 if width == HALF else 0]
            if whole:
                transformed(code, sums, n * step, step, y[row, column, o:].ctypes.data, every * W * O, every * O)
            else:
                transformed(code, sums, n * step, step, aside.ctypes.data, 4 * NARROW, NARROW)
                for a in range(4):
                    for b in range(4):
                        p, q = row + every * a, column + every * b
                        if 0 <= p < H and 0 <= q < W:
                            _copy(width, aside[a, b], y[p, q, o:])
            next = o + width
