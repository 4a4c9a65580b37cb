"""NumPy's BLAS with one thread, and large products divided among ours.

A thread of BLAS's own waits for the next product by turning round and round, for 20 ms, and takes the processor from our loops
meanwhile: a step of training that is made of convolutions, with a small product here and there, took as long in two threads as
in one. How BLAS divides its sums is another question for each number of threads, too. So from the import of this file on BLAS
has one thread, in the whole process.
"""

import numpy as np
from threadpoolctl import threadpool_limits

from .threads import ENOUGH, in_parts

PIECES, LEAST = 8, 128  # of a product, whatever the number of threads; and rows of a piece, as BLAS copies b for each

threadpool_limits(1, "blas")


def product(a, b, out=None):
    """np.matmul(a, b, out): of two large matrices, in pieces of a's rows or of b's columns, whichever are more."""
    if not a.ndim == b.ndim == 2 or a.dtype.kind != "f":
        return np.matmul(a, b, out=out)
    (M, K), (rows, N) = a.shape, b.shape
    work, most = M * K * N, max(M, N)
    if rows != K or work < 2 * ENOUGH or most < 2 * LEAST:
        return np.matmul(a, b, out=out)
    y = np.empty((M, N), np.result_type(a, b)) if out is None else out
    piece = max(LEAST, -(-most // PIECES))

    def some(first, last):
        for i in range(first, last, piece):
            part = slice(i, i + piece)  # stretches begin at multiples of a piece
            if M >= N:
                np.matmul(a[part], b, out=y[part])
            else:
                np.matmul(a, b[:, part], out=y[:, part])

    in_parts(some, most, work, piece)
    return y
