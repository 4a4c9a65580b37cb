r"""The innermost loops of a convolution: tiles of sums that stay in registers, written in LLVM's language.

A vector register holds 16 numbers (8 on older processors). Two fused multiply-adds can begin in each cycle, and each takes
four: so eight or more sums must be under way at once, all in registers, and each number that is loaded must be used often.
Compilers do not find this from loops over arrays. The two tiles here say it outright: which sums there are, and in what order
their terms come. All else, padding, strides, masks, transposes, is in the addresses that they are given (see direct.py).

    pixel_tile    y[p, o] = bias[o] + \sum_{t, c} x[offset_t + p step + c] w[t, c, o]      p < P pixels, o < V registers' width
    weight_tile   d[i, o] = d[i, o] + \sum_{r, q} x[r, q, i] g[r, q, o]                    i < I rows,   o < V registers' width

In the first a number of x is spread over a register and multiplied with a row of w, in the second with a row of g: an outer
product, added to the tile's sums. Addresses are integers; steps and offsets count float32 numbers. No bounds are checked.

The last part of the file holds the tiles that exist, and the choice among them. With one tap they multiply matrices: y = x w,
w cut into blocks as wide as a tile (`product`; see flash.py and winograd.py), and d += x^T g.
"""

import numpy as np
from llvmlite import binding, ir
from numba.core import cgutils, config, types
from numba.extending import intrinsic

from .jit import jit

FEATURES = binding.get_host_cpu_features()
WIDTH = 16 if FEATURES.get("avx512f") else 8  # float32 numbers in a vector register
# Without fused multiply-adds these tiles would be slow, and for another processor than this one nothing is known of them
FAST = FEATURES.get("fma", False) and config.CPU_NAME is None

INTEGER, NUMBER = ir.IntType(64), ir.FloatType()
VECTOR, INDICES = ir.VectorType(NUMBER, WIDTH), ir.VectorType(ir.IntType(32), WIDTH)


