"""What stands in the chains where a program would draw and average: given numbers, quadratures, sums over tables."""

from itertools import product

import numpy as np

from .. import ops


def gauss_hermite(n=3):
    """Nodes (n,) and weights (n,): the mean over N(0, 1) of a polynomial of degree 2 n - 1 or less, as a sum."""
    z, w = np.polynomial.hermite_e.hermegauss(n)
    return z, w / w.sum()


def normal_nodes(d, n=3):
    """Points (n^d, d) and weights (n^d,): the same for N(0, I), with that degree in each dimension."""
    z, w = gauss_hermite(n)
    return np.array(list(product(z, repeat=d))), np.array(list(product(w, repeat=d))).prod(axis=1)


class Given:
    """In place of a random generator: its normal numbers, which may be differentiated, and its uniform ones."""

    def __init__(self, noise, part=0.0):
        self.noise, self.part = noise, part

    def normal(self, shape, dtype=None):
        return ops.broadcast_to(self.noise, shape=shape)

    def uniform(self, shape, dtype=None):
        return np.broadcast_to(self.part, shape)


def kl(p, q):
    """sum p log p/q of two tables, where 0 log 0 is 0."""
    some = p > 0
    return np.sum(p[some] * np.log(p[some] / q[some]))


def entropy(p):
    """-sum p log p of a table, where 0 log 0 is 0."""
    some = p > 0
    return -np.sum(p[some] * np.log(p[some]))


def null_vector(A):
    """The x with A x = 0 and sum 1."""
    bordered = np.concatenate([A, np.ones((1, len(A)))])
    return np.linalg.lstsq(bordered, np.append(np.zeros(len(A)), 1.0), rcond=None)[0]
