"""Bernoulli log-likelihoods on the GPU: one pass over the logits; x, where samples share its pixels, is not repeated."""

import numpy as np

from .. import cuda
from ..elementwise import grid

program = cuda.Program(__file__, "bernoulli.cu")


def log_prob(x, logits):
    return _run("log_prob", x, logits)


def residual(x, logits):
    return _run("residual", x, logits)


def _run(kernel, x, logits):
    shape, xp = np.broadcast_shapes(x.shape, logits.shape), cuda.array_module()
    logits = cuda.contiguous(xp.broadcast_to(logits, shape))
    if shape[len(shape) - x.ndim :] != x.shape:
        x = xp.broadcast_to(x, shape)
    x, y = cuda.contiguous(x.astype(logits.dtype, copy=False)), cuda.empty(shape, logits.dtype)
    program.launch(kernel, *grid(y.size), x, logits, y, np.int32(y.size), np.int32(x.size), defines=cuda.real(y))
    return y
