r"""The product of matrices on the CPU: tiles of sums that stay in registers, and both factors read where they lie.

      a: k = 1, 2, ...      b: 32 columns
    8   [ . k . . . ]     [ . . . . . . . ]     the tile's 8 x 32 sums are in 16 registers: for each k, each of 8 numbers of a
    rows                  [ k . . . . . . ]     is multiplied by two registers of b's row (6 x 16 sums, where registers hold 8)

BLAS first copies both factors into the order in which it will read them. For a layer of some hundred units that is a tenth to a
fifth of its time, and here it is saved: a is read at any distance, so also transposed, and the rows of b straight from memory.
Only a transposed b is turned around, 32 columns at a time, which stay in the cache until all rows of a have met them. Stretches
of K and of rows keep what is being read in the second-level cache. The last rows and columns are made by tiles that overlap
those before; or, where these would add to what has been added already, rows one by one, and columns copied, with zeros beside.

What follows a product may be done while its rows are still in the cache: see `affine` and `relu_gradient`. Each number is what
the separate passes would make of it, to the last bit.

BLAS does the rest: other dtypes, stacks of matrices, few rows or columns, and large products, where its copies cost little. But
where nothing is summed (K = 1), it multiplies as if there were a sum, and takes three times as long as `multiply`.
"""

from functools import lru_cache

import numpy as np

from .. import blas
from ..jit import jit, part, plain
from ..threads import ENOUGH, in_parts
from ..tiles import FAST, WIDTH
from .tiles import product_tile, turning_tile

f, u64 = np.float32, np.uint64
TALL, WIDE = (8 if WIDTH == 16 else 6), 2 * WIDTH
STRETCH, ROWS = 512, 256  # of K, and of rows of a, that are done before the next
LARGE = 1 << 28  # multiplications from which on BLAS is as fast
NOTHING, BIAS, RELU, RELU_GRADIENT = range(4)  # what follows a product
NO_ROW, NO_ROWS = np.zeros(0, f), np.zeros((0, 0), f)

wide, narrow, wide_one, narrow_one = (product_tile(p, v) for p in (TALL, 1) for v in (2, 1))
turn = turning_tile()


def product(a, b, out=None):
    return by_tiles(a, b, out) if suits(a, b) and (out is None or _is_plain(out)) else by_blas(a, b, out)


def suits(a, b):
    """Whether the tiles are the fast way: for two float32 matrices, or for what has their shape and dtype."""
    if not (FAST and len(a.shape) == len(b.shape) == 2 and a.dtype == b.dtype == f):
        return False
    (M, K), (rows, N) = a.shape, b.shape
    return K == rows > 0 and M >= TALL and N >= WIDE and M * K * N <= LARGE


def by_tiles(a, b, out=None):
    y = np.empty((a.shape[0], b.shape[1]), f) if out is None else out
    _multiply(a, b, y)
    return y


def by_blas(a, b, out=None):
    if a.ndim > 1 < b.ndim and a.shape[-1] == b.shape[-2] == 1:
        return np.multiply(a, b, out=out)
    # vectors with gaps are summed in another order, and the same numbers should give the same bits wherever they lie
    a, b = a if a.flags.forc else a.copy("K"), b if b.flags.forc else b.copy("K")
    return np.matmul(a, b, out=out) if a.size * b.size < 2 * ENOUGH else blas.product(a, b, out)


def affine(x, w, b, relu=False):
    """x w + b, or of it max(., 0): for x and w that suit, and b (N,) of their dtype."""
    y = np.empty((x.shape[0], w.shape[1]), f)
    _multiply(x, w, y, RELU if relu else BIAS, plain(b))
    return y


def relu_gradient(g, w, y):
    """Of d = g w where y > 0, otherwise 0, the rows and below them their sum, (M + 1, N): for g and w that suit.

    The sum is that of bias/cpu.py to the last bit up to its BLOCK rows, from where on that one adds the sums of blocks.
    """
    rows = np.empty((g.shape[0] + 1, w.shape[1]), f)
    rows[-1] = 0
    _multiply(g, w, rows[:-1], RELU_GRADIENT, rows[-1], plain(y))
    return rows


def _multiply(a, b, y, after=NOTHING, row=NO_ROW, kept=NO_ROWS):
    """y = a b, divided among threads, and what `after` says is made of it, by a bias or to a sum in `row`, and by `kept`."""
    a = a if a.flags.behaved else np.array(a)
    b = b if b.flags.behaved and 4 in b.strides else np.array(b, order="C")
    (M, N), turned = y.shape, b.strides[1] != 4
    loop, work = _loop(), M * a.shape[1] * N
    if work < 2 * ENOUGH:
        loop(a, b, turned, y, 0, M, 0, N, after, row, kept)
    elif N >= 2 * WIDE or after == RELU_GRADIENT:
        in_parts(lambda i, j: loop(a, b, turned, y, 0, M, i, j, after, row, kept), N, work, WIDE)
    else:
        in_parts(lambda i, j: loop(a, b, turned, y, i, j, 0, N, after, row, kept), M, work)


