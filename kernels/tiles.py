r"""The innermost loops of a convolution: tiles of sums that stay in registers, written in LLVM's language.

How fast can it be? A vector register holds 16 numbers (8 on older processors), and a fused multiply-add, s + a b, does so many
at once. A core begins one or two of them in each cycle. That is the roof: whatever does so many multiplications takes as long.

    2 x 16 flops x 1 multiply-add in a cycle x 3.7 GHz = 118 GFLOP/s        one core of an AMD EPYC (Zen 4)

A tile of 8 pixels here does 116, on numbers that lie in the cache; `python -m tests.bench` says what share of the roof each
kernel reaches. (More than all of it, if it does fewer multiplications than are counted: see winograd.py.)

Three things keep a loop below it.

    waiting      A multiply-add takes four cycles, and the next term of a sum must wait for it. So with two begun in each cycle,
                 eight sums must be under way at once.
    memory       A sum that lies in memory is loaded and stored for every term, three instructions for one, and the next load
                 waits for the store. So all sums stay in registers: 32 of them with AVX-512, before that 16.
    loads        A product has two factors. Loaded for one product each, they would take twice as many instructions as the
                 products. So they form an outer product: P numbers of x and V registers of w make P V products,

                          w   [ 16 channels ] [ 16 channels ]          loads     P + V       P = 8, V = 2:  10    P = 6:  8
                     x_0      [   16 sums   ] [   16 sums   ]          products  P V                        16           12
                     x_1      [   16 sums   ] [   16 sums   ]          registers P V + V + 1                19           15
                     ...

V = 2, as numbers of channels are often multiples of 32; and P = 8 or 7, or 4 for what is narrower, since images are 32, 16 or 8
pixels wide, or 28, 14 or 7. With 16 registers, P = 6 is all there is room for. 32 have room for P = 14, with fewer loads; but
the sums of a tile are stored all at once, and with registers to spare the next tile can begin meanwhile.

Compilers do not find this from loops over arrays: they keep arrays of sums in memory. The two tiles here say it outright: which
sums there are, and in what order their terms come. All else, padding, strides, masks, transposes, is in the addresses that they
are given (see direct.py).

    pixel_tile    y[p, o] = bias[o] + \sum_{t, c} x[offset_t + p step + c] w[t, c, o]      p < P pixels, o < V registers' width
    weight_tile   d[i, o] = d[i, o] + \sum_{r, q} x[r, q, offset_i] g[r, q, o]             i < I rows,   o < V registers' width
    row_tile      the same, where offset_i = i

In the first a number of x is spread over a register and multiplied with a row of w, in the second with a row of g. Addresses
are integers; steps and offsets count float32 numbers. No bounds are checked.

The last part of the file holds the tiles that exist, and the choice among them. With one tap they multiply matrices: y = x w,
w cut into blocks as wide as a tile (`product`; see flash.py and winograd.py), and d += x^T g.
"""

from functools import lru_cache

import numpy as np
from llvmlite import binding, ir
from numba.core import cgutils, config, types
from numba.extending import intrinsic

from .jit import call, inline, machine_code

FEATURES = binding.get_host_cpu_features()
WIDTH = 16 if FEATURES.get("avx512f") else 8  # float32 numbers in a vector register
# Without fused multiply-adds these tiles would be slow, for another processor than this one nothing is known of them, and
# Python cannot run them
FAST = FEATURES.get("fma", False) and config.CPU_NAME is None and not config.DISABLE_JIT

INTEGER, NUMBER = ir.IntType(64), ir.FloatType()


