r"""Quality and diversity by nearest neighbours: which samples lie among the data, and which data among the samples?

B(x_i) is the ball around x_i that reaches to its k-th nearest neighbour within its own set. With n images x and m samples y:

    precision = share of samples y in some B(x_i)                      quality      Kynkaanniemi et al. 2019, section 2
    recall    = share of images x in some B(y_j)                       diversity
    density   = (number of pairs with y_j in B(x_i)) / (k m)           quality      Naeem et al. 2020, section 3
    coverage  = share of images x with some y_j in B(x_i)              diversity

Balls around outliers are large, and let samples pass that are like nothing else: that inflates precision and recall, so density
counts how many balls a sample lies in, and coverage asks the images' own balls. Between sets of one distribution, density is 1
and coverage 1 - (n - 1) ... (n - k) / ((n + m - 1) ... (n + m - k)) on average, whatever the distribution, if no two distances
are equal; precision and recall have no such value: measure them with `floor`. In all of them a ball holds its boundary.

    told apart = how often the nearest neighbour of an example, image or sample, is of its own kind    Lopez-Paz & Oquab 2017
"""

from typing import NamedTuple

import numpy as np

from .points import ROUNDING, points, squared_distances


class Nearest(NamedTuple):
    """Of each example, the distance to its nearest neighbour, and which one that is: (n,) each."""

    distance: np.ndarray
    index: np.ndarray


class PrecisionRecall(NamedTuple):
    """The share of samples among the data, and the share of data among the samples: both from 0 to 1."""

    precision: float
    recall: float


class DensityCoverage(NamedTuple):
    """How dense the data are where the samples lie, at least 0 and about 1 at best; the share of data covered, from 0 to 1."""

    density: float
    coverage: float


def precision_recall(real, samples, k=3):
    """The share of samples in a ball of some image, and of images in a ball of some sample: a PrecisionRecall.

    real (n, ...), samples (m, ...), more than k of each. ValueError for fewer, for NaN, or for other shapes.
    """
    x, y = _sets("precision_recall", k, real=real, samples=samples)
    return PrecisionRecall(*(float((_balls(*sets, k)[1] > 0).mean()) for sets in ((x, y), (y, x))))


def density_coverage(real, samples, k=5):
    """The mean number of images' balls that a sample lies in, divided by k, and the share of balls with a sample.

    real (n, ...), samples (m, ...), more than k of each, as a DensityCoverage. Errors as above.
    """
    x, y = _sets("density_coverage", k, real=real, samples=samples)
    inhabitants, balls = _balls(x, y, k)
    return DensityCoverage(float(balls.mean()) / k, float((inhabitants > 0).mean()))


def told_apart(real, samples):
    """How often the nearest neighbour of an example, itself left out, is of its own kind; as near ones of both count half.

    From 0 to 1: for n of each from one distribution it is (n - 1) / (2 n - 1) on average, since there is one more of the other
    kind. Samples all alike are told apart as surely as bad ones; exact copies of all images give 0.

    real and samples (n, ...), as many of each, at least 2. ValueError for others.
    """
    x, y = _sets("told_apart", 1, real=real, samples=samples)
    if len(x) != len(y):
        raise ValueError(f"told_apart: {len(x)} real and {len(y)} samples; give as many of each, or guessing has an advantage")
    right = []
    for own, other in ((x, y), (y, x)):
        to_own, to_other = _nearest(own, own, itself=False).distance, _nearest(own, other).distance
        right.append(np.where(np.isclose(to_own, to_other, rtol=1e-9, atol=0), 0.5, to_own < to_other))
    return float(np.mean(right))


def nearest(x, among):
    """The nearest neighbour of each x in another set, and the distance |x - neighbour|: 0 for a copy.

    x (n, ...) and among (m, ...), at least 1 of each, as a Nearest. ValueError for fewer, for NaN, or for other shapes.
    """
    return _nearest(*points("nearest", x=x, among=among))


def _sets(where, k, **sets):
    """As float64 (n, d), moved so that the first one's mean is 0: far from it, rounding would be larger."""
    if k < 1:
        raise ValueError(f"{where}: k is {k}; a ball reaches to the k-th nearest neighbour, so give at least 1")
    for name, x in sets.items():
        if len(x) <= k:
            raise ValueError(
                f"{where}: k = {k}, but {name} has {len(x)} examples, each with {max(0, len(x) - 1)} others; draw more, or "
                "give a smaller k"
            )
    sets = points(where, **sets)
    centre = sets[0].mean(axis=0)
    return [x - centre for x in sets]


def _balls(x, y, k):
    """How many y lie in the ball of each x, (n,), and in how many balls each y lies, (m,)."""
    radii, inhabitants, balls = _squared_radii(x, k), np.empty(len(x), int), np.zeros(len(y), int)
    for rows, squares in squared_distances(x, y, slack=ROUNDING):
        inside = squares <= radii[rows, None]
        inhabitants[rows] = inside.sum(axis=1)
        balls += inside.sum(axis=0)
    return inhabitants, balls


def _squared_radii(x, k):
    """From each x to its k-th nearest neighbour among the others, (n,)."""
    radii = np.empty(len(x))
    for rows, squares in squared_distances(x, x):
        _leave_out_itself(rows, squares)
        radii[rows] = np.partition(squares, k - 1, axis=1)[:, k - 1]
    return radii


def _nearest(x, among, itself=True):
    index = np.empty(len(x), int)
    for rows, squares in squared_distances(x, among):
        if not itself:
            _leave_out_itself(rows, squares)
        index[rows] = squares.argmin(axis=1)
    return Nearest(np.sqrt(((x - among[index]) ** 2).sum(axis=1)), index)  # of differences: exactly 0 for a copy


def _leave_out_itself(rows, squares):
    squares[np.arange(len(squares)), np.arange(rows.start, rows.stop)] = np.inf
