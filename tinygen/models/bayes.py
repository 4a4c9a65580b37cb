r"""Generative classifiers: a density for each class, and Bayes' rule. They need no training steps, only counting.

    p(x, y) = p(y) p(x | y),    p(y | x) = p(x, y) / p(x),    p(x) = \sum_y p(x, y)

Naive Bayes has bits that are independent within a class, p(x | y) = \prod_i p(x_i | y). Gaussian discriminant analysis has
p(x | y) = N(x; mu_y, S_y). With one S for all classes, -x^T S^-1 x / 2 is the same in all of them, and

    p(y | x) = softmax_y(x^T S^-1 mu_y - mu_y^T S^-1 mu_y / 2 + log p(y)):

linear in x, as for naive Bayes. So these two choose among the same functions as logistic regression, but by how well they
explain x and y, and not only y given x (Ng & Jordan 2002; Hastie et al. 2009, sections 4.3 and 4.4).

x (N, D), in which what is missing is NaN, and is summed or integrated out exactly; labels (N,), integers from 0; nats.
"""

import numpy as np

from .. import ops
from ..autograd.tree import Array, module
from ..density import Exact
from ..distributions import LOG_2PI, Bernoulli, Categorical


class _Classifier:
    """What follows from log p(x, y) = `log_joint`, (N, classes)."""

    def log_prob(self, x):
        """log p(x), of what is seen of x. Exact, nats (N,)."""
        return Exact(ops.logsumexp(self.log_joint(x), axis=1))

    def posterior(self, x):
        """p(y | what is seen of x), a Categorical of N choices."""
        return Categorical(self.log_joint(x))

    def error(self, x, labels):
        """The share of examples whose likeliest class is not the label."""
        return float((self.log_joint(x).argmax(axis=1) != labels).mean())

    def _labels(self, rng, n, labels):
        return rng.categorical(np.exp(np.tile(self.log_prior, (n, 1)))) if labels is None else labels


@module
class NaiveBayes(_Classifier):
    """x_i | y ~ Bernoulli(logits[y, i]), independently."""

    log_prior: Array  # (classes,)
    logits: Array  # (classes, D)

    @staticmethod
    def fit(x, labels, smoothing=1.0):
        """p(x_i = 1 | y) = (ones + smoothing) / (n_y + 2 smoothing), p(y) = n_y / n. ValueError for an empty class."""
        one_hot, counts = _by_class("NaiveBayes.fit", x, labels)
        ones = one_hot.T @ x
        p = (ones + smoothing) / (counts[:, None] + 2 * smoothing)
        return NaiveBayes(np.log(counts / len(x)), np.log(p) - np.log1p(-p))

    def log_joint(self, x):
        """log p(y) + sum over the i that are seen of log p(x_i | y), (N, classes)."""
        seen = ~np.isnan(x)[:, None]
        each = Bernoulli(self.logits).log_prob(np.where(seen, x[:, None], 0))
        return self.log_prior + (each * seen).sum(axis=2)

    def sample(self, rng, n, labels=None):
        """n examples, (n, D), of the classes `labels` (n,), or of classes drawn from p(y)."""
        return Bernoulli(self.logits[self._labels(rng, n, labels)]).sample(rng)


@module
class GaussianDiscriminant(_Classifier):
    """x | y ~ N(mean[y], cov[y])."""

    log_prior: Array  # (classes,)
    mean: Array  # (classes, D)
    cov: Array  # (classes, D, D)

    @staticmethod
    def fit(x, labels, shared, shrinkage=0.1):
        """S_y = (1 - a) (the covariance within y, or if shared within all classes) + a v I, and p(y) = n_y / n.

        v is the mean variance of all x: a = shrinkage pulls towards a sphere of their size, without which a class of fewer than
        D + 1 examples would have no density (after Friedman 1989, eq. 18). ValueError for a class without examples.
        """
        one_hot, counts = _by_class("GaussianDiscriminant.fit", x, labels)
        mean = one_hot.T @ x / counts[:, None]
        inner = x - mean[labels]
        if shared:
            within = np.broadcast_to(inner.T @ inner / len(x), (len(counts), x.shape[1], x.shape[1]))
        else:
            within = np.stack([inner[labels == y].T @ inner[labels == y] / n for y, n in enumerate(counts)])
        sphere = x.var(axis=0).mean() * np.eye(x.shape[1])
        return GaussianDiscriminant(np.log(counts / len(x)), mean, (1 - shrinkage) * within + shrinkage * sphere)

    def log_joint(self, x):
        """log p(y) + log N(x; mean_y, cov_y), (N, classes); of the coordinates that are seen, whose density is Gaussian too."""
        joint = np.empty((len(x), len(self.mean)))
        patterns, which = np.unique(~np.isnan(x), axis=0, return_inverse=True)
        for i, seen in enumerate(patterns):
            rows = which.reshape(-1) == i
            joint[rows] = _log_normal(x[rows][:, seen], self.mean[:, seen], self.cov[:, seen][:, :, seen])
        return self.log_prior + joint

    def sample(self, rng, n, labels=None):
        """n examples, (n, D), of the classes `labels` (n,), or of classes drawn from p(y)."""
        labels = self._labels(rng, n, labels)
        eps = rng.normal((n, self.mean.shape[1], 1), np.float64)
        return self.mean[labels] + (np.linalg.cholesky(self.cov)[labels] @ eps)[:, :, 0]


def _log_normal(x, mean, cov):
    """log N(x_n; mean_k, cov_k), (N, K)."""
    root = np.linalg.cholesky(cov)
    standard = np.linalg.solve(root, (x[:, None] - mean).transpose(1, 2, 0))  # (K, D, N)
    log_det = 2 * np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)
    return -0.5 * ((standard**2).sum(axis=1).T + log_det + x.shape[1] * LOG_2PI)


def _by_class(operation, x, labels):
    """(one-hot labels (N, classes), examples of each class (classes,))."""
    if x.ndim != 2 or labels.shape != (len(x),):
        raise ValueError(f"{operation}: x {x.shape} and labels {labels.shape} must be (N, D) and (N,)")
    counts = np.bincount(labels)
    if not counts.all():
        raise ValueError(
            f"{operation}: there are no examples of class {counts.argmin()}; number the classes from 0, without gaps"
        )
    return np.eye(len(counts))[labels], counts
