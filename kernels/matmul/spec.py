r"""The product of two matrices: the definition, slow on purpose. Every other version is tested against it.

    y_ij = \sum_k a_ik b_kj         a (M, K), b (K, N) -> y (M, N)

Axes before the last two count pairs of matrices, and broadcast. A vector a is a matrix of one row, a vector b one of one
column, and y lacks that axis: it is what NumPy calls a @ b.
"""

import numpy as np


def product(a, b, out=None):
    """a b, a new array; or `out`, written to, which shares no memory with a and b. ValueError for shapes that do not fit."""
    rows, columns = (a[None] if a.ndim == 1 else a), (b[:, None] if b.ndim == 1 else b)
    if rows.shape[-1] != columns.shape[-2]:
        raise ValueError(f"matmul: a has shape {a.shape} and b {b.shape}: the axes that are summed over are not equally long")
    batches = np.broadcast_shapes(rows.shape[:-2], columns.shape[:-2])
    (M, K), N = rows.shape[-2:], columns.shape[-1]
    rows, columns = np.broadcast_to(rows, (*batches, M, K)), np.broadcast_to(columns, (*batches, K, N))
    y = np.zeros((*batches, M, N), np.result_type(a, b))
    for *batch, i, j in np.ndindex(y.shape):
        for k in range(K):
            y[*batch, i, j] += rows[*batch, i, k] * columns[*batch, k, j]
    y = y[..., 0, :] if a.ndim == 1 else y
    y = y[..., 0] if b.ndim == 1 else y
    if out is None:
        return y
    out[...] = y
    return out
