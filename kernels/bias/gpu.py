"""Bias and activation on the GPU: a launch each way; backward, blocks of threads add up the cotangents that they make."""

import numpy as np

from .. import cuda
from ..elementwise import grid
from .spec import BY_INPUT, BY_RESULT, SLOPE

program = cuda.Program(__file__, "bias.cu")
CODES = {name: np.int32(code) for code, name in enumerate((*BY_RESULT, *BY_INPUT))}  # in the order of bias.cu
COLUMNS, THREADS_OF_COLUMN = 32, 8
ROWS = 256  # of a stretch, at least
STRETCHES = 256  # of rows, at most, whose sums are added up one by one


def forward(rows, activation):
    N, C = len(rows) - 1, rows.shape[1]
    y = cuda.empty((N, C), rows.dtype)
    slope = rows.dtype.type(SLOPE)
    sizes = np.int32(N), np.int32(C), CODES[activation]
    program.launch("forward", *grid(y.size), cuda.contiguous(rows), y, *sizes, slope, defines=cuda.real(rows))
    return y


def backward(g, kept, activation):
    N, C = g.shape
    if not g.size:
        return cuda.zeros((N + 1, C), kept.dtype)
    rows_of_stretch = max(ROWS, -(-N // STRETCHES))
    stretches = -(-N // rows_of_stretch)
    d, sums = cuda.empty((N + 1, C), kept.dtype), cuda.empty((stretches, C), kept.dtype)
    g, kept = cuda.contiguous(g.astype(kept.dtype, copy=False)), cuda.contiguous(kept)
    numbers = np.int32(N), np.int32(C), np.int32(rows_of_stretch), CODES[activation], kept.dtype.type(SLOPE)
    blocks, threads = (-(-C // COLUMNS), stretches), (COLUMNS, THREADS_OF_COLUMN)
    program.launch("backward", blocks, threads, g, kept, d, sums, *numbers, defines=cuda.real(kept))
    d[-1] = sums.sum(axis=0)
    return d
