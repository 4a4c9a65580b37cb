"""Bernoulli log-likelihoods on the CPU: one pass over the logits, where NumPy would make one for each of six operations.

The logits of 50 samples for each of 100 images are 16 MB: every pass that is saved is 16 MB that need not be written and
read. x is usually smaller, as all samples of an image share its pixels; then its rows are used again, not repeated in memory.
"""

import numpy as np

from ..jit import jit
from ..threads import over_rows
from ..vector_math import exp_of_negative, log1p


def log_prob(x, logits):
    if logits.dtype != np.float32:
        return x * logits - (np.maximum(logits, 0) + np.log1p(np.exp(-np.abs(logits))))
    return _run(_log_prob_rows, x, logits)


def residual(x, logits):
    if logits.dtype != np.float32:
        e = np.exp(-np.abs(logits))
        return x - np.where(logits >= 0, 1, e) / (1 + e)
    return _run(_residual_rows, x, logits)


def _run(kernel, x, logits):
    """Call kernel(x, l, y) with x (m,) and l, y (rows, m), where x's own shape is the end of the logits' shape."""
    x = np.asarray(x, np.float32)
    shape = np.broadcast_shapes(x.shape, logits.shape)
    if shape != logits.shape or shape[len(shape) - x.ndim :] != x.shape:
        x, logits = np.broadcast_to(x, shape), np.broadcast_to(logits, shape)
    y = np.empty(shape, np.float32)
    if y.size:
        x = np.ascontiguousarray(x).reshape(-1)
        over_rows(lambda l, y: kernel(x, l, y), np.ascontiguousarray(logits).reshape(-1, x.size), y.reshape(-1, x.size))
    return y


@jit
def _log_prob_rows(x, logits, y):
    for row in range(logits.shape[0]):
        for i in range(logits.shape[1]):
            l = logits[row, i]
            y[row, i] = x[i] * l - (max(l, np.float32(0)) + log1p(exp_of_negative(-abs(l))))


@jit
def _residual_rows(x, logits, y):
    one = np.float32(1)
    for row in range(logits.shape[0]):
        for i in range(logits.shape[1]):
            e = exp_of_negative(-abs(logits[row, i]))
            y[row, i] = x[i] - (one if logits[row, i] >= 0 else e) / (one + e)
