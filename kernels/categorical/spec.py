r"""Choices x among n things with logits l: p(x = i) = softmax(l)_i = e^{l_i} / \sum_j e^{l_j}.

    log_prob             log p(x | l) = l_x - log \sum_j e^{l_j}
    log_prob_gradient    g d log p / d l_i = g ([i = x] - softmax(l)_i)

x is an integer array, l has its shape and a last axis of n, g has the shape of x. The results have the shape of x and that of
l, and the dtype of l. Logits of -inf have probability 0; where one is NaN or inf, or all are -inf, the results are NaN.
"""

import numpy as np


def log_prob(x, logits):
    """l_x - log sum_j e^l_j for each row l of logits, in nats."""
    y = np.empty(x.shape, logits.dtype)
    for row in np.ndindex(x.shape):
        l = logits[row]
        y[row] = l[x[row]] - l.max() - np.log(np.exp(l - l.max()).sum())  # no e^(l - max l) overflows
    return y


def log_prob_gradient(g, x, logits):
    """g ([i = x] - softmax(l)_i) for each row l of logits."""
    y = np.empty(logits.shape, logits.dtype)
    for row in np.ndindex(x.shape):
        e = np.exp(logits[row] - logits[row].max())
        for i in range(len(e)):
            y[row][i] = g[row] * ((i == x[row]) - e[i] / e.sum())
    return y
