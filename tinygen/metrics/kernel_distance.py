r"""The kernel distance: the squared distance of two distributions' mean embeddings (MMD^2), estimated without bias.

    MMD^2(p, q) = E[k(x, x')] + E[k(y, y')] - 2 E[k(x, y)]        x, x' ~ p and y, y' ~ q, all independent

With k(x, y) = (x y / d + 1)^3 on features of an Inception network it is called KID. That kernel compares all moments up to the
third. Means over pairs of different samples are right on average for every number of samples, unlike the Frechet distance; so
an estimate may be negative, and between samples of one distribution about half of them are.

Leaving out each example once tells how much chance there is in it (the jackknife): on average no less than there is (Efron &
Stein 1981), also where p = q. The intervals made of it are approximate, for an estimate that is too small comes with a standard
error that is too small. Those of level 0.9 held the truth in 0.87 to 0.97 of 60 draws of 300 or 1000 from MNIST's features, and
were half to nine tenths as wide as intervals from ten blocks; for 80 or 300 single numbers the share falls to 0.72 at worst.

Sources: Gretton et al. 2012, lemma 6; Binkowski et al. 2018, section 4.
"""

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from .points import blocks, points


class KernelDistance(NamedTuple):
    """An unbiased estimate of MMD^2, and its standard error: not known (nan) from fewer than 3 examples of either kind."""

    value: float
    standard_error: float

    def interval(self, level=0.95):
        """(low, high), which hold MMD^2 with about that probability, high at least 0. ValueError for levels outside (0, 1)."""
        if not 0 < level < 1:
            raise ValueError(f"KernelDistance.interval: level is {level}; it must be between 0 and 1, as 0.95")
        width = NormalDist().inv_cdf((1 + level) / 2) * self.standard_error
        return self.value - width, float(np.maximum(self.value + width, 0.0))  # NaN stays NaN

    def __str__(self):
        return f"{self.value:.4g} +- {self.standard_error:.2g}"


def kernel_distance(real, samples):
    """sum_{i != j} k(x_i, x_j) / (n (n - 1)) + sum_{i != j} k(y_i, y_j) / (m (m - 1)) - 2 sum_{i, j} k(x_i, y_j) / (n m).

    real (n, ...) and samples (m, ...), at least 2 of each, as a KernelDistance. ValueError for fewer, for NaN, other shapes.
    """
    x, y = points("kernel_distance", 2, real=real, samples=samples)
    (of_x, _), (of_y, _) = _sums(x), _sums(y)
    x_to_y, y_to_x = _sums(x, y)
    value = _estimate(of_x.sum(), of_y.sum(), x_to_y.sum(), len(x), len(y))  # [divergences_and_metrics.kid]
    without_x = _estimate(of_x.sum() - 2 * of_x, of_y.sum(), x_to_y.sum() - x_to_y, len(x) - 1, len(y))
    without_y = _estimate(of_x.sum(), of_y.sum() - 2 * of_y, x_to_y.sum() - y_to_x, len(x), len(y) - 1)
    variance = sum((len(left) - 1) * left.var() for left in (without_x, without_y))
    return KernelDistance(float(value), math.sqrt(variance))


def cubic_kernel(x, y):
    """k(x, y) = (x y / d + 1)^3 between the rows of x (n, d) and y (m, d): (n, m)."""
    inner = x @ y.T / x.shape[1] + 1
    return inner * inner * inner


def _estimate(within_x, within_y, across, n, m):
    if min(n, m) < 2:
        return np.full(np.broadcast_shapes(np.shape(within_x), np.shape(within_y)), np.nan)
    return within_x / (n * (n - 1)) + within_y / (m * (m - 1)) - 2 * across / (n * m)


def _sums(x, y=None):
    """What each x_i adds to the sum of k over all pairs, (n,), and each y_j, (m,). Without y: pairs of different x."""
    among = x if y is None else y
    rows_sum, columns_sum = np.empty(len(x)), np.zeros(len(among))
    for rows in blocks(len(x), len(among)):
        kernel = cubic_kernel(x[rows], among)
        if y is None:
            kernel[np.arange(len(kernel)), np.arange(rows.start, rows.stop)] = 0
        rows_sum[rows] = kernel.sum(axis=1)
        columns_sum += kernel.sum(axis=0)
    return rows_sum, columns_sum
