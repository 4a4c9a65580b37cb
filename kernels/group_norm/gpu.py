"""Normalisation on the GPU: a block of threads for each group of each example; backward, of each stretch of examples."""

import numpy as np

from .. import cuda

program = cuda.Program(__file__, "group_norm.cu")
CODES = {name: np.int32(code) for code, name in enumerate((None, "relu", "silu"))}  # in the order of group_norm.cu
THREADS = 32, 64, 128, 256  # in a block: the fewest that leave each no more than so many numbers of its group
NUMBERS = 8
STRETCHES = 2048  # of examples, at most, whose sums are added up one by one


def forward(x, affine, groups, eps, activation):
    y = cuda.empty(x.shape, x.dtype)
    N, P, C = x.shape
    _launch("forward", x, groups, N, (x, affine, y), (P, C, groups), (x.dtype.type(eps), CODES[activation]))
    return y


def backward(g, x, affine, groups, eps, activation):
    N, P, C = x.shape
    if not x.size:
        return cuda.zeros((N * P + 2, C), x.dtype)
    stretches = min(N, STRETCHES)
    d, sums = cuda.empty((N * P + 2, C), x.dtype), cuda.empty((stretches, 2, C), x.dtype)
    sizes, rest = (N, P, C, groups, stretches), (x.dtype.type(eps), CODES[activation])
    _launch("backward", x, groups, stretches, (g, x, affine, d, sums), sizes, rest)
    d[-2:] = sums.sum(axis=0)
    return d


def _launch(kernel, x, groups, parts, arrays, sizes, rest):
    """Launch for each part, examples or stretches of them, and each group."""
    if not x.size:
        return
    _, P, C = x.shape
    width = C // groups
    threads = next((t for t in THREADS if P * width <= t * NUMBERS), THREADS[-1])
    shared = 2 * max(1, threads // width) * width * x.itemsize if kernel == "backward" else 0
    arguments = *map(cuda.contiguous, arrays), *map(np.int32, sizes), *rest
    program.launch(kernel, (parts * groups,), (threads,), *arguments, shared=shared, defines=cuda.real(x))
