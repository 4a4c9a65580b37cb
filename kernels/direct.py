r"""Convolution without patches, in float32: sums over taps, which read the image where it lies.

    y[n, i, j, o] = bias[o] + \sum_t \sum_c X[n, i sy + a_t, j sx + b_t, c] w[t, c, o]          X: x in a frame of zeros

A tap t is a place (a_t, b_t) in the kernel, and so an offset into the framed image: masks, strides and turned kernels differ
only in the list of offsets. One image at a time is copied into its frame, which stays in the second-level cache; the sums of 8
pixels and 32 channels stay in registers (tiles.py). Neighbouring taps in a row read numbers side by side: three are one tap of
3 C channels. The gradient for w needs the same frame. There a tap and a channel are a row of sums, and 9 rows a tile: with one
channel in, 3 x 3 taps read g once.

im2col, as in conv2d/cpu.py, writes every number of x once for each tap before BLAS reads it.

A relu before the convolution, y = conv(max(X, 0)), takes place on the way into the frame; and its derivative, where dx is
written. Alone, each would read and write an image once more.

Channels out that no tile divides are covered by tiles of which the last overlaps the one before: both make the same sums.

With fewer channels out than a register is wide, the sums over channels come first, all taps of a pixel side by side as if they
were channels; then each is added to the output it belongs to (`spread`).

Images are divided among threads. The gradient for w is a sum over images: of fixed groups, whatever the number of threads, so
that this number changes no bit of the result; what is divided are the groups, and channels out.
"""

from functools import lru_cache

import numpy as np

from .jit import inline, jit
from .threads import in_parts
from .tiles import (
    FAST,
    HALF,
    TAPS,
    cover,
    pixel_codes,
    pixel_sums,
    plain,
    product,
    tile_for,
    weight_codes,
    weight_sums,
    width_for,
)

GROUPS, GROUPED_BYTES = 16, 1 << 20  # of images, for the gradient of w: as many as have sums of a megabyte in all


def suits(x, w, channels_out):
    """Whether this file is the fast way: float32, and enough output channels to fill half a register."""
    return FAST and x.dtype == w.dtype == np.float32 and channels_out >= HALF and x.size > 0 and w.size > 0


def convolve(x, w, taps, stride, padding, size, bias=None, relu=False, seen=None):
    """y (N, *size, O) for x (N, H, W, C), w (T, C, O), T taps ((a, b), ...), padding (py, px) of zeros before x, bias (O,).

    With relu, of max(x, 0) in place of x; and where seen (as y) is not above 0, y is 0.
    """
    y = np.empty((x.shape[0], *size, w.shape[2]), np.float32)
    convolve_into(y, (0, 0), (1, 1), x, w, taps, stride, padding, bias, relu, seen)
    return y


def convolve_into(y, first, every, x, w, taps, stride, padding, bias=None, relu=False, seen=None):
    """The same, written to y[:, first[0] :: every[0], first[1] :: every[1]]; seen is as all of y."""
    N, H, W, C = x.shape
    size = tuple(len(range(f, n, e)) for f, n, e in zip(first, y.shape[1:3], every))
    if 0 in size or 0 in y.shape:
        return
    seen, masked = (y, False) if seen is None else (plain(seen), True)
    if len(taps) == 1 and stride == every == (1, 1) and size == (H, W) and taps[0] == padding:
        rows = _rows_at_once(H, W * C)  # a pixel for a pixel: so rows may be joined into long ones
        x, taps, padding, size = x.reshape(-1, 1, rows * W, C), ((0, 0),), (0, 0), (1, rows * W)
        y, seen = (image.reshape(-1, 1, rows * W, w.shape[2]) for image in (y, seen))
    *_, frame = _frame(x.shape[1:3], size, taps, stride, padding)
    rows, columns = _stretches(taps)
    w = w.reshape(len(rows), -1, w.shape[2])
    bias = np.zeros(y.shape[3], np.float32) if bias is None else plain(bias)
    places, codes = (rows, columns, *frame, *padding, *stride), pixel_codes(tile_for(size[1]), w.shape[2])
    x, shape, blocks = plain(x), w.shape[:2], cover(w.shape[2])
    w = pack(w, blocks)

    def images(a, b):
        _convolve(
            x[a:b], relu, w, *shape, *blocks, codes, bias, *places, y[a:b], *first, *every, *size, seen[a:b], masked
        )  # fmt: skip

    in_parts(images, len(x), len(x) * size[0] * size[1] * w.size)