@intrinsic(prefer_literal=True)
def pixel_tile(typing, P, V, width, columns, x, offsets, taps, channels, step, w, bias, y, y_step):
    """For Numba code; P, V and the width of a register are known when it is compiled. x, offsets, w, bias and y are addresses.

    As many tiles as it takes for a row of `columns` pixels, P or more; the last may overlap the one before. offsets (taps,)
    int64, w (taps, channels, V * width) and bias (V * width) are contiguous, and so is a pixel of y.
    """
    sizes = P, V, width
    P, V, width = (size.literal_value for size in sizes)

    def generate(context, builder, signature, arguments):
        columns, x, offsets, taps, channels, step, w, bias, y, y_step = arguments[3:]
        code = Code(builder, width)
        start = [code.load(bias, width * v) for v in range(V)]
        with code.loop(code.quotient(columns, P), []) as over_tiles:
            first = code.least(code.times(over_tiles.turn, P), code.bytes(columns, -P))
            x, y = (code.ahead(address, builder.mul(first, s)) for address, s in ((x, step), (y, y_step)))
            with code.loop(taps, [*start * P, w, offsets]) as over_taps:
                *sums, w_row, offset = over_taps.values
                pixel = code.ahead(x, code.integer_at(offset))
                # every third pixel has an address of its own, those after it are one and two steps further: few registers
                thirds = [code.ahead(pixel, code.times(step, p)) for p in range(0, P, 3)]
                with code.loop(channels, [*sums, w_row, *thirds]) as over_channels:
                    sums, w_row, thirds = _cut(over_channels.values, P * V, 1)
                    row = [code.load(w_row[0], width * v) for v in range(V)]
                    for p in range(P):
                        number = code.spread(code.ahead(thirds[p // 3], code.times(step, p % 3)))
                        sums[p * V : (p + 1) * V] = code.add_products(number, row, sums[p * V : (p + 1) * V])
                    over_channels.next([*sums, code.ahead(w_row[0], width * V), *(code.ahead(a, 1) for a in thirds)])
                sums, w_row, _ = _cut(over_channels.last, P * V, 1)
                over_taps.next([*sums, w_row[0], code.bytes(offset, 8)])
            for p in range(P):
                pixel = code.ahead(y, code.times(y_step, p))
                for v in range(V):
                    code.store(over_taps.last[p * V + v], pixel, width * v)
            over_tiles.next([])
        return context.get_dummy_value()

    return types.void(*sizes, *[types.int64] * 10), generate


@intrinsic(prefer_literal=True)
def weight_tile(typing, I, V, width, tiles, x, offsets, x_row, x_step, g, g_row, g_step, rows, columns, d, d_step):
    """The same for the second; x, offsets, g and d are addresses.

    That many tiles, each I offsets (int64) and I rows of d further. x_row and x_step lead from row to row of the image and from
    pixel to pixel, and so for g; d_step leads from row to row of the tile.
    """
    sizes = I, V, width
    I, V, width = (size.literal_value for size in sizes)

    def generate(context, builder, signature, arguments):
        tiles, x, offsets, *rest, d, d_step = arguments[3:]
        code = Code(builder, width)
        with code.loop(tiles, [offsets, d]) as over_tiles:
            offset, d = over_tiles.values
            _outer_products(code, V, x, [code.integer_at(code.bytes(offset, 8 * i)) for i in range(I)], *rest, d, d_step)
            over_tiles.next([code.bytes(offset, 8 * I), code.ahead(d, code.times(d_step, I))])
        return context.get_dummy_value()

    return types.void(*sizes, *[types.int64] * 12), generate


@intrinsic(prefer_literal=True)
def row_tile(typing, I, V, width, tiles, x, x_row, x_step, g, g_row, g_step, rows, columns, d, d_step):
    """The same for the third: each tile is I numbers of x further."""
    sizes = I, V, width
    I, V, width = (size.literal_value for size in sizes)

    def generate(context, builder, signature, arguments):
        tiles, x, *rest, d, d_step = arguments[3:]
        code = Code(builder, width)
        with code.loop(tiles, [x, d]) as over_tiles:
            x, d = over_tiles.values
            _outer_products(code, V, x, range(I), *rest, d, d_step)
            over_tiles.next([code.ahead(x, I), code.ahead(d, code.times(d_step, I))])
        return context.get_dummy_value()

    return types.void(*sizes, *[types.int64] * 11), generate


def _outer_products(code, V, x, offsets, x_row, x_step, g, g_row, g_step, rows, columns, d, d_step):
    """One such tile."""
    I, width = len(offsets), code.vector.count
    places = [(code.ahead(d, code.times(d_step, i)), width * v) for i in range(I) for v in range(V)]
    with code.loop(rows, [*(code.load(*place) for place in places), x, g]) as over_rows:
        *_, x_first, g_first = over_rows.values
        with code.loop(columns, over_rows.values) as over_columns:
            *sums, pixel, gradient = over_columns.values
            row = [code.load(gradient, width * v) for v in range(V)]
            for i, offset in enumerate(offsets):
                number = code.spread(code.ahead(pixel, offset))
                sums[i * V : (i + 1) * V] = code.add_products(number, row, sums[i * V : (i + 1) * V])
            over_columns.next([*sums, code.ahead(pixel, x_step), code.ahead(gradient, g_step)])
        sums = over_columns.last[: I * V]
        over_rows.next([*sums, code.ahead(x_first, x_row), code.ahead(g_first, g_row)])
    for value, place in zip(over_rows.last, places):
        code.store(value, *place)


class Code:
    """The few instructions that the tiles are made of, for vectors of so many numbers. Addresses are integers."""

    def __init__(self, builder, width=WIDTH):
        self.builder, self.vector = builder, ir.VectorType(NUMBER, width)
        self.firsts = ir.Constant(ir.VectorType(ir.IntType(32), width), [0] * width)
        self.multiply_add = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(self.vector, [self.vector] * 3), f"llvm.fma.v{width}f32"
        )

    def times(self, step, n):
        return self.builder.mul(step, INTEGER(n))

    def quotient(self, n, step):
        """n / step, rounded up."""
        return self.builder.udiv(self.builder.add(n, INTEGER(step - 1)), INTEGER(step))

    def least(self, a, b):
        return self.builder.select(self.builder.icmp_signed("<", a, b), a, b)

    def bytes(self, address, n):
        return self.builder.add(address, INTEGER(n))

    def ahead(self, address, n):
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
        return self.builder.inttoptr(self.ahead(address, n), self.vector.as_pointer())

    def spread(self, address):
        """A register full of the number at that address."""
        number = self.builder.load(self.builder.inttoptr(address, NUMBER.as_pointer()))
        empty = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(empty, number, ir.IntType(32)(0))
        return self.builder.shuffle_vector(first, empty, self.firsts)

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

WIDE, NARROW, HALF = 2 * WIDTH, WIDTH, WIDTH // 2  # sums of a tile for each pixel: two registers of them, one, half a one
# Pixels of a tile: what divides the widths of images that are halved from 28, 32 or 64, where 6 need 16 registers. (14 x 2 sums
# would fit into 32, but were slower: all are stored at once, and there is no room for the next tile to begin meanwhile.)
PIXELS = (8, 7, 4, 1) if WIDTH == 16 else (6, 5, 4, 3, 1)
TAPS = 9 if WIDTH == 16 else 5  # rows of a weight_tile: 3 x 3 taps of one channel, or as many as 16 registers hold twice
ROWS, FEW = 8, 3  # of a row_tile, and for what is left

NO_OFFSET, NO_BIAS = np.zeros(1, np.int64), np.zeros(WIDE, np.float32)


def tile_for(columns):
    """The tile that computes the fewest pixels of a row, repeats counted; single pixels, which are slow, only if it must be."""
    fitting = [p for p in PIXELS if p <= columns]
    return min(fitting[:-1] or fitting, key=lambda p: (-(-columns // p) * p, -p))


@lru_cache(None)
def cover(O, widths=(WIDE, NARROW, HALF)):
    """Where tiles of these widths, each twice the next, begin that together make O sums, and how wide they are: (2, tiles).

    The last one ends at O and may overlap the one before: fewer than the least width is wasted, and nothing lies beyond O.
    """
    places, first = [], 0
    while first < O:
        rounded = -(-(O - first) // widths[-1]) * widths[-1]
        width = rounded if rounded in widths and rounded <= O else max(w for w in widths if w <= O - first)
        first = min(first, O - width)
        places.append((first, width))
        first += width
    return np.array(places, np.int64).T.copy()


def plain(x):
    """Side by side in memory; and writeable, or Numba would compile anew."""
    return np.require(x, np.float32, "CW")


def width_for(O):
    return WIDE if O > NARROW else NARROW


# Their code. Were a tile part of every loop that needs it, LLVM would translate it anew for each. So it is compiled by itself,
# when it is first wanted, and a loop is told the address at which it lies.

REGISTERS = {WIDE: (2, WIDTH), NARROW: (1, WIDTH), HALF: (1, HALF)}  # of a tile with so many sums for each pixel or row


@lru_cache(None)
def pixel_code(P, sums):
    """The address of the pixel_tile of P pixels and so many sums for each."""
    V, width = REGISTERS[sums]

    def code(columns, x, offsets, taps, channels, step, w, bias, y, y_step):
        pixel_tile(P, V, width, columns, x, offsets, taps, channels, step, w, bias, y, y_step)

    return machine_code(code, P, sums)


@lru_cache(None)
def weight_code(sums):
    """The address of the weight_tile of so many sums."""
    V, width = REGISTERS[sums]

    def code(tiles, x, offsets, x_row, x_step, g, g_row, g_step, rows, columns, d, d_step):
        weight_tile(TAPS, V, width, tiles, x, offsets, x_row, x_step, g, g_row, g_step, rows, columns, d, d_step)

    return machine_code(code, sums)


@lru_cache(None)
def row_code(sums):
    """The address of row_tiles of so many sums: tall ones, and low ones for what is left of I rows."""
    V, width = REGISTERS[sums]

    def code(I, x, x_row, x_step, g, g_row, g_step, rows, columns, d, d_step):
        n = I // ROWS
        if n > 0:
            row_tile(ROWS, V, width, n, x, x_row, x_step, g, g_row, g_step, rows, columns, d, d_step)
            x, d = x + 4 * n * ROWS, d + 4 * n * ROWS * d_step
        n = I % ROWS // FEW
        if n > 0:
            row_tile(FEW, V, width, n, x, x_row, x_step, g, g_row, g_step, rows, columns, d, d_step)
            x, d = x + 4 * n * FEW, d + 4 * n * FEW * d_step
        n = I % ROWS % FEW
        if n > 0:
            row_tile(1, V, width, n, x, x_row, x_step, g, g_row, g_step, rows, columns, d, d_step)

    return machine_code(code, sums)


@lru_cache(None)
def pixel_codes(P, O):
    """Those of the tiles that cover O sums."""
    return np.array([pixel_code(P, width) for width in cover(O)[1].tolist()])


@lru_cache(None)
def weight_codes(O):
    return np.array([weight_code(width) for width in cover(O)[1].tolist()])


@lru_cache(None)
def row_codes(O):
    return np.array([row_code(width) for width in cover(O)[1].tolist()])


@intrinsic
def pixel_sums(typing, code, columns, x, offsets, taps, channels, step, w, bias, y, y_step):
    """For Numba code: the pixel_tile at the address `code`."""
    return types.void(*[types.int64] * 11), _called


@intrinsic
def weight_sums(typing, code, tiles, x, offsets, x_row, x_step, g, g_row, g_step, rows, columns, d, d_step):
    """For Numba code: weight_tiles of the kind at the address `code`."""
    return types.void(*[types.int64] * 13), _called


@intrinsic
def row_sums(typing, code, I, x, x_row, x_step, g, g_row, g_step, rows, columns, d, d_step):
    """For Numba code: the row_tiles at the address `code`."""
    return types.void(*[types.int64] * 12), _called


def _called(context, builder, signature, arguments):
    return call(context, builder, arguments[0], arguments[1:])


@inline
def product(code, columns, x, step, C, w, y, y_step):
    r"""y[p, o] = \sum_c x[p step + c] w[c, o] for so many pixels, as many as the tile at `code` has, or more."""
    pixel_sums(code, columns, x, NO_OFFSET.ctypes.data, 1, C, step, w, NO_BIAS.ctypes.data, y, y_step)
