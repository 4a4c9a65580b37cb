"""Normalisation on the GPU: a block of threads for each group of each example."""

import numpy as np

from .. import cuda

program = cuda.Program(__file__, "group_norm.cu")
THREADS = 32, 64, 128, 256  # in a block: the fewest that leave each no more than so many numbers of its group
NUMBERS = 8
STRETCHES = 256  # of examples, at most, which are added up one by one


def forward(x, affine, groups, eps):
    y = cuda.empty(x.shape, x.dtype)
    _launch("forward", len(x), groups, (x, affine, y), x, eps)
    return y


def input_gradient(g, x, affine, groups, eps):
    dx = cuda.empty(x.shape, x.dtype)
    _launch("input_gradient", len(x), groups, (g, x, affine, dx), x, eps)
    return dx


def parameter_gradient(g, x, groups, eps):
    N, P, C = x.shape
    if not x.size:
        return cuda.zeros((2, C), x.dtype)
    stretches = min(N, STRETCHES)
    d = cuda.empty((stretches, 2, C), x.dtype)
    _launch("parameter_gradient", stretches, groups, (g, x, d), x, eps)
    return d.sum(axis=0)


def _launch(kernel, parts, groups, arrays, x, eps):
    """Launch for each part, examples or stretches of them, and each group."""
    if not x.size:
        return
    N, P, C = x.shape
    width = C // groups
    threads = next((t for t in THREADS if P * width <= t * NUMBERS), THREADS[-1])
    sizes = map(np.int32, (N, P, C, groups, parts) if kernel == "parameter_gradient" else (P, C, groups))
    shared = 2 * max(1, threads // width) * width * x.itemsize if kernel == "parameter_gradient" else 0
    arrays = map(cuda.contiguous, arrays)
    program.launch(
        kernel, (parts * groups,), (threads,), *arrays, *sizes, x.dtype.type(eps), shared=shared, defines=cuda.real(x)
    )
