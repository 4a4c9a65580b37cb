"""Choices on the CPU: a row of logits is read once from memory, and lies in the nearest cache for all that is done with it.

The logits of the 256 grey levels of each pixel of 32 small images are 25 MB, and so is each array that NumPy would make on the
way to the probability of one level.
"""

import math

import numpy as np

from ..jit import jit
from ..softmax.cpu import exp_less_largest
from ..threads import over_rows
from ..vector_math import total


def log_prob(x, logits):
    if logits.dtype != np.float32 or not logits.size:
        return _chosen(x, logits) - _log_total(logits)[..., 0]
    y = np.empty(x.shape, np.float32)
    over_rows(_log_prob, *_rows(x, logits), y.reshape(-1))
    return y


def log_prob_gradient(g, x, logits):
    if logits.dtype != np.float32 or g.dtype != np.float32 or not logits.size:
        e = np.exp(logits - logits.max(axis=-1, keepdims=True))
        p = e / e.sum(axis=-1, keepdims=True)
        y = -g[..., None] * p
        np.put_along_axis(y, x[..., None], (g * (1 - _chosen(x, p)))[..., None], axis=-1)
        return y
    y = np.empty(logits.shape, np.float32)
    over_rows(
        _log_prob_gradient, np.require(g, np.float32, "CW").reshape(-1), *_rows(x, logits), y.reshape(-1, logits.shape[-1])
    )
    return y


def _chosen(x, y):
    return np.take_along_axis(y, x[..., None], axis=-1)[..., 0]


def _log_total(logits):
    most = logits.max(axis=-1, keepdims=True)
    return most + np.log(np.exp(logits - most).sum(axis=-1, keepdims=True))


def _rows(x, logits):
    return np.require(x, np.int64, "CW").reshape(-1), np.require(logits, np.float32, "CW").reshape(-1, logits.shape[-1])


@jit
def _log_prob(x, logits, y):
    e = np.empty(logits.shape[1], np.float32)
    for row in range(logits.shape[0]):
        l = logits[row]
        most = exp_less_largest(l, e)
        y[row] = l[x[row]] - most - np.float32(math.log(total(e)))


@jit
def _log_prob_gradient(g, x, logits, y):
    for row in range(logits.shape[0]):
        d = y[row]
        exp_less_largest(logits[row], d)
        inverse = np.float32(1) / total(d)
        chosen = g[row] * (np.float32(1) - d[x[row]] * inverse)
        scale = -g[row] * inverse
        for i in range(d.size):
            d[i] *= scale
        d[x[row]] = chosen