def pixel_tile(P, V):
    """A function for Numba code: (x, offsets, taps, channels, step, w, bias, y, y_step), all integers, five of them addresses.

    offsets (taps,) int64, w (taps, channels, V * WIDTH) and bias (V * WIDTH) are contiguous, and so is a pixel of y.
    """

    @intrinsic
    def tile(typing, x, offsets, taps, channels, step, w, bias, y, y_step):
        def generate(context, builder, signature, arguments):
            x, offsets, taps, channels, step, w, bias, y, y_step = arguments
            code = Code(builder)
            start = [code.load(bias, WIDTH * v) for v in range(V)]
            with code.loop(taps, [*start * P, w, offsets]) as over_taps:
                *sums, w_row, offset = over_taps.values
                first = code.number(x, code.integer_at(offset))
                # every third pixel has an address of its own, and those after it are one and two steps further: few registers
                thirds = [code.number(first, code.times(step, p)) for p in range(0, P, 3)]
                with code.loop(channels, [*sums, w_row, *thirds]) as over_channels:
                    sums, w_row, thirds = _cut(over_channels.values, P * V, 1)
                    row = [code.load(w_row[0], WIDTH * v) for v in range(V)]
                    for p in range(P):
                        pixel = code.spread(code.number(thirds[p // 3], code.times(step, p % 3)))
                        sums[p * V : (p + 1) * V] = code.add_products(pixel, row, sums[p * V : (p + 1) * V])
                    over_channels.next([*sums, code.number(w_row[0], WIDTH * V), *(code.number(a, 1) for a in thirds)])
                sums, w_row, _ = _cut(over_channels.last, P * V, 1)
                over_taps.next([*sums, w_row[0], code.bytes(offset, 8)])
            for p in range(P):
                pixel = code.number(y, code.times(y_step, p))
                for v in range(V):
                    code.store(over_taps.last[p * V + v], pixel, WIDTH * v)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 9), generate

    return tile


def weight_tile(I, V):
    """A function for Numba code: (x, x_row, x_step, g, g_row, g_step, rows, columns, d, d_step), all integers, three addresses.

    x_row and x_step lead from row to row and from pixel to pixel, and so for g; d_step leads from row to row of the tile.
    """

    @intrinsic
    def tile(typing, x, x_row, x_step, g, g_row, g_step, rows, columns, d, d_step):
        def generate(context, builder, signature, arguments):
            x, x_row, x_step, g, g_row, g_step, rows, columns, d, d_step = arguments
            code = Code(builder)
            places = [(code.number(d, code.times(d_step, i)), WIDTH * v) for i in range(I) for v in range(V)]
            with code.loop(rows, [*(code.load(*place) for place in places), x, g]) as over_rows:
                *_, x_first, g_first = over_rows.values
                with code.loop(columns, over_rows.values) as over_columns:
                    *sums, x, g = over_columns.values
                    row = [code.load(g, WIDTH * v) for v in range(V)]
                    for i in range(I):
                        pixel = code.spread(code.number(x, i))
                        sums[i * V : (i + 1) * V] = code.add_products(pixel, row, sums[i * V : (i + 1) * V])
                    over_columns.next([*sums, code.number(x, x_step), code.number(g, g_step)])
                sums = over_columns.last[: I * V]
                over_rows.next([*sums, code.number(x_first, x_row), code.number(g_first, g_row)])
            for value, place in zip(over_rows.last, places):
                code.store(value, *place)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 10), generate

    return tile


class Code:
    """The few instructions that the tiles are made of. Addresses are integers."""

    def __init__(self, builder):
        self.builder = builder
        self.multiply_add = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(VECTOR, [VECTOR] * 3), f"llvm.fma.v{WIDTH}f32"
        )

    def times(self, step, n):
        return self.builder.mul(step, INTEGER(n))

    def bytes(self, address, n):
        return self.builder.add(address, INTEGER(n))

    def number(self, address, n):
        """The address n float32 numbers further."""
        n = INTEGER(n) if isinstance(n, int) else n
        return self.builder.add(address, self.builder.shl(n, INTEGER(2)))

    def integer_at(self, address):
        return self.builder.load(self.builder.inttoptr(address, INTEGER.as_pointer()))

    def load(self, address, n):
        return self.builder.load(self._vector(address, n), align=4)

    def store(self, vector, address, n):
        self.builder.store(vector, self._vector(address, n), align=4)

    def _vector(self, address, n):
        return self.builder.inttoptr(self.number(address, n), VECTOR.as_pointer())

    def spread(self, address):
        """A register full of the number at that address."""
        number = self.builder.load(self.builder.inttoptr(address, NUMBER.as_pointer()))
        empty = ir.Constant(VECTOR, ir.Undefined)
        first = self.builder.insert_element(empty, number, ir.IntType(32)(0))
        return self.builder.shuffle_vector(first, empty, ir.Constant(INDICES, [0] * WIDTH))

    def add_products(self, a, row, sums):
        return [self.builder.call(self.multiply_add, [a, b, s]) for b, s in zip(row, sums)]

    def loop(self, count, values):
        return Loop(self.builder, count, values)


class Loop:
    """`with Loop(builder, count, values) as loop`: from loop.values make the next ones, and hand them to loop.next.

    The body runs count times, at least once. Afterwards loop.last are the values that the last turn made.
    """

    def __init__(self, builder, count, values):
        self.builder, self.count, self.first = builder, count, values

    def __enter__(self):
        before, builder = self.builder.block, self.builder
        self.body = builder.append_basic_block()
        builder.branch(self.body)
        builder.position_at_end(self.body)
        self.turn, *self.values = [builder.phi(value.type) for value in [self.count, *self.first]]
        for phi, value in zip([self.turn, *self.values], [INTEGER(0), *self.first]):
            phi.add_incoming(value, before)
        return self

    def next(self, values):
        self.last = values

    def __exit__(self, *_):
        turn = self.builder.add(self.turn, INTEGER(1))
        for phi, value in zip([self.turn, *self.values], [turn, *self.last]):
            phi.add_incoming(value, self.builder.block)
        after = self.builder.append_basic_block()
        self.builder.cbranch(self.builder.icmp_signed("<", turn, self.count), self.body, after)
        self.builder.position_at_end(after)