def _is_plain(y):
    return y.flags.carray and y.dtype == f


@lru_cache(None)
def _loop():
    """`_product` for these types and no others: so a and b may lie as they like."""
    _product.compile("void(f4[:, :], f4[:, :], b1, f4[:, ::1], i8, i8, i8, i8, i8, f4[::1], f4[:, ::1])")
    _product.disable_compile()
    return _product


@jit
def _product(a, b, turned, y, top, bottom, left, right, after, row, kept):
    """y[top:bottom, left:right] = a b there, for b whose columns are at a distance of one number, or where turned, its rows."""
    K, N, a_row, a_k, b_k = a.shape[1], y.shape[1], a.strides[0] // 4, a.strides[1] // 4, b.strides[0] // 4
    panel, aside, zeros = np.empty((min(K, STRETCH), WIDE), f), np.empty((min(ROWS, bottom - top), WIDE), f), np.zeros(WIDE, f)
    for k in range(0, K, STRETCH):
        terms = min(STRETCH, K - k)
        for i in range(top, bottom, ROWS):
            rows = min(ROWS, bottom - i)
            for o in range(left, right, WIDE):
                columns = min(WIDE, right - o)
                width = WIDE if columns > WIDTH else WIDTH
                if columns < width <= right - left and K <= STRETCH:
                    o, columns = right - width, width  # some sums are made once more, which is less than to copy columns
                source, s, target, t = b.ctypes.data + 4 * (k * b_k + o), b_k, y.ctypes.data + 4 * (i * N + o), N
                if turned or columns < width:
                    _fetch(b, turned, k, terms, o, columns, panel)
                    source, s = panel.ctypes.data, WIDE
                if columns < width:
                    target, t = aside.ctypes.data, WIDE
                    for r in range(rows):  # of the first stretch, whatever it is
                        for n in range(columns):
                            aside[r, n] = y[i + r, o + n]
                start, start_row = (target, t) if k > 0 else (zeros.ctypes.data, 0)
                factor, n = a.ctypes.data + 4 * (i * a_row + k * a_k), rows // TALL
                if n > 0:
                    if width == WIDE:
                        wide(n, terms, factor, a_row, a_k, source, s, start, start_row, target, t)
                    else:
                        narrow(n, terms, factor, a_row, a_k, source, s, start, start_row, target, t)
                done, n = n * TALL, rows - n * TALL
                if n > 0:
                    overlap = done > 0 and K <= STRETCH
                    done = 4 * (rows - TALL if overlap else done)
                    factor, start, end = factor + done * a_row, start + done * start_row, target + done * t
                    if overlap and width == WIDE:
                        wide(1, terms, factor, a_row, a_k, source, s, start, start_row, end, t)
                    elif overlap:
                        narrow(1, terms, factor, a_row, a_k, source, s, start, start_row, end, t)
                    elif width == WIDE:
                        wide_one(n, terms, factor, a_row, a_k, source, s, start, start_row, end, t)
                    else:
                        narrow_one(n, terms, factor, a_row, a_k, source, s, start, start_row, end, t)
                if columns < width:
                    for r in range(rows):
                        for n in range(columns):
                            y[i + r, o + n] = aside[r, n]
            if k + terms == K and after != NOTHING:
                _follow(y, i, i + rows, left, right, after, row, kept)


@part
def _fetch(b, turned, k, terms, o, columns, panel):
    """b's rows from k on and columns from o on, at the left of the panel; and zeros to the right, if a tile ends there."""
    end = 0
    if turned:
        end, b_o = columns // WIDTH * WIDTH, b.strides[1] // 4
        square = terms // WIDTH * WIDTH
        for j in range(0, end, WIDTH):
            for r in range(0, square, WIDTH):
                turn(b.ctypes.data + 4 * (k + r + (o + j) * b_o), b_o, panel[r:, j:].ctypes.data, WIDE)
            for r in range(square, terms):
                for n in range(j, j + WIDTH):
                    panel[r, n] = b[k + r, o + n]
    if end < columns:
        for r in range(terms):
            for n in range(end, columns):
                panel[r, n] = b[k + r, o + n]
            for n in range(columns, WIDE):
                panel[r, n] = f(0)  # nobody reads these sums, but with subnormal numbers they would be slow


@part
def _follow(y, first, last, left, right, after, row, kept):
    """What is made of rows of y; see bias/cpu.py, which does the same to each number."""
    left, right = u64(left), u64(right)  # and so no index counts from the end, which would have to be asked for each number
    for i in range(u64(first), u64(last)):
        if after == BIAS:
            for o in range(left, right):
                y[i, o] += row[o]
        elif after == RELU:
            for o in range(left, right):
                y[i, o] = max(y[i, o] + row[o], f(0))
        else:
            for o in range(left, right):
                here = y[i, o] if kept[i, o] > f(0) else f(0)
                y[i, o] = here
                row[o] += here
