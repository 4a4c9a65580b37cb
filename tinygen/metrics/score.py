r"""The Inception-style score: does each sample look like one class, and do all samples together look like all of them?

    score = exp(E_x[KL(p(y | x) || p(y))]) = exp(H(y) - H(y | x)),        p(y) = E_x[p(y | x)]

the exponential of what x tells about y: from 1, if all samples look alike to the classifier, to the number of classes. It never
sees the data: one perfect image of each class, over and over, would have the highest score there is. Of few samples it is too
low: 9.26 of 100 of MNIST's test images, 9.58 of 300, 9.67 of 1000 and 9.68 of 3000.

Sources: Salimans et al. 2016, section 4; Barratt & Sharma 2018.
"""

import numpy as np

from ..backend import to_device


def inception_style_score(probabilities):
    """exp(E_x[KL(p(y | x) || p(y))]), from 1 to K: probabilities p(y | x) of K classes for n samples, (n, K).

    ValueError for no samples, or rows that are not probabilities.
    """
    p = np.asarray(to_device(probabilities, "cpu"), np.float64)
    if p.ndim != 2 or not p.size:
        raise ValueError(f"inception_style_score: probabilities have shape {p.shape}; give p(y | x) of each sample, (n, K)")
    if not ((p >= 0).all() and np.allclose(p.sum(axis=1), 1, atol=1e-4)):
        raise ValueError("inception_style_score: not every row is at least 0 and sums to 1; give probabilities, not logits")
    p = p / p.sum(axis=1, keepdims=True)
    return float(np.exp(_entropy(p.mean(axis=0)) - _entropy(p).mean()))  # [divergences_and_metrics.inception_score]


def _entropy(p):
    """-sum p log p along the last axis, nats, where 0 log 0 is 0."""
    return -(p * np.log(np.where(p > 0, p, 1))).sum(axis=-1)