def _cut(values, *lengths):
    parts = []
    for n in lengths:
        parts.append(list(values[:n]))
        values = values[n:]
    return [*parts, list(values)]


# The tiles that exist

NARROW, WIDE = WIDTH, 2 * WIDTH  # sums of a tile for each pixel
ROWS = 8  # of a weight_tile
# Pixels of a tile: what divides the widths of images that are halved from 28, 32 or 64. With AVX-512 there are 32 registers,
# enough for 14 x 2 sums; before, 16, enough for 6 x 2.
PIXELS = (14, 8, 7, 4, 1) if WIDTH == 16 else (6, 5, 4, 3, 1)

wide_a, wide_b, wide_c, wide_d, wide_e = (pixel_tile(p, 2) for p in PIXELS)
narrow_a, narrow_b, narrow_c, narrow_d, narrow_e = (pixel_tile(p, 1) for p in PIXELS)
wide_rows, narrow_rows = weight_tile(ROWS, 2), weight_tile(ROWS, 1)

NO_OFFSET, NO_BIAS = np.zeros(1, np.int64), np.zeros(WIDE, np.float32)


def tile_for(columns):
    """The tile that computes the fewest pixels of a row, twice or not; single pixels, which are slow, only if there must be."""
    fitting = [p for p in PIXELS if p <= columns]
    return min(fitting[:-1] or fitting, key=lambda p: (-(-columns // p) * p, -p))


def plain(x):
    """Side by side in memory; and writeable, or Numba would compile anew."""
    return np.require(x, np.float32, "CW")


@jit
def width_for(O):
    return WIDE if O > NARROW else NARROW


@jit
def pixel_sums(tile, width, pixels, at, T, C, step, weights, bias, target, y_step):
    """The pixel_tile of so many pixels and sums; one line for each: Numba caches no function that was given another to call."""
    if width == WIDE:
        if tile == PIXELS[0]:
            wide_a(pixels, at, T, C, step, weights, bias, target, y_step)
        elif tile == PIXELS[1]:
            wide_b(pixels, at, T, C, step, weights, bias, target, y_step)
        elif tile == PIXELS[2]:
            wide_c(pixels, at, T, C, step, weights, bias, target, y_step)
        elif tile == PIXELS[3]:
            wide_d(pixels, at, T, C, step, weights, bias, target, y_step)
        else:
            wide_e(pixels, at, T, C, step, weights, bias, target, y_step)
    elif tile == PIXELS[0]:
        narrow_a(pixels, at, T, C, step, weights, bias, target, y_step)
    elif tile == PIXELS[1]:
        narrow_b(pixels, at, T, C, step, weights, bias, target, y_step)
    elif tile == PIXELS[2]:
        narrow_c(pixels, at, T, C, step, weights, bias, target, y_step)
    elif tile == PIXELS[3]:
        narrow_d(pixels, at, T, C, step, weights, bias, target, y_step)
    else:
        narrow_e(pixels, at, T, C, step, weights, bias, target, y_step)


@jit
def product(tile, width, x, step, C, w, y, y_step):
    r"""y[p, o] = \sum_c x[p step + c] w[c, o] for the pixels and the width of a tile."""
    pixel_sums(tile, width, x, NO_OFFSET.ctypes.data, 1, C, step, w, NO_BIAS.ctypes.data, y, y_step)


@jit
def row_sums(width, x, x_row, x_step, g, g_row, g_step, rows, columns, d, d_step):
    """The weight_tile of that width."""
    if width == WIDE:
        wide_rows(x, x_row, x_step, g, g_row, g_step, rows, columns, d, d_step)
    else:
        narrow_rows(x, x_row, x_step, g, g_row, g_step, rows, columns, d, d_step)
