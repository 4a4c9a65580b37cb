"""The product of matrices on the CPU: NumPy's BLAS, but for the one shape at which it is slow.

Where nothing is summed (K = 1), BLAS still multiplies as if there were a sum, and takes three times as long as `multiply`.
"""

import numpy as np


def product(a, b, out=None):
    if a.ndim > 1 < b.ndim and a.shape[-1] == b.shape[-2] == 1:
        return np.multiply(a, b, out=out)
    return np.matmul(a, b, out=out)