def suits_spread(g, w, channels_out):
    """Whether `spread` is the fast way: where the other is not, and all taps together fill half a register."""
    return not suits(g, w, channels_out) and suits(g, w, w.shape[0] * w.shape[1] * channels_out)


def spread(g, w, size, stride, padding):
    r"""dx (N, *size, C) for g (N, H', W', O), w (kh, kw, C, O): dx[n, i sy + a - py, j sx + b - px] += w[a, b] g[n, i, j]."""
    (kh, kw, C, O), columns = w.shape, g.shape[2]
    across = np.zeros((1, O, -(-kh * kw * C // HALF) * HALF), np.float32)  # from a pixel of g to what it gives through each tap
    across[0, :, : kh * kw * C] = w.reshape(kh * kw * C, O).T
    blocks = cover(across.shape[2])
    packed = pack(across, blocks)
    g, dx, codes = plain(g), np.empty((len(g), *size, C), np.float32), pixel_codes(tile_for(columns), across.shape[2])

    def images(first, last):
        dx[first:last] = 0
        _spread(g[first:last], packed, *blocks, codes, kh, kw, *stride, *padding, dx[first:last])

    in_parts(images, len(g), g.size * kh * kw * C)
    return dx


def weight_gradient(x, g, taps, stride, padding, relu=False):
    """dw (T, C, O) for x (N, H, W, C), g (N, H', W', O) and T taps.

    With relu, of max(x, 0) in place of x.
    """
    C, O = x.shape[3], g.shape[3]
    *_, frame = _frame(x.shape[1:3], g.shape[1:3], taps, stride, padding)
    x, g, N, blocks, codes, offsets = plain(x), plain(g), len(x), cover(O), weight_codes(O), _offsets(taps, frame[1], C)
    size = len(offsets) * int(blocks[1].sum())
    groups = max(1, min(N, GROUPS, GROUPED_BYTES // (4 * size)))
    d = np.zeros((groups, size), np.float32)

    def parts(first, last):
        _weight_gradient(x, relu, g, first, last, offsets, *frame, *padding, *stride, *blocks, codes, d)

    in_parts(parts, groups * blocks.shape[1], g[..., 0].size * d[0].size)
    return unpack(d.sum(axis=0), blocks, (len(offsets), O))[: len(taps) * C].reshape(len(taps), C, O)


@lru_cache(None)
def _offsets(taps, Wp, C):
    """Where in the frame each tap and channel lies, in numbers; then zeros, until tiles are full."""
    offsets = np.array([(a * Wp + b) * C + c for a, b in taps for c in range(C)])
    return np.concatenate([offsets, np.zeros(-len(offsets) % TAPS, np.int64)])


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
def _stretches(taps):
    """Where to begin reading: at each run if all are equally long, for what a run reads lies side by side; else at each tap."""
    rows, columns, lengths = _runs(taps)
    return (rows, columns) if len(set(lengths.tolist())) == 1 else np.array(taps, np.int64).T.copy()


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


def pack(w, blocks):
    """w (taps, C, O) as (taps, C, width) for each block of those that cover O: the weights of a tile side by side."""
    if blocks.shape[1] == 1:
        return plain(w).reshape(-1)
    return np.concatenate([w[:, :, first : first + width] for first, width in blocks.T.tolist()], axis=None)


def unpack(packed, blocks, shape):
    """The same back, for w of any shape (..., O)."""
    w, at = np.empty(shape, np.float32), 0
    for first, width in blocks.T.tolist():
        part = w[..., first : first + width]
        part[:] = packed[at : at + part.size].reshape(part.shape)
        at += part.size
    return w


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
def _convolve(
    x, relu, w, T, K, starts, widths, codes, bias, a, b, Hp, Wp, py, px, sy, sx, y, first_i, first_j, every_i, every_j, rows,
    columns, seen, masked,
):  # fmt: skip
    N, H, W, C = x.shape
    O = y.shape[3]
    framed = relu or Hp != H or Wp != W or py > 0 or px > 0
    frame = np.zeros(Hp * Wp * C if framed else 1, np.float32)
    offsets = np.empty(T, np.int64)
    for t in range(T):
        offsets[t] = (a[t] * Wp + b[t]) * C
    at = offsets.ctypes.data
    for n in range(N):
        source = frame.ctypes.data if framed else x[n].ctypes.data
        if framed:
            fill_frame(frame, x[n], Wp, py, px, relu)
        for i in range(rows):
            row, weights = first_i + i * every_i, w.ctypes.data
            for k in range(starts.size):
                start = bias[starts[k] :].ctypes.data
                pixels, target = source + 4 * i * sy * Wp * C, y[n, row, first_j:, starts[k] :].ctypes.data
                pixel_sums(codes[k], columns, pixels, at, T, K, sx * C, weights, start, target, every_j * O)
                weights += 4 * T * K * widths[k]
            if masked:
                for j in range(first_j, y.shape[2], every_j):
                    hide(y[n, row, j], seen[n, row, j])


@jit
def _weight_gradient(x, relu, g, first, last, offsets, Hp, Wp, py, px, sy, sx, starts, widths, codes, d):
    """d (groups of images, sums), from one part to another: each group has as many as there are blocks of channels."""
    N, H, W, C = x.shape
    _, rows, columns, O = g.shape
    framed = relu or Hp != H or Wp != W or py > 0 or px > 0
    frame = np.zeros(Hp * Wp * C if framed else 1, np.float32)
    groups, blocks, tiles = d.shape[0], starts.size, offsets.size // TAPS
    for group in range(first // blocks, (last - 1) // blocks + 1):
        for n in range(N * group // groups, N * (group + 1) // groups):
            source = frame.ctypes.data if framed else x[n].ctypes.data
            if framed:
                fill_frame(frame, x[n], Wp, py, px, relu)
            for i in range(0, rows, 4):  # of a few rows, the numbers stay in the first-level cache for all tiles
                here, sums, pixels = min(4, rows - i), d[group].ctypes.data, source + 4 * i * sy * Wp * C
                for k in range(blocks):
                    if first <= group * blocks + k < last:
                        weight_sums(
                            codes[k], tiles, pixels, offsets.ctypes.data, sy * Wp * C, sx * C,
                            g[n, i, :, starts[k] :].ctypes.data, columns * O, O, here, columns, sums, widths[k],
                        )  # fmt: skip
                    sums += 4 * offsets.size * widths[k]


@jit
def fill_frame(frame, image, Wp, py, px, relu):
    """Copy an image (H, W, C) into its frame, which is flat, or of it max(image, 0); around it the zeros stay."""
    H, W, C = image.shape
    numbers = image.reshape(H, W * C)
    for i in range(H):
        first = ((i + py) * Wp + px) * C
        row = frame[first : first + W * C]
        if relu:
            for k in range(row.size):
                row[k] = max(numbers[i, k], np.float32(0))
        else:
            for k in range(row.size):  # `row[:] =` would take four times as long to compile
                row[k] = numbers[i, k]


@inline
def hide(y, seen):
    """Make y 0 where `seen` is not above 0."""
    for o in range(y.size):
        y[o] = y[o] if seen[o] > np.float32(0) else np.float32(0)


@jit
def _spread(g, w, starts, widths, codes, kh, kw, sy, sx, py, px, dx):
    N, rows, columns, O = g.shape
    _, H, W, C = dx.shape
    given = np.empty((columns, starts[-1] + widths[-1]), np.float32)  # by the pixels of a row, through all taps
    for n in range(N):
        for i in range(rows):
            weights = w.ctypes.data
            for k in range(starts.size):
                sums = given[:, starts[k] :].ctypes.data
                product(codes[k], columns, g[n, i].ctypes.data, O, O, weights, sums, given.shape[1])
                weights += 4 * O * widths[k]
            for a in range(max(0, py - i * sy), min(kh, H + py - i * sy)):
                target = dx[n, i * sy + a - py]
                for b in range(kw):
                    first, last = max(0, -((b - px) // sx)), min(columns, (W - 1 + px - b) // sx + 1)
                    for c in range(C):
                        source = given[:, (a * kw + b) * C + c]
                        for j in range(first, last):
                            target[j * sx + b - px, c] += source[j]
