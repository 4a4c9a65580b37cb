r"""The product of matrices on a GPU: by cuBLAS, which is tuned for every card; or by the kernel in matmul.cu where it must be.

While launches are captured as a graph, CuPy refuses cuBLAS, which wants memory of its own for each call. And for numbers that
are rounded before they are multiplied (see tensor_cores.py) the kernel says outright how. All else is arranged here:

    transposed            swapaxes(w, 0, 1) is a view of w; the kernel is told to read w, and nothing is copied
    batches               axes are merged with neighbours that broadcast alike; two may be left, each with a step in a and in b
    one matrix for all    (batches, M, K) times one (K, N) is a single product of batches M rows
    few rows              M < N, and less than a tile is high: y^T = b^T a^T, whose columns are few, fits into a narrower tile
    few tiles, long sums  as in x^T g, the gradient of weights: the sum over k is cut into groups, one block for each, and
                          then the groups' sums are added in their order, so the same input gives the same bits

A NaN reaches the row of y that its row of a makes, or the column that its column of b makes, and nothing else.

Floor: 2 M N K flops; each number read or written once. So a product of n x n matrices of float does n / 6 flops for each byte:
from some 100 rows on, a GPU that computes in float32 no longer waits for its memory.
"""

import math

import numpy as np

from .. import cuda, tensor_cores

WIDTHS = (8, 16, 32, 64)  # of a tile: the narrowest that holds all columns is taken
ROWS = 64  # of a tile, in tile.cuh
THREADS = 64  # of a block
BLOCKS = 512  # groups of a sum until there are so many, enough for all processors of a large GPU,
GROUP = 128  # but no shorter ones than this

program = cuda.Program(__file__, "matmul.cu", WIDTH=WIDTHS, **tensor_cores.VARIANTS)


def product(a, b, out=None):
    if not (cuda.capturing() or tensor_cores.asked(a, b)):
        return a @ b if out is None else cuda.array_module().matmul(a, b, out=out)
    dtype, shape = cuda.array_module().result_type(a, b), _shape(a, b)
    y = out if out is not None and out.dtype == dtype and out.flags.c_contiguous else cuda.empty(shape, dtype)
    if y.shape != shape:
        raise ValueError(f"matmul: out has shape {y.shape}, and the product of {a.shape} and {b.shape} has {shape}")
    if y.size:
        _multiply(a[None] if a.ndim == 1 else a, b[:, None] if b.ndim == 1 else b, y)
    if out is None or y is out:
        return y
    out[...] = y
    return out


def _multiply(a, b, y):
    """y = a b for matrices, or batches of them, of which there is at least one."""
    batches, (M, K), N = _merged(a.shape[:-2], b.shape[:-2]), a.shape[-2:], b.shape[-1]
    if len(batches) > 2:
        every = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        a, b = (cuda.array_module().broadcast_to(x, (*every, *x.shape[-2:])) for x in (a, b))
        batches = _merged(every, every)
    (a, a_turned), (b, b_turned) = _laid_out(a, y.dtype), _laid_out(b, y.dtype)
    if len(batches) == 1 and batches[0][1:] == (1, 0) and not a_turned:  # one b for all
        M, batches = M * batches[0][0], []
    left, right, rows, columns, steps = (a, a_turned), (b, b_turned), M, N, (N, 1)
    if M < min(N, ROWS):  # then right^T left^T, which comes out transposed
        left, right, rows, columns, steps = (b, not b_turned), (a, not a_turned), N, M, (1, N)
        batches = [(n, of_b, of_a) for n, of_a, of_b in batches]
    _launch(left, right, y, rows, columns, K, steps, [(1, 0, 0)] * (2 - len(batches)) + batches)


def _launch(left, right, y, rows, columns, depth, steps, batches):
    for x in (left[0], right[0], y):
        if x.size > 2**31 - ROWS:  # the kernel counts in 32 bits
            raise ValueError(f"matmul: an array of shape {x.shape} has 2^31 numbers or more; take fewer rows at once")
    width = tensor_cores.width(WIDTHS, columns, y)
    defines = cuda.real(y) | tensor_cores.define(y) | {"WIDTH": width}
    (outer, *outer_has), (inner, *inner_has) = batches
    tiles = -(-rows // ROWS) * outer * inner, -(-columns // width)
    groups = max(1, min(-(-BLOCKS // math.prod(tiles)), -(-depth // GROUP)))
    length = -(-depth // groups)
    partial = y if groups == 1 else cuda.empty((groups, *y.shape), y.dtype)
    matrices = [inner if has_inner else 1 for has_inner in inner_has]  # from one outer batch to the next
    batch_steps = [*(n * has for n, has in zip(matrices, outer_has)), *inner_has]
    sizes = np.array([rows, columns, depth, length, left[1], right[1], *steps, inner, *batch_steps], np.int32)
    program.launch("multiply", (*tiles, groups), (THREADS,), left[0], right[0], partial, *sizes, defines=defines)
    if groups > 1:
        sizes = np.int32(y.size), np.int32(groups)
        program.launch("add_groups", (-(-y.size // 256),), (256,), partial, y, *sizes, defines=defines)


def _laid_out(x, dtype):
    """x, its numbers side by side; and whether each matrix lies there transposed, as in a view that swapaxes has made."""
    x = x.astype(dtype, copy=False)
    turned = x.swapaxes(-1, -2)
    return (turned, True) if turned.flags.c_contiguous and not x.flags.c_contiguous else (cuda.contiguous(x), False)


def _merged(a_batches, b_batches):
    """The common batches as [(number, whether a has them, whether b has them)], with alike neighbours made one."""
    axes = max(len(a_batches), len(b_batches))
    a_batches, b_batches = ((1,) * (axes - len(batches)) + tuple(batches) for batches in (a_batches, b_batches))
    merged = []
    for a, b in zip(a_batches, b_batches):
        n, has = max(a, b), (int(a > 1), int(b > 1))
        if n > 1 and merged and merged[-1][1:] == has:
            merged[-1] = merged[-1][0] * n, *has
        elif n > 1:
            merged.append((n, *has))
    return merged


def _shape(a, b):
    """Of a b. ValueError where there is none."""
    rows, columns = (a.shape if a.ndim > 1 else (1, *a.shape)), (b.shape if b.ndim > 1 else (*b.shape, 1))
    if 0 in (a.ndim, b.ndim) or rows[-1] != columns[-2]:
        raise ValueError(f"matmul: a has shape {a.shape} and b {b.shape}: the axes that are summed over are not equally long")
    try:
        batches = np.broadcast_shapes(rows[:-2], columns[:-2])
    except ValueError:
        raise ValueError(f"matmul: the batches of a, {a.shape}, and b, {b.shape}, do not broadcast") from None
    return (*batches, *rows[-2:-1][: a.ndim > 1], *columns[-1:][: b.ndim > 1])
