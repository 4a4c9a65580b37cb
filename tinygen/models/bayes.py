r"""Generative classifiers: a density for each class, and Bayes' rule. They need no training steps, only counting.

    joint          p(x, y) = p(y) p(x | y),   p(x) = \sum_y p(x, y)
    posterior      p(y | x) = p(x, y) / p(x)                                                        Bayes' rule
    counts         p(y) = n_y / n,   p(x_i = 1 | y) = (n_yi + a) / (n_y + 2 a) for bits             Laplace's rule, for a = 1
    naive Bayes    p(x | y) = \prod_i p(x_i | y), bits that are independent within a class
    discriminant   p(x | y) = N(x; mu_y, S_y)                                                       Hastie et al. 2009, eq. 4.8
    linear         S_y = S:  p(y | x) = softmax_y(x^T S^-1 mu_y - mu_y^T S^-1 mu_y / 2 + log p(y))  eq. 4.10
    gaps           p(x_seen, y) = \int p(x, y) dx_missing, or for bits a sum

With one S for all classes -x^T S^-1 x / 2 is the same in all of them, and what is left is linear in x, as for naive Bayes. So
these two choose among the same functions as logistic regression, but by how well they explain x and y, and not only y given x
(Ng & Jordan 2002; Hastie et al. 2009, section 4.4.5).

x (N, D), NaN where something is missing; labels (N,), integers from 0: n_y of them are y, and n_yi of these have x_i = 1. Nats.
"""

import numpy as np

from .. import ops
from ..autograd.tree import Array, module
from ..density import Exact
from ..distributions import LOG_2PI, Bernoulli, Categorical
from ..nn.doors import require_array, require_labels


class _Classifier:
    """What follows from log p(x, y) = `log_joint`, (N, classes)."""

    def log_prob(self, x):
        """log p(x), of what is seen of x. Exact, nats (N,)."""
        return Exact(ops.logsumexp(self.log_joint(x), axis=1))  # joint: [classifiers.two_parts]

    def posterior(self, x):
        """p(y | what is seen of x), a Categorical of N choices."""
        return Categorical(self.log_joint(x))  # posterior: [classifiers.bayes_rule]

    def error(self, x, labels):
        """The share of examples whose likeliest class is not the label. ValueError unless there is a label for each."""
        require_array(f"{type(self).__name__}.error", x=x, labels=labels)
        if labels.shape != (len(x),):
            raise ValueError(
                f"{type(self).__name__}.error: labels {labels.shape} for {len(x)} examples; give one for each, (N,)"
            )
        return float((self.log_joint(x).argmax(axis=1) != labels).mean())

    def _seen(self, x, D):
        """Which numbers of x are not missing, booleans (N, D)."""
        require_array(type(self).__name__, x=x)
        if x.ndim != 2 or x.shape[1] != D:
            raise ValueError(f"{type(self).__name__}: x has shape {x.shape}, but this model is of vectors, (N, {D})")
        return ~np.isnan(x)

    def _labels(self, rng, n, labels):
        if labels is None:
            return rng.categorical(np.exp(np.tile(self.log_prior, (n, 1))))
        require_labels(f"{type(self).__name__}.sample", labels, n, len(self.log_prior))
        return labels


