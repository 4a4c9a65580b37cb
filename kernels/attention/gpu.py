r"""Attention on a GPU: a block of threads takes 64 queries, and meets their keys 64 at a time, in shared memory.

              keys 0..63    64..127    128..191
            +-----------+-----------+-----------+        Each tile of scores is made from q and k, turned into weights,
    queries |  block 0  |  hidden   |  hidden   |        multiplied with v, and forgotten. If causal, tiles that nobody
      0..63 |    here   |           |           |        sees are skipped: nearly half of them.
            +-----------+-----------+-----------+
    queries |  block 1  |  block 1  |  hidden   |        The softmax over a row needs its largest score, which is known
     64..   |   first   |  then here|           |        only at the end; attention.cu says how it does without.
            +-----------+-----------+-----------+

So the scores, T x S numbers for each head, are never written to memory: what is read and written is q, k, v and o. The backward
pass makes them again from q, k and l, once for each of its three gradients (Dao et al. 2022, algorithm 4, less the atomics).

Floor: 2 T S (D + E) flops for each head forwards; backwards 2 T S (3 D + 2 E), and in this way 2 T S (5 D + 3 E), for scores
that are made again; half of it if causal; each array read or written once. Shapes and equations are in spec.py.
"""

import math

import numpy as np

from .. import cuda

WIDTHS = (16, 32, 64)  # of the sums that a block keeps: the narrowest that holds a value, or slices of the widest
ROWS = 64  # of a tile, in tile.cuh
THREADS = 64  # of a block

program = cuda.Program(__file__, "attention.cu", WIDTH=WIDTHS)


def forward(q, k, v, causal, key_mask):
    q, k, v, key_mask = _ready(q, k, v, key_mask)
    o, l = cuda.empty((*q.shape[:3], v.shape[3]), q.dtype), cuda.empty(q.shape[:3], q.dtype)
    _launch("forward", q.shape[2], v.shape[3], q, k, v, causal, q, k, v, key_mask, o, l)
    return o, l


def backward(q, k, v, o, l, g, h, causal, key_mask):
    q, k, v, key_mask = _ready(q, k, v, key_mask)
    o, l, g, h = map(cuda.contiguous, (o, l, g, h))
    dq, dk, dv, r = (cuda.empty(x.shape, x.dtype) for x in (q, k, v, l))
    E = v.shape[3]
    sizes = np.int32(r.size), np.int32(E)
    program.launch("row_statistics", (-(-r.size // 2),), (THREADS,), o, g, h, r, *sizes, defines=_defines(q, E))
    for name, d in (("query_gradient", dq), ("key_gradient", dk), ("value_gradient", dv)):
        _launch(name, d.shape[2], d.shape[3], q, k, v, causal, q, k, v, g, l, r, key_mask, d)
    return dq, dk, dv


def _launch(kernel, rows, width, q, k, v, causal, *arrays):
    """Blocks for so many rows and sums so wide, of each head."""
    (N, heads, T, D), (S, E) = q.shape, v.shape[2:]
    defines = _defines(q, width)
    slices = max(-(-width // defines["WIDTH"]), kernel == "forward")  # of values without channels there is still l
    grid = N * heads, -(-rows // ROWS), slices
    sizes = np.array([heads, T, S, D, E, bool(causal)], np.int32)
    program.launch(kernel, grid, (THREADS,), *arrays, *sizes, q.dtype.type(1 / math.sqrt(D)), defines=defines)


def _ready(q, k, v, key_mask):
    """The arrays as a kernel reads them. ValueError for D = 0, and where it could not count numbers, of o too, in 32 bits."""
    if not q.shape[3]:
        raise ValueError(f"attention: q has shape {q.shape}: without channels there are no scores, <q, k> / sqrt(0)")
    for shape in (q.shape, k.shape, v.shape, (*q.shape[:3], v.shape[3])):
        if math.prod(shape) >= 2**31:
            raise ValueError(f"attention: an array of shape {shape} has 2^31 numbers or more; take fewer examples at once")
    return (*map(cuda.contiguous, (q, k, v)), None if key_mask is None else cuda.contiguous(key_mask))


def _defines(q, width):
    return cuda.real(q) | {"WIDTH": next((w for w in WIDTHS if width <= w), WIDTHS[-1])}
