"""Choices on the GPU: a warp for each row of logits, and no array of probabilities."""

import numpy as np

from .. import cuda

program = cuda.Program(__file__, "categorical.cu")
ROWS = 4  # to a block: a warp each


def log_prob(x, logits):
    y = cuda.empty(x.shape, logits.dtype)
    _launch("log_prob", x, logits, y)
    return y


def log_prob_gradient(g, x, logits):
    d = cuda.empty(logits.shape, logits.dtype)
    _launch("log_prob_gradient", x, logits, d, cuda.contiguous(g.astype(logits.dtype, copy=False)))
    return d


def _launch(kernel, x, logits, result, *first):
    chosen = cuda.contiguous(x.astype(np.int64, copy=False))
    arrays = *first, chosen, cuda.contiguous(logits), result
    sizes = np.int32(x.size), np.int32(logits.shape[-1])
    program.launch(kernel, (-(-x.size // ROWS),), (32 * ROWS,), *arrays, *sizes, defines=cuda.real(logits))