@module
class NaiveBayes(_Classifier):
    """x_i | y ~ Bernoulli(logits[y, i]), independently."""

    log_prior: Array  # (classes,)
    logits: Array  # (classes, D)

    @staticmethod
    def fit(x, labels, smoothing=1.0):
        """p(x_i = 1 | y) = (ones + smoothing) / (n_y + 2 smoothing), p(y) = n_y / n.

        x (n, D), bits or probabilities of 1; smoothing > 0, without which a bit that was never seen would be impossible.
        ValueError for other x, and for a class without examples.
        """
        one_hot, counts = _by_class("NaiveBayes.fit", x, labels)
        _require_bits("NaiveBayes.fit", x)
        if not 0 < smoothing < np.inf:
            raise ValueError(f"NaiveBayes.fit: smoothing is {smoothing}; it must be positive, such as 1 (Laplace's rule)")
        ones = one_hot.T @ x
        p = (ones + smoothing) / (counts[:, None] + 2 * smoothing)  # counts: [classifiers.laplace]
        return NaiveBayes(np.log(counts / len(x)), np.log(p) - np.log1p(-p))

    def log_joint(self, x):
        """log p(y) + sum over the i that are seen of log p(x_i | y), (N, classes). ValueError for x outside [0, 1].

        Linear in x, log p(x_i | y) = x_i l - log(1 + e^l), so that it is two products of matrices.
        """
        seen = self._seen(x, self.logits.shape[1])
        bits = np.where(seen, x, 0)
        _require_bits("NaiveBayes", bits)
        silent = ops.softplus(self.logits)  # -log p(x_i = 0 | y)
        # naive Bayes: [classifiers.naive_bayes], [classifiers.gaps_of_bits]
        return self.log_prior + bits @ ops.swapaxes(self.logits, 0, 1) - seen.astype(float) @ ops.swapaxes(silent, 0, 1)

    def sample(self, rng, n, labels=None):
        """n examples, (n, D), of the classes `labels` (n,), or of classes drawn from p(y). ValueError for other labels."""
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
        D + 1 examples would have no density (after Friedman 1989, eq. 18). x (n, D). ValueError for a class without examples,
        for a outside [0, 1], and where S_y is singular all the same.
        """
        one_hot, counts = _by_class("GaussianDiscriminant.fit", x, labels)
        if not 0 <= shrinkage <= 1:
            raise ValueError(f"GaussianDiscriminant.fit: shrinkage is {shrinkage}; it is the sphere's share, in [0, 1]")
        mean = one_hot.T @ x / counts[:, None]
        inner = x - mean[labels]
        if shared:
            cov = inner.T @ inner / len(x)
            within = np.broadcast_to(cov, (len(counts), *cov.shape))  # linear: [classifiers.one_covariance]
        else:
            within = np.stack([inner[labels == y].T @ inner[labels == y] / n for y, n in enumerate(counts)])
        sphere = x.var(axis=0).mean() * np.eye(x.shape[1])
        cov = (1 - shrinkage) * within + shrinkage * sphere  # [classifiers.shrinkage]
        try:
            np.linalg.cholesky(cov)
        except np.linalg.LinAlgError:
            raise ValueError(
                f"GaussianDiscriminant.fit: with shrinkage {shrinkage} a covariance is singular, and there is no density; give "
                f"a larger shrinkage, or examples that vary in all {x.shape[1]} directions"
            ) from None
        return GaussianDiscriminant(np.log(counts / len(x)), mean, cov)

    def log_joint(self, x):
        """log p(y) + log N(x; mean_y, cov_y), (N, classes); of the coordinates that are seen, whose density is Gaussian too."""
        joint = np.empty((len(x), len(self.mean)))
        patterns, which = np.unique(self._seen(x, self.mean.shape[1]), axis=0, return_inverse=True)
        for i, seen in enumerate(patterns):
            rows = which.reshape(-1) == i
            # gaps: [classifiers.gaps_of_numbers]
            joint[rows] = _log_normal(x[rows][:, seen], self.mean[:, seen], self.cov[:, seen][:, :, seen])
        return self.log_prior + joint  # discriminant: [classifiers.quadratic]

    def sample(self, rng, n, labels=None):
        """n examples, (n, D), of the classes `labels` (n,), or of classes drawn from p(y). ValueError for other labels."""
        labels = self._labels(rng, n, labels)
        eps = rng.normal((n, self.mean.shape[1], 1), np.float64)
        return self.mean[labels] + (np.linalg.cholesky(self.cov)[labels] @ eps)[:, :, 0]


def _log_normal(x, mean, cov):
    """log N(x_n; mean_k, cov_k), (N, K)."""
    root = np.linalg.cholesky(cov)
    standard = np.linalg.solve(root, (x[:, None] - mean).transpose(1, 2, 0))  # (K, D, N)
    log_det = 2 * np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)
    return -0.5 * ((standard**2).sum(axis=1).T + log_det + x.shape[1] * LOG_2PI)


def _require_bits(operation, x):
    if x.min(initial=0) < 0 or x.max(initial=0) > 1:
        raise ValueError(f"{operation}: x lies in [{x.min():g}, {x.max():g}], but bits are 0 or 1; binarise it")


def _by_class(operation, x, labels):
    """(one-hot labels (N, classes), examples of each class (classes,))."""
    require_array(operation, x=x, labels=labels)
    if x.ndim != 2 or labels.shape != (len(x),) or not len(x):
        raise ValueError(
            f"{operation}: x {x.shape} and labels {labels.shape} must be (N, D) and (N,), with an example at least"
        )
    if labels.dtype.kind not in "iu" or labels.min() < 0:
        raise ValueError(f"{operation}: labels must be integers from 0, not {labels.dtype} from {labels.min()}")
    if np.isnan(x).any():
        raise ValueError(f"{operation}: x holds NaN; a fitted model can judge x with gaps, but it is fitted to whole examples")
    counts = np.bincount(labels)
    if not counts.all():
        raise ValueError(
            f"{operation}: there are no examples of class {counts.argmin()}; number the classes from 0, without gaps"
        )
    return np.eye(len(counts))[labels], counts
