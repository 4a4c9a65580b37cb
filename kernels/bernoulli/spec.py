r"""Bernoulli variables x with logits l: p(x = 1) = sigmoid(l).

    log_prob    log p(x | l) = x l - softplus(l),  softplus(l) = log(1 + e^l) = max(l, 0) + log(1 + e^-|l|)
    residual    d log p / d l = x - sigmoid(l),     sigmoid(l) = 1 / (1 + e^-l)

x and l broadcast against one another; the results have the broadcast shape, and the dtype of the logits.
"""

import math

import numpy as np


def log_prob(x, logits):
    """x l - softplus(l), elementwise, in nats."""
    x, l = np.broadcast_arrays(x, logits)
    y = np.empty(l.shape, l.dtype)
    for i in np.ndindex(l.shape):
        y[i] = x[i] * l[i] - (max(l[i], 0) + math.log1p(math.exp(-abs(l[i]))))
    return y


def residual(x, logits):
    """x - sigmoid(l), elementwise."""
    x, l = np.broadcast_arrays(x, logits)
    y = np.empty(l.shape, l.dtype)
    for i in np.ndindex(l.shape):
        e = math.exp(-abs(l[i]))  # in (0, 1]: it cannot overflow
        y[i] = x[i] - (1 if l[i] >= 0 else e) / (1 + e)
    return y
