"""Affine couplings on the GPU: a launch each way; backward, blocks of threads add up what they make for the scales."""

import numpy as np

from .. import cuda
from ..elementwise import grid

program = cuda.Program(__file__, "coupling.cu")
CHANNELS, THREADS_OF_CHANNEL = 32, 8  # of a block
ROWS = 256  # of a stretch, at least
STRETCHES = 256  # of rows, at most, whose sums are added up one by one


def forward(x, parameters, scale):
    y = cuda.empty((2, *x.shape), x.dtype)
    arrays = _of_one_dtype(x, parameters, scale)
    program.launch("forward", *grid(x.size), *arrays, y, np.int32(x.size), np.int32(x.shape[-1]), defines=cuda.real(x))
    return y


def backward(g, x, parameters, scale):
    C = x.shape[-1]
    R, d = x.size // max(C, 1), cuda.zeros((3 * x.size + C,), x.dtype)
    if not x.size:
        return d
    dx, dp, dscale = d[: x.size], d[x.size : 3 * x.size], d[3 * x.size :]
    rows_of_stretch = max(ROWS, -(-R // STRETCHES))
    stretches = -(-R // rows_of_stretch)
    sums = cuda.empty((stretches, C), x.dtype)
    numbers = np.int32(R), np.int32(C), np.int32(rows_of_stretch)
    blocks, threads = (-(-C // CHANNELS), stretches), (CHANNELS, THREADS_OF_CHANNEL)
    arrays = *_of_one_dtype(x, g, parameters, scale)[1:], _of_one_dtype(x)[0]
    program.launch("backward", blocks, threads, *arrays, dx, dp, sums, *numbers, defines=cuda.real(x))
    dscale[:] = sums.sum(axis=0)
    return d


def _of_one_dtype(x, *others):
    return [cuda.contiguous(a.astype(x.dtype, copy=False)) for a in (x, *others)]
