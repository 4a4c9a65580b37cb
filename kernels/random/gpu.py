"""Random numbers on the GPU: one thread for each block of the counter, which knows its place and so all that it needs.

Here `stream` may also be an array on the GPU, uint64 (): it is read when the kernel runs, so a graph of launches draws from
another stream each time that it is launched.
"""

import numpy as np

from .. import cuda
from . import spec

program = cuda.Program(__file__, "random.cu")
THREADS = 256


def bits(y, key, stream, first):
    spec.require("bits", y, "uint32")
    return _fill("bits", y, key, stream, first, {"real": "float"})  # of which it has no use


def uniform(y, key, stream, first):
    spec.require("uniform", y, "float32", "float64")
    return _fill("uniform", y, key, stream, first, cuda.real(y))


def normal(y, key, stream, first):
    spec.require("normal", y, "float32", "float64")
    return _fill("normal", y, key, stream, first, cuda.real(y))


def _fill(kernel, y, key, stream, first, defines):
    blocks = -(-y.nbytes // 16)
    number, array = (0, stream) if hasattr(stream, "shape") else (stream, None)
    address = np.uint64(key), np.uint64(number), array, np.uint64(first)
    program.launch(kernel, (-(-blocks // THREADS),), (THREADS,), y, np.int64(y.size), *address, defines=defines)
    return y


def order(y, u):
    """By counting what comes before each number, n^2 comparisons, while a graph is captured, as no library's sort can be."""
    spec.require("order", y, "int64")
    spec.require_vector("order", y, u)
    if not cuda.capturing():
        y[...] = u.argsort()
        return y
    blocks = -(-u.size // THREADS)
    program.launch("order", (blocks,), (THREADS,), y, cuda.contiguous(u), np.int32(u.size), defines=cuda.real(u))
    return y
