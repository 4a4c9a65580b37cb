"""Random numbers on the GPU: one thread for each block of the counter, which knows its place and so all that it needs."""

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
    address = np.uint64(key), np.uint64(stream), np.uint64(first)
    program.launch(kernel, (-(-blocks // THREADS),), (THREADS,), y, np.int64(y.size), *address, defines=defines)
    return y
