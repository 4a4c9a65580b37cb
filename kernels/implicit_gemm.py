r"""Convolution on a GPU, masked or not: three maps, each a product of matrices of which one is never written down.

A tap (a, b) reads the pixel that lies (a - py, b - px) from where its output pixel starts. With X for the matrix of all that is
read, a row for each output pixel and a column for each (tap, input channel), and w and g as matrices,

    forward            y  = X(x) w              pixels x channels,            summed over (tap, channel)
    input_gradient     dx = X'(g) w^T           pixels x channels,            summed over (tap, channel)
    weight_gradient    dw = X(x)^T g            (tap, channel) x channels,    summed over pixels

X is the image, many times over: for a 3 x 3 kernel nine times. Its tiles are fetched from the image, where most of them are
found in the cache, straight into shared memory. A mask leaves columns of X out, a stride rows.

The input gradient asks which outputs read a pixel. With stride s they differ by the pixel's row and column modulo s, its phase:
for each of the s^2 phases it is a convolution of g with some of the taps. A phase that no tap reads is a sum of nothing: zero.

The weight gradient sums over all pixels, of which there are too many for one block: fixed groups of them are summed by
different blocks, and then the groups' sums in their order. Nothing is added atomically: the same input gives the same bits.

Float32 numbers are multiplied as they are, or rounded, by tensor cores, where that is asked for (see tensor_cores.py).

Floor: 2 N H' W' T C O flops for each map, T taps; each array read or written once. A 3 x 3 convolution of 64 channels does 144
flops for each byte, far more than the 10 to 20 below which a GPU in float32 waits for its memory; with 1 channel in or out,
memory is the floor.
"""

import math
from functools import lru_cache

import numpy as np

from . import cuda, tensor_cores

CHANNELS = (8, 16, 32, 64)  # widths of a tile; the narrowest that holds all output channels is taken
ROWS = 64  # of a tile, in tile.cuh
THREADS = 64  # of a block
BLOCKS = 512  # for the weight gradient: groups of pixels until there are so many, enough for all processors of a large GPU,
GROUP = 512  # but no smaller ones than this

program = cuda.Program(__file__, "implicit_gemm.cu", CHANNELS=CHANNELS, **tensor_cores.VARIANTS)


def forward(x, w, taps, stride, padding, bias=None):
    """y (N, H', W', O) for x (N, H, W, C), w (kh, kw, C, O), bias (O,) and taps ((a, b), ...) at which w is not dead."""
    size = tuple((n + 2 * p - k) // s + 1 for n, p, k, s in zip(x.shape[1:3], padding, w.shape[:2], stride))
    y = cuda.empty((len(x), *size, w.shape[3]), x.dtype)
    return _convolve(x, w, bias, *_phases_forward(taps, size, w.shape[1], padding), y, stride, (1, 1), turned=False)


def input_gradient(g, w, taps, size, stride, padding):
    """dx (N, *size, C) for g (N, H', W', O), w (kh, kw, C, O)."""
    dx = cuda.empty((len(g), *size, w.shape[2]), g.dtype)
    phases = _phases_back(taps, tuple(size), w.shape[1], stride, padding)
    return _convolve(g, w, None, *phases, dx, (1, 1), stride, turned=True)


def weight_gradient(x, g, taps, kernel_size, stride, padding):
    """dw (kh, kw, C, O) for x (N, H, W, C), g (N, H', W', O); 0 where there is no tap."""
    (N, H, W, C), (_, rows, columns, O), (kh, kw) = x.shape, g.shape, kernel_size
    channels, pixels, height = tensor_cores.width(CHANNELS, O, g), N * rows * columns, len(taps) * C
    tiles = -(-height // ROWS), -(-O // channels)
    groups = max(1, min(-(-BLOCKS // max(1, math.prod(tiles))), -(-pixels // GROUP)))
    length = -(-pixels // groups)
    partial, dw = cuda.empty((groups, height, O), x.dtype), cuda.empty((kh, kw, C, O), x.dtype)
    _check("weight_gradient", x, g, partial)
    moved, tap_of = _taps_and_slices(taps, kernel_size, padding)
    sizes = np.array([N, H, W, C, O, rows, columns, *stride, len(taps), length], np.int32)
    program.launch(
        "weight_gradient", (*tiles, groups), (THREADS,), cuda.contiguous(x), cuda.contiguous(g), cuda.table(moved), partial,
        *sizes, defines=_defines(x, channels),
    )  # fmt: skip
    sizes = np.array([dw.size, C * O, groups, height * O], np.int32)
    program.launch(
        "add_groups", (-(-dw.size // 256),), (256,), partial, cuda.table(tap_of), dw, *sizes, defines=_defines(x, channels)
    )
    return dw


def _convolve(x, w, bias, phases, taps, y, stride, every, turned):
    (N, H, W, C), (_, y_H, y_W, O) = x.shape, y.shape
    _check("convolution", x, w, y)
    channels, most = tensor_cores.width(CHANNELS, O, y), max((rows * columns for *_, rows, columns in phases), default=0)
    grid = -(-N * most // ROWS), -(-O // channels), len(phases)
    sizes = np.array([N, H, W, C, O, *stride, y_H, y_W, *every, turned], np.int32)
    program.launch(
        "convolve", grid, (THREADS,), cuda.contiguous(x), cuda.contiguous(w), bias if bias is None else cuda.contiguous(bias),
        cuda.table(phases), cuda.table(taps), y, *sizes, defines=_defines(x, channels),
    )  # fmt: skip
    return y


@lru_cache(None)
def _phases_forward(taps, size, kw, padding):
    """One phase: every output pixel reads through every tap."""
    (py, px) = padding
    return ((0, len(taps), 0, 0, *size),), tuple((a - py, b - px, a * kw + b) for a, b in taps)


@lru_cache(None)
def _phases_back(taps, size, kw, stride, padding):
    """Pixel phase + stride m is read by output m + (phase + padding - a) / stride, through the taps a that make this whole."""
    phases, chosen = [], []
    for phase in np.ndindex(*stride):
        first = len(chosen)
        for a, b in taps:
            (i, left_i), (j, left_j) = (divmod(f + p - k, s) for f, p, k, s in zip(phase, padding, (a, b), stride))
            if left_i == left_j == 0:
                chosen.append((i, j, a * kw + b))
        phases.append((first, len(chosen), *phase, *(len(range(f, n, s)) for f, n, s in zip(phase, size, stride))))
    return tuple(phases), tuple(chosen)


@lru_cache(None)
def _taps_and_slices(taps, kernel_size, padding):
    """The taps relative to where an output pixel starts; and for each slice w[a, b] the number of its tap, or -1."""
    (kh, kw), (py, px) = kernel_size, padding
    numbers = {tap: t for t, tap in enumerate(taps)}
    return tuple((a - py, b - px, a * kw + b) for a, b in taps), tuple((numbers.get(s, -1),) for s in np.ndindex(kh, kw))


def _defines(x, channels):
    return cuda.real(x) | tensor_cores.define(x) | {"CHANNELS": channels}


def _check(name, *arrays):
    """The kernels count in 32 bits."""
    for a in arrays:
        if a.size >= 2**31:
            raise ValueError(f"{name}: an array of shape {a.shape} has 2^31 numbers or more; take fewer images at once")
